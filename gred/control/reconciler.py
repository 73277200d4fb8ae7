"""Keeps tunnels that are up in step with the kernel: states, standings, path MTUs, MTUs.

    settle: survey all tunnels -> states and MTUs -> hand new devices to the data plane

Makes no interface and deletes none (lifecycle.py); when to look is decided elsewhere (daemon.py).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from gred.control.errors import SetupError
from gred.control.lifecycle import AT_ONCE, Lifecycle, look, with_device
from gred.control.parts import Event, Kernel, Listener
from gred.control.survey import Observation, Standing
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel
from gred.control.twins import claim, later_ones

DELETED = "deleted by somebody else"


class Reconciler:
    """Used on *loop*, by one caller at a time. *again* is called when it is time to look again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        kernel: Kernel,
        lifecycle: Lifecycle,
        listener: Listener,
        again: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._kernel = kernel
        self._lifecycle = lifecycle
        self._listener = listener
        self._again = again
        self._look_again: asyncio.TimerHandle | None = None
        self.broken: dict[str, str] = {}
        """Tunnels whose device can be read no more, and why."""

    async def settle(self) -> None:
        """Bring every tunnel into the state that its surroundings call for. Raises SetupError."""
        seen = await look(self._kernel, self._tunnels.values(), interfaces=True)
        for tunnel, device in with_device(self._tunnels.values()):
            broken = self.broken.pop(tunnel.name, None)
            if broken is not None or not seen[tunnel.name].alive:
                self._lifecycle.lose(tunnel, device, broken or DELETED)
        self._follow_standings(seen)
        self._follow_paths(seen)
        await self._follow_mtus(seen)
        for number, (tunnel, device) in enumerate(with_device(self._tunnels.values()), 1):
            if tunnel.port is None:
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)  # a thousand new ones take a second
                self._lifecycle.attach(tunnel, device)
            # Nothing is awaited since the tunnel was attached: a loop is stopped before the first
            # packet enters it.
            for event in tunnel.observe(seen[tunnel.name]):
                self._listener(event)

    def close(self) -> None:
        """Look no more. Harmless twice."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _follow_standings(self, seen: Mapping[str, Observation]) -> None:
        """Let outer packets leave from where addresses and devices are now, one tunnel each."""
        tunnels = [tunnel for tunnel, _device in with_device(self._tunnels.values())]
        before = {tunnel.name: (tunnel.standing, tunnel.packet_socket) for tunnel in tunnels}
        moved = {tunnel.name for tunnel in tunnels if tunnel.move(seen[tunnel.name].standing)}
        moved |= {tunnel.name for tunnel, why in _twins(tunnels, seen) if tunnel.hold(why)}
        # Those that are held first: their place must be free for another.
        for tunnel in sorted(
            (tunnel for tunnel in tunnels if tunnel.name in moved), key=lambda one: not one.held
        ):
            if tunnel.port is not None:
                tunnel.port.update(tunnel.parameters())
                self._tell_standing(tunnel, *before[tunnel.name])

    def _tell_standing(self, tunnel: Tunnel, before: Standing, used: str) -> None:
        if tunnel.standing.local != before.local:
            fields = {"local": str(tunnel.standing.local), "before": str(before.local)}
            self._tell("local_changed", tunnel=tunnel.name, **fields)
        if tunnel.packet_socket != used:
            fields = {"packet_socket": tunnel.packet_socket, "before": used}
            self._tell("packet_socket_changed", tunnel=tunnel.name, **fields)

    def _follow_paths(self, seen: Mapping[str, Observation]) -> None:
        """Follow what the paths carry; look again when the kernel may have forgotten it."""
        now = self._loop.time()
        due = []
        for tunnel, _device in with_device(self._tunnels.values()):
            events = tunnel.follow_path(seen[tunnel.name], now)
            if events and tunnel.port is not None:
                tunnel.port.update(tunnel.parameters())
            for event in events:
                self._listener(event)
            if (seconds := tunnel.path.due(now)) is not None:
                due.append(seconds)
        self.close()
        if due:
            self._look_again = self._loop.call_later(min(due), self._again)

    async def _follow_mtus(self, seen: Mapping[str, Observation]) -> None:
        wanted: dict[str | None, dict[int, int]] = {}
        for tunnel, device in with_device(self._tunnels.values()):
            mtu = tunnel.wanted_mtu(seen[tunnel.name])
            if mtu == tunnel.mtu or not seen[tunnel.name].here:
                continue
            wanted.setdefault(device.namespace, {})[device.index] = mtu
            self._tell("mtu_changed", tunnel=tunnel.name, mtu=mtu, before=tunnel.mtu)
            tunnel.mtu = mtu
            if tunnel.port is not None:
                tunnel.port.update(tunnel.parameters())
        for namespace, mtus in wanted.items():
            order = partial(self._kernel.set_mtus, mtus, namespace)
            try:
                await in_thread(order)
            except SetupError as error:
                self._tell("mtu_refused", "warning", detail=str(error))

    def _tell(
        self, name: str, level: str = "info", *, tunnel: str | None = None, **fields: object
    ) -> None:
        self._listener(Event(name, level, tunnel, fields))


def _twins(
    tunnels: Sequence[Tunnel], seen: Mapping[str, Observation]
) -> Iterator[tuple[Tunnel, str]]:
    """Yield each tunnel and why it must be held down, if it must.

    One that lost its address keeps it until there is another, but has no right to it.
    """
    ordered = sorted(tunnels, key=lambda one: bool(seen[one.name].standing.no_local))
    claims = [
        (tunnel.name, claim(tunnel.config, tunnel.standing.local))
        for tunnel in ordered
        if tunnel.standing.local is not None or not tunnel.standing.no_local
    ]
    taken, wanted = later_ones(claims), dict(claims)
    for tunnel in tunnels:
        why = ""
        if (holder := taken.get(tunnel.name)) is not None:
            why = (
                f"[Tunnel {holder}] takes the same packets ({wanted[tunnel.name]}):"
                " give one of them another Local=, Remote= or Key="
            )
        yield tunnel, why
