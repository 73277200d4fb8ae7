"""Keeps tunnels that are up in step with the kernel: bindings, path MTUs, interfaces, states.

    settle: survey all tunnels -> what changed: MTUs, interfaces, new devices to the data plane,
            states

Only tunnels whose surroundings have changed are touched, in slices: packets come first. Makes no
interface and deletes none (lifecycle.py); when to look is decided elsewhere (daemon.py).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial

from gred.config.model import IPAddress, TunnelConfig
from gred.control.errors import SetupError, socket_refused
from gred.control.events import (
    Listener,
    LocalChanged,
    MtuChanged,
    PacketSocketChanged,
    ProtectionChanged,
)
from gred.control.keepalives import Keepalives
from gred.control.keeper import Keeper
from gred.control.kernel.parts import Kernel
from gred.control.lifecycle import Failures, Lifecycle, look_inside, with_device
from gred.control.neighbours import Neighbours
from gred.control.shielding import Shielding
from gred.control.slices import in_slices
from gred.control.survey import Binding, Observation
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
        neighbours: Neighbours,
        keepalives: Keepalives,
        shielding: Shielding,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._kernel = kernel
        self._lifecycle = lifecycle
        self._listener = listener
        self._again = again
        self._neighbours = neighbours
        self._keeper = Keeper(loop, kernel, listener, again)
        self._keepalives = keepalives
        self._shielding = shielding
        self._look_again: asyncio.TimerHandle | None = None
        self._names: set[str] = set()
        self._others = neighbours.others
        self.broken: dict[str, str] = {}
        """Tunnels whose device can be read no more, and why."""

    async def settle(self, *, starting: bool = False) -> None:
        """Bring every tunnel into the state that its surroundings call for.

        What the kernel or the data plane refuses one is that one's trouble: it is given up. Raises
        SetupError when nothing can be asked of the kernel, and when *starting* also for what
        concerns the process.
        """
        # First: nothing passes in clear that must not, whatever is found.
        bare = await self._shielding.keep(self._tunnels.values())
        seen, actual = await look_inside(self._kernel, self._tunnels.values())
        touched: dict[str, Tunnel] = {}
        now = self._loop.time()
        async for tunnel, device in in_slices(with_device(self._tunnels.values())):
            broken = self.broken.pop(tunnel.name, None)
            if broken is not None or not seen[tunnel.name].alive:
                self._lifecycle.lose(tunnel, device, broken or DELETED)
            elif tunnel.is_touched(seen[tunnel.name], now):
                tunnel.stale = False
                touched[tunnel.name] = tunnel
        failures: Failures = {
            tunnel: error for tunnel, error in bare.items() if tunnel.device is not None
        }
        await self._follow_bindings(touched, seen, failures)
        await self._follow_paths(touched, seen, failures)
        await self._follow_mtus(touched, seen, failures)
        well = [tunnel for tunnel in touched.values() if tunnel not in failures]
        await self._keeper.keep(with_device(well), actual)
        async for tunnel, device in in_slices(with_device(touched.values())):
            if tunnel in failures:
                continue
            if tunnel.attachment is None:
                try:
                    self._lifecycle.attach(tunnel, device)
                except SetupError as error:
                    failures[tunnel] = error
                    continue
                self._keepalives.begin(tunnel)
                tunnel.remains = {}
            # Nothing is awaited since the tunnel was attached: a loop is stopped before the first
            # packet enters it.
            for event in tunnel.observe(seen[tunnel.name]):
                self._listener(event)
        await self._lifecycle.give_up(failures, starting=starting)

    def close(self) -> None:
        """Look no more. Harmless twice."""
        self._keeper.close()
        self._stop_looking()

    def _stop_looking(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _update(self, tunnel: Tunnel, failures: Failures) -> bool:
        """Hand what changed to the data plane; return whether it is used, or will be."""
        if tunnel in failures:
            return False
        try:
            if tunnel.attachment is not None:
                tunnel.attachment.update(tunnel.parameters())
        except OSError as error:
            # What it sends and receives would be wrong from here on: rather nothing.
            failures[tunnel] = socket_refused(
                error, place=tunnel.place, version=tunnel.config.family
            )
            return False
        return True

    async def _follow_bindings(
        self, touched: dict[str, Tunnel], seen: Mapping[str, Observation], failures: Failures
    ) -> None:
        """Let outer packets leave from where addresses and devices are now, one tunnel each.

        Tunnels that must be held down, or need not be any more, join those that are *touched*.
        """
        before, moved = {}, {}
        async for tunnel, _device in in_slices(with_device(touched.values())):
            before[tunnel.name] = tunnel.binding, tunnel.packet_socket
            if tunnel.move(seen[tunnel.name].binding) or tunnel.is_told_otherwise:
                moved[tunnel.name] = tunnel
        names = {tunnel.name for tunnel, _device in with_device(self._tunnels.values())}
        others = self._neighbours.others
        if touched or names != self._names or others is not self._others:
            self._names, self._others = names, others
            async for tunnel, why in self._twins(seen):
                if tunnel.held == why:
                    continue
                touched[tunnel.name] = tunnel
                before.setdefault(tunnel.name, (tunnel.binding, tunnel.packet_socket))
                if tunnel.hold(why):
                    moved[tunnel.name] = tunnel
        # Those that are held first: their place must be free for another.
        async for tunnel in in_slices(sorted(moved.values(), key=lambda one: not one.held)):
            if tunnel.attachment is not None and self._update(tunnel, failures):
                self._tell_binding(tunnel, *before[tunnel.name])

    async def _twins(self, seen: Mapping[str, Observation]) -> AsyncIterator[tuple[Tunnel, str]]:
        """Yield tunnels and why they must be held down, if they must; not those that never were.

        One that lost its address keeps it until there is another, but has no right to it.
        """
        lost: dict[bool, list[tuple[str, TunnelConfig, IPAddress | None]]] = {False: [], True: []}
        async for tunnel, _device in in_slices(with_device(self._tunnels.values())):
            if tunnel.binding.local is not None or not tunnel.binding.no_local:
                is_lost = bool(seen[tunnel.name].binding.no_local)
                lost[is_lost].append((tunnel.name, tunnel.config, tunnel.binding.local))
        ordered = [*lost[False], *lost[True]]
        taken = await in_thread(partial(_taken, ordered, self._neighbours))
        async for tunnel, _device in in_slices(with_device(self._tunnels.values())):
            if tunnel.held or tunnel.name in taken:
                yield tunnel, taken.get(tunnel.name, "")

    def _tell_binding(self, tunnel: Tunnel, before: Binding, used: str) -> None:
        if tunnel.binding.local != before.local:
            now, past = str(tunnel.binding.local), str(before.local)
            self._listener(LocalChanged(tunnel=tunnel.name, local=now, before=past))
        now, past = _protection(tunnel.binding), _protection(before)
        if now != past:
            self._listener(ProtectionChanged(tunnel=tunnel.name, ipsec=now, before=past))
        if tunnel.packet_socket != used:
            self._listener(
                PacketSocketChanged(
                    tunnel=tunnel.name, packet_socket=tunnel.packet_socket, before=used
                )
            )

    async def _follow_paths(
        self, touched: Mapping[str, Tunnel], seen: Mapping[str, Observation], failures: Failures
    ) -> None:
        """Follow what the paths carry; look again when what was learned is over."""
        now = self._loop.time()
        due = []
        async for tunnel, _device in in_slices(with_device(touched.values())):
            events = tunnel.follow_path(seen[tunnel.name], now)
            if events is not None and self._update(tunnel, failures):
                for event in events:
                    self._listener(event)
            if (seconds := tunnel.path.due(now)) is not None:
                due.append(seconds)
        self._stop_looking()
        if due:
            self._look_again = self._loop.call_later(min(due), self._again)

    async def _follow_mtus(
        self, touched: Mapping[str, Tunnel], seen: Mapping[str, Observation], failures: Failures
    ) -> None:
        """Follow what fits the routes; the interfaces themselves are the keeper's."""
        async for tunnel, _device in in_slices(with_device(touched.values())):
            mtu = tunnel.wanted_mtu(seen[tunnel.name])
            if mtu != tunnel.mtu and seen[tunnel.name].here:
                self._listener(MtuChanged(tunnel=tunnel.name, mtu=mtu, before=tunnel.mtu))
                tunnel.mtu = mtu
                self._update(tunnel, failures)


def _protection(binding: Binding) -> str:
    return "none" if binding.protection is None else binding.protection.summary


def _taken(
    tunnels: Sequence[tuple[str, TunnelConfig, IPAddress | None]], neighbours: Neighbours
) -> dict[str, str]:
    """Return those of *tunnels* whose packets somebody else takes, and what to say of it."""
    wanted = {name: claim(config, local) for name, config, local in tunnels}
    ethernet = {name for name, config, _local in tunnels if config.mode == "gretap"}
    elsewhere = neighbours.holders(list(wanted.items()), ethernet)
    return elsewhere | {
        name: f"[Tunnel {holder}] takes the same packets ({wanted[name]}):"
        " give one of them another Local=, Remote= or Key="
        for name, holder in later_ones(wanted.items()).items()
    }
