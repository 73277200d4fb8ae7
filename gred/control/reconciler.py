"""Keeps tunnels that are up in step with the kernel: states, standings, path MTUs, MTUs.

    settle: survey all tunnels -> states and MTUs -> hand new devices to the data plane

Makes no interface and deletes none (lifecycle.py); when to look is decided elsewhere (daemon.py).
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from gred.control.errors import SetupError, socket_refused
from gred.control.lifecycle import AT_ONCE, Failures, Lifecycle, look, with_device
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

    async def settle(self, *, starting: bool = False) -> None:
        """Bring every tunnel into the state that its surroundings call for.

        What the kernel or the data plane refuses one is that one's trouble: it is given up. Raises
        SetupError when nothing can be asked of the kernel, and when *starting* also for what
        concerns the process.
        """
        seen = await look(self._kernel, self._tunnels.values(), interfaces=True)
        for tunnel, device in with_device(self._tunnels.values()):
            broken = self.broken.pop(tunnel.name, None)
            if broken is not None or not seen[tunnel.name].alive:
                self._lifecycle.lose(tunnel, device, broken or DELETED)
        failures: Failures = {}
        self._follow_standings(seen, failures)
        self._follow_paths(seen, failures)
        await self._follow_mtus(seen, failures)
        for number, (tunnel, device) in enumerate(with_device(self._tunnels.values()), 1):
            if tunnel in failures:
                continue
            if tunnel.port is None:
                if number % AT_ONCE == 0:
                    await asyncio.sleep(0)  # a thousand new ones take a second
                try:
                    self._lifecycle.attach(tunnel, device)
                except SetupError as error:
                    failures[tunnel] = error
                    continue
            # Nothing is awaited since the tunnel was attached: a loop is stopped before the first
            # packet enters it.
            for event in tunnel.observe(seen[tunnel.name]):
                self._listener(event)
        await self._lifecycle.give_up(failures, starting=starting)

    def close(self) -> None:
        """Look no more. Harmless twice."""
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _update(self, tunnel: Tunnel, failures: Failures) -> bool:
        """Hand what changed to the data plane; return whether it is used, or will be."""
        if tunnel in failures:
            return False
        try:
            if tunnel.port is not None:
                tunnel.port.update(tunnel.parameters())
        except OSError as error:
            # What it sends and receives would be wrong from here on: rather nothing.
            failures[tunnel] = socket_refused(
                error, place=tunnel.place, version=tunnel.config.family
            )
            return False
        return True

    def _follow_standings(self, seen: Mapping[str, Observation], failures: Failures) -> None:
        """Let outer packets leave from where addresses and devices are now, one tunnel each."""
        tunnels = [tunnel for tunnel, _device in with_device(self._tunnels.values())]
        before = {tunnel.name: (tunnel.standing, tunnel.packet_socket) for tunnel in tunnels}
        moved = {tunnel.name for tunnel in tunnels if tunnel.move(seen[tunnel.name].standing)}
        moved |= {tunnel.name for tunnel, why in _twins(tunnels, seen) if tunnel.hold(why)}
        # Those that are held first: their place must be free for another.
        for tunnel in sorted(
            (tunnel for tunnel in tunnels if tunnel.name in moved), key=lambda one: not one.held
        ):
            if tunnel.port is not None and self._update(tunnel, failures):
                self._tell_standing(tunnel, *before[tunnel.name])

    def _tell_standing(self, tunnel: Tunnel, before: Standing, used: str) -> None:
        if tunnel.standing.local != before.local:
            fields = {"local": str(tunnel.standing.local), "before": str(before.local)}
            self._tell("local_changed", tunnel=tunnel.name, **fields)
        if tunnel.packet_socket != used:
            fields = {"packet_socket": tunnel.packet_socket, "before": used}
            self._tell("packet_socket_changed", tunnel=tunnel.name, **fields)

    def _follow_paths(self, seen: Mapping[str, Observation], failures: Failures) -> None:
        """Follow what the paths carry; look again when the kernel may have forgotten it."""
        now = self._loop.time()
        due = []
        for tunnel, _device in with_device(self._tunnels.values()):
            events = tunnel.follow_path(seen[tunnel.name], now)
            if events and not self._update(tunnel, failures):
                continue
            for event in events:
                self._listener(event)
            if (seconds := tunnel.path.due(now)) is not None:
                due.append(seconds)
        self.close()
        if due:
            self._look_again = self._loop.call_later(min(due), self._again)

    async def _follow_mtus(self, seen: Mapping[str, Observation], failures: Failures) -> None:
        wanted: dict[str | None, dict[int, int]] = {}
        owners: dict[tuple[str | None, int], Tunnel] = {}
        for tunnel, device in with_device(self._tunnels.values()):
            mtu = tunnel.wanted_mtu(seen[tunnel.name])
            changed = mtu != tunnel.mtu
            if not (changed or tunnel.mtu_refused) or not seen[tunnel.name].here:
                continue
            wanted.setdefault(device.namespace, {})[device.index] = mtu
            owners[device.namespace, device.index] = tunnel
            if changed:
                self._tell("mtu_changed", tunnel=tunnel.name, mtu=mtu, before=tunnel.mtu)
                tunnel.mtu = mtu
                self._update(tunnel, failures)
        for namespace, mtus in wanted.items():
            refused = await in_thread(partial(self._kernel.set_mtus, mtus, namespace))
            for index in mtus:
                tunnel, told = owners[namespace, index], owners[namespace, index].mtu_refused
                tunnel.mtu_refused = str(refused[index]) if index in refused else ""
                if tunnel.mtu_refused not in {"", told}:
                    detail = tunnel.mtu_refused
                    self._tell("mtu_refused", "warning", tunnel=tunnel.name, detail=detail)

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
