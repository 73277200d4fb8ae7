"""Packets that the host lost at the tunnels' interfaces, before gred could read them.

The kernel counts them as the interface's own (TX dropped of ``ip -s link``); here they are read
once in a while and told. Nothing here counts what gred itself drops.
"""

import asyncio
from collections.abc import Callable, Mapping

from gred.control.events import InterfaceDrops, Listener
from gred.control.kernel.parts import Kernel
from gred.control.tunnel import Tunnel

EVERY = 10.0  # seconds between looks


class QueueDrops:
    """Calls *listener* when an interface of *tunnels* has dropped packets since the last look.

    Looks from a thread: the kernel is asked for all interfaces of a namespace at once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        kernel: Kernel,
        listener: Listener,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._kernel = kernel
        self._listener = listener
        self.told: dict[str, tuple[int, int]] = {}
        """Name -> index of its interface, and what was told."""
        self._timer: asyncio.TimerHandle | None = None
        self._look: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._timer = self._loop.call_later(EVERY, self._begin)

    async def stop(self) -> None:
        """Look once more, and never again. Harmless where it was not started."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        if self._look is not None:
            await asyncio.wait([self._look])
        await self._look_once()

    def _begin(self) -> None:
        if self._look is None or self._look.done():
            self._look = self._loop.create_task(self._look_once())
        self._timer = self._loop.call_later(EVERY, self._begin)

    async def _look_once(self) -> None:
        devices = {
            name: (device.namespace, device.index)
            for name, tunnel in self._tunnels.items()
            if (device := tunnel.device) is not None
        }
        found: dict[str | None, Mapping[int, int]] = {}
        for namespace in dict.fromkeys(namespace for namespace, _index in devices.values()):
            ask: Callable[[str | None], Mapping[int, int]] = self._kernel.transmit_drops
            try:
                found[namespace] = await self._loop.run_in_executor(None, ask, namespace)
            except OSError:
                found[namespace] = {}  # the namespace is gone, or the kernel does not tell
        for name, (namespace, index) in devices.items():
            drops = found[namespace].get(index)
            if drops is not None:
                self._compare(name, index, drops)

    def _compare(self, name: str, index: int, drops: int) -> None:
        before, told = self.told.get(name, (index, 0))
        if before != index:
            told = 0  # another interface of that name
        self.told[name] = index, drops
        if drops > told:
            self._listener(InterfaceDrops(tunnel=name, tx_dropped=drops - told))
