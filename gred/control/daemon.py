"""The supervisor: starts and stops all tunnels of one process, watches, and hands on.

    start: bring tunnels up (lifecycle.py) -> settle (reconciler.py) -> watch
    watch: something changed in the kernel -> settle; it is time -> bring up what is down

Whatever one tunnel lacks is that tunnel's trouble: it is down, with a reason, and tried again, at
changes in the kernel and after a while (retry.py). What no tunnel can do without (/dev/net/tun, a
capability, netlink) ends the start; later it is a trouble of the tunnels like any other.

Never touches a packet and never logs: what is worth telling goes to the listener. Makes no
interface and changes no tunnel itself; one thing is done at a time.
"""

import asyncio
import errno
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from gred.config.model import Config, TunnelConfig
from gred.control.denials import Denials
from gred.control.errors import SetupError, words
from gred.control.kernel.devices import open_device
from gred.control.kernel.monitor import LinkMonitor
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import Kernel, OpenDevice
from gred.control.lifecycle import Lifecycle
from gred.control.neighbours import Neighbours
from gred.control.parts import Event, Listener, Plane
from gred.control.progress import Progress
from gred.control.queue_drops import QueueDrops
from gred.control.receivers import Receivers
from gred.control.reconciler import DELETED, Reconciler
from gred.control.retry import Retry
from gred.control.tunnel import Tunnel, TunnelState
from gred.control.underlay_errors import UnderlayErrors
from gred.dataplane.plane import (
    DataPlane,
    DeviceLost,
    ErrorIgnored,
    PeerClaimed,
    PeerLearned,
    Told,
    TracedPacket,
    UnderlayError,
)
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason

Trace = Callable[[TracedPacket], None]
Reporter = Callable[[Told], None]

# A survey is followed by four times its own length of rest, so that a network that never stops
# changing costs at most a fifth of one core; and by at most this much, in seconds.
_REST = 4.0
_REST_AT_MOST = 2.0


class Monitor(Protocol):
    """Tells of changes, see `gred.control.kernel.monitor.LinkMonitor`."""

    def open(self) -> None:
        """Begin to listen. Raises OSError."""

    def close(self) -> None:
        """Stop listening."""


def _make_plane(loop: asyncio.AbstractEventLoop, trace: Trace | None, report: Reporter) -> Plane:
    # DataPlane takes no device and no port but its own kind; control hands it no others.
    return cast("Plane", DataPlane(loop, trace=trace, report=report))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a daemon is built from; tests put fakes in their place."""

    kernel: Kernel
    open_device: OpenDevice
    make_plane: Callable[[asyncio.AbstractEventLoop, Trace | None, Reporter], Plane] = _make_plane
    make_monitor: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Monitor] = LinkMonitor
    receivers: Receivers | None = None


class Daemon:
    """All tunnels of one process. Used on *loop*; *listener* is called there with every event."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        listener: Listener,
        trace: Trace | None = None,
        parts: Parts | None = None,
    ) -> None:
        parts = parts or Parts(kernel=Netlink(), open_device=open_device, receivers=Receivers())
        self.tunnels: dict[str, Tunnel] = {}
        self._config = config
        self._loop = loop
        self._listener = listener
        self._plane = parts.make_plane(loop, trace, self._on_report)
        self._changed = asyncio.Event()
        self._neighbours = Neighbours(
            loop,
            parts.receivers,
            listener,
            changed=self._look,
            present=self._plane.others_receive,
        )
        self._progress = Progress()
        self._lifecycle = Lifecycle(
            loop, parts.kernel, parts.open_device, self._plane, listener, self._progress
        )
        self._reconciler = Reconciler(
            loop,
            self.tunnels,
            parts.kernel,
            self._lifecycle,
            listener,
            self._look,
            self._neighbours,
        )
        self._errors = UnderlayErrors(
            loop, self.tunnels, listener, self._look, parts.kernel.path_mtu_lifetime
        )
        self._denials = Denials(loop, self.tunnels, listener)
        self._queues = QueueDrops(loop, self.tunnels, parts.kernel, listener)
        self._monitor = parts.make_monitor(loop, self._kernel_changed)
        self._must_look = False
        self._passes = Retry()
        self._trouble = ""
        self._next_try: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._stopped = False

    async def start(self) -> None:
        """Bring up all tunnels that can be; the others are down, and tried again.

        Raises SetupError for what no tunnel can do without; then, and when cancelled, nothing is
        left.
        """
        async with self._lock:
            try:
                self._listen()
                await self._neighbours.start()
                tunnels = [Tunnel(config) for config in self._config.tunnels]
                await self._bring_up(tunnels, starting=True)
            except BaseException:
                await self._take_down()
                raise
            if not self._config.tunnels:
                self._tell("no_tunnels", "warning", detail=self.status())
            self._queues.start()
            self._plan()
            self._watcher = self._loop.create_task(self._watch())
            self._watcher.add_done_callback(self._watch_ended)

    async def stop(self) -> None:
        """Take everything down that start and add_tunnel made. Stopping twice is harmless."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        async with self._lock:
            await self._queues.stop()
            await self._take_down()

    async def add_tunnel(self, config: TunnelConfig) -> None:
        """Bring one more tunnel up, or have it down and tried again, as at the start.

        Raises SetupError when there is one of that name; the others are not disturbed.
        """
        async with self._lock:
            if config.name in self.tunnels:
                raise SetupError(f"{config.location}: [Tunnel {config.name}]: it is there already")
            await self._bring_up([Tunnel(config)])
            self._plan()

    async def remove_tunnel(self, name: str) -> None:
        """Take one tunnel down. Raises KeyError when there is none of that name."""
        async with self._lock:
            await self._discard([self.tunnels[name]])

    def progress(self) -> str:
        """Return how far start or stop is; the same again when nothing was done meanwhile."""
        return str(self._progress)

    def facts(self) -> Mapping[str, object]:
        """Return what the start-up line says besides the version."""
        attached = [tunnel for tunnel in self.tunnels.values() if tunnel.port is not None]
        found = Counter(tunnel.packet_socket for tunnel in attached)
        said = found if len(found) < 2 else [f"{count} {used}" for used, count in found.items()]
        packet_socket = {"packet_socket": ", ".join(said)} if found else {}
        down = sum(tunnel.device is None for tunnel in self.tunnels.values())
        counts = {"tunnels": len(self.tunnels)} | ({"down": down} if down else {})
        return {**counts, **self._plane.features(), **packet_socket}

    def counters(self) -> Iterator[tuple[str | None, Counters]]:
        """Yield each tunnel's name and a snapshot; ``None`` is what belongs to no tunnel.

        An interface that was deleted and made again goes on counting, and what a tunnel has counted
        is known when it is gone. Tunnels may come and go in between.
        """
        yield None, self._plane.unclaimed()
        for name, past in list(self._lifecycle.past.items()):
            gone = self.tunnels.get(name or "")
            if gone is None or gone.port is None:
                yield name, past
        for tunnel in list(self.tunnels.values()):
            if tunnel.port is not None:
                yield tunnel.name, self._lifecycle.counted(tunnel.name, tunnel.port)

    def status(self) -> str:
        """Return how many tunnels are in which state, as one line."""
        if not self._config.tunnels and not self.tunnels:
            return " in ".join(filter(None, ("no tunnels configured", self._config.file)))
        states = Counter(tunnel.state for tunnel in self.tunnels.values())
        parts = [f"{states[state]} {state}" for state in TunnelState if states[state]]
        noun = "tunnel" if len(self.tunnels) == 1 else "tunnels"
        return f"{len(self.tunnels)} {noun}" + (f": {', '.join(parts)}" if parts else "")

    # Bringing up.

    def _listen(self) -> None:
        try:
            self._monitor.open()
        except OSError as error:
            raise SetupError(f"cannot listen to the kernel over netlink: {words(error)}") from error

    async def _bring_up(self, tunnels: Sequence[Tunnel], *, starting: bool = False) -> None:
        self.tunnels |= {tunnel.name: tunnel for tunnel in tunnels}
        try:
            await self._lifecycle.bring_up(tunnels, starting=starting)
            await self._reconciler.settle(starting=starting)
        except BaseException:
            await self._discard(tunnels)
            raise

    # Keeping in step.

    def _kernel_changed(self) -> None:
        """Look again; what was in the way of a tunnel may be gone."""
        now = self._loop.time()
        for tunnel in self.tunnels.values():
            if tunnel.device is None:
                tunnel.retry.hasten(now)
        self._look()

    def _look(self) -> None:
        self._must_look = True
        self._changed.set()

    async def _watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._loop.time()
            try:
                async with self._lock:
                    await self._pass()
            except (SetupError, OSError) as error:
                await self._wait_after(error)
            else:
                self._passes, self._trouble = Retry(), ""
            self._plan()
            await asyncio.sleep(min(_REST * (self._loop.time() - began), _REST_AT_MOST))

    async def _pass(self) -> None:
        if self._must_look:
            self._must_look = False
            try:
                await self._reconciler.settle()
            except BaseException:
                self._must_look = True
                raise
        now = self._loop.time()
        down = [tunnel for tunnel in self.tunnels.values() if tunnel.device is None]
        due = [tunnel for tunnel in down if tunnel.retry.due <= now]
        if due:
            await self._lifecycle.bring_up(due)
        if any(tunnel.device is not None for tunnel in due):
            await self._reconciler.settle()

    async def _wait_after(self, error: SetupError | OSError) -> None:
        """Tell of a pass that failed, once, and rest: it is no fault of any tunnel."""
        detail = words(error) if isinstance(error, OSError) else str(error)
        if detail != self._trouble:
            self._trouble = detail
            self._tell("survey_failed", "error", detail=detail)
        now = self._loop.time()
        self._passes.failed(now)
        await asyncio.sleep(self._passes.due - now)
        self._look()

    def _plan(self) -> None:
        """Let what is down be tried again when it is time."""
        if self._next_try is not None:
            self._next_try.cancel()
            self._next_try = None
        due = [tunnel.retry.due for tunnel in self.tunnels.values() if tunnel.device is None]
        if due:
            self._next_try = self._loop.call_at(min(due), self._changed.set)

    def _watch_ended(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled():
            self._loop.call_exception_handler(
                {"message": "watching the kernel ended", "exception": watcher.exception()}
            )

    # Taking down.

    async def _take_down(self) -> None:
        self._monitor.close()
        self._errors.close()
        self._denials.close()
        self._neighbours.close()
        self._reconciler.close()
        if self._next_try is not None:
            self._next_try.cancel()
        # First, so that what still arrives is not counted as for no tunnel.
        if not self._stopped:
            self._stopped = True
            self._plane.close()
        await self._discard(list(self.tunnels.values()))

    async def _discard(self, tunnels: Sequence[Tunnel]) -> None:
        """Take *tunnels* down, and forget them."""
        for tunnel in tunnels:
            self.tunnels.pop(tunnel.name, None)
            self._reconciler.broken.pop(tunnel.name, None)
        await self._lifecycle.take_down(tunnels)

    # Helpers.

    def _on_report(self, report: Told) -> None:
        if isinstance(report, UnderlayError):
            self._errors.take(report)
            return
        if isinstance(report, ErrorIgnored):
            self._tell(
                "icmp_error_ignored",
                offender=str(report.offender),
                kind=str(report.kind),
                count=report.count,
                detail=report.why,
            )
            return
        if isinstance(report, PeerLearned):
            where: dict[str, Any] = {"inner": report.inner, "remote": report.remote}
            if report.before is None:
                self._tell("peer_learned", tunnel=report.tunnel, **where)
            else:
                self._tell("peer_moved", tunnel=report.tunnel, **where, before=report.before)
            return
        if isinstance(report, PeerClaimed):
            self._tell(
                "peer_claimed",
                "warning",
                tunnel=report.tunnel,
                inner=report.inner,
                remote=report.remote,
                claimant=report.claimant,
                detail=f"{report.remote} was heard just now: the address stays there",
            )
            return
        if isinstance(report, DeviceLost):
            # The kernel tells too, but not of a device that only fails to be read.
            gone = report.error.errno == errno.EBADFD
            self._reconciler.broken[report.tunnel] = DELETED if gone else words(report.error)
            self._look()
            return
        if report.reason is DropReason.DENIED:
            self._denials.take(report.tunnel, report.detail)
        reason, level = report.reason, "info"
        if self._neighbours.may_have(report):
            reason, level = DropReason.FOREIGN, "debug"
        fields: dict[str, object] = {"reason": reason.name.lower()}
        known = {"source": report.source, "destination": report.destination, "key": report.key}
        fields |= {name: value for name, value in known.items() if value is not None}
        fields["detail"] = report.detail
        self._listener(Event("packet_refused", level, report.tunnel, fields))

    def _tell(
        self, name: str, level: str = "info", *, tunnel: str | None = None, **fields: object
    ) -> None:
        self._listener(Event(name, level, tunnel, fields))
