"""Brings tunnels up, keeps them in step with the kernel, and takes them down without a trace.

Owns the TUN devices it opens: it is their only closer. Never touches a packet and never logs:
what is worth telling goes to the listener. Whatever blocks runs in a thread, one at a time.

    start: open devices -> routes -> MTUs -> configure interfaces -> settle -> watch
    settle: survey all tunnels -> states and MTUs -> hand new devices to the data plane
    watch: something changed in the kernel -> settle; make again what was deleted
"""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, cast

from gred.config.model import Config, TunnelConfig
from gred.control.devices import open_device
from gred.control.errors import SetupError, device_refused, socket_refused, words
from gred.control.monitor import LinkMonitor
from gred.control.netlink import Netlink
from gred.control.parts import Device, Event, Kernel, Listener, OpenDevice, Plane
from gred.control.survey import Observation, survey
from gred.control.tunnel import Tunnel, TunnelState
from gred.control.underlay_errors import UnderlayErrors
from gred.dataplane.forwarder import (
    DataPlane,
    DeviceLost,
    PeerLearned,
    Told,
    TracedPacket,
    UnderlayError,
)
from gred.dataplane.tunnels import Counters

T = TypeVar("T")
Trace = Callable[[TracedPacket], None]
Reporter = Callable[[Told], None]

# A survey is followed by four times its own length of rest, so that a network that never stops
# changing costs at most a fifth of one core; and by at most this much, in seconds.
_REST = 4.0
_REST_AT_MOST = 2.0
_DELETED = "deleted by somebody else"
_RETRY_AFTER = 5.0  # seconds after a survey that failed


class Monitor(Protocol):
    """Tells of changes, see `gred.control.monitor.LinkMonitor`."""

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
        parts = parts or Parts(kernel=Netlink(), open_device=open_device)
        self.tunnels: dict[str, Tunnel] = {}
        self._config = config
        self._loop = loop
        self._listener = listener
        self._kernel = parts.kernel
        self._open_device = parts.open_device
        self._plane = parts.make_plane(loop, trace, self._on_report)
        self._changed = asyncio.Event()
        self._errors = UnderlayErrors(loop, self.tunnels, listener, self._changed.set)
        self._monitor = parts.make_monitor(loop, self._changed.set)
        self._watcher: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._broken: dict[str, str] = {}
        self._look_again: asyncio.TimerHandle | None = None
        self._stopped = False

    async def start(self) -> None:
        """Bring all tunnels up. Raises SetupError; then, and when cancelled, nothing is left."""
        async with self._lock:
            try:
                self._listen()
                await self._bring_up([Tunnel(config) for config in self._config.tunnels])
            except BaseException:
                await self._take_down()
                raise
            self._watcher = self._loop.create_task(self._watch())
            self._watcher.add_done_callback(self._watch_ended)

    async def stop(self) -> None:
        """Take everything down that start and add_tunnel made. Stopping twice is harmless."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])
            self._watcher = None
        async with self._lock:
            await self._take_down()

    async def add_tunnel(self, config: TunnelConfig) -> None:
        """Bring one more tunnel up. Raises SetupError; the others are not disturbed."""
        async with self._lock:
            if config.name in self.tunnels:
                raise SetupError(f"{config.location}: [Tunnel {config.name}]: it is there already")
            await self._bring_up([Tunnel(config)])

    async def remove_tunnel(self, name: str) -> None:
        """Take one tunnel down. Raises KeyError when there is none of that name."""
        async with self._lock:
            await self._discard([self.tunnels[name]])

    def facts(self) -> Mapping[str, object]:
        """Return what the start-up line says besides the version."""
        return {"tunnels": len(self.tunnels), **self._plane.features()}

    def counters(self) -> Mapping[str | None, Counters]:
        """Return a snapshot for each tunnel by name; ``None`` is what belongs to no tunnel.

        An interface that was deleted and made again begins at zero.
        """
        snapshot: dict[str | None, Counters] = {None: self._plane.unclaimed()}
        for name, tunnel in self.tunnels.items():
            if tunnel.port is not None:
                snapshot[name] = tunnel.port.counters()
        return snapshot

    def status(self) -> str:
        """Return how many tunnels are in which state, as one line."""
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

    async def _bring_up(self, tunnels: Sequence[Tunnel]) -> None:
        self.tunnels |= {tunnel.name: tunnel for tunnel in tunnels}
        try:
            await self._prepare(tunnels)
            await self._settle()
        except BaseException:
            await self._discard(tunnels)
            raise

    async def _prepare(self, tunnels: Sequence[Tunnel]) -> None:
        """Give *tunnels* devices, and these all they need. On failure the caller discards."""
        await self._in_thread(lambda: self._open(tunnels))
        # The first look comes before our own addresses and routes can bend it.
        seen = await self._survey(tunnels)
        for tunnel in tunnels:
            tunnel.move(seen[tunnel.name].standing)
            tunnel.mtu = tunnel.wanted_mtu(seen[tunnel.name])
        settings = [tunnel.settings(device) for tunnel, device in _with_device(tunnels)]
        await self._in_thread(lambda: self._kernel.configure(settings))

    def _open(self, tunnels: Sequence[Tunnel]) -> None:
        for tunnel in tunnels:
            try:
                tunnel.device = self._open_device(
                    tunnel.name,
                    offload=tunnel.config.offload,
                    mode=tunnel.device_mode,
                    namespace=tunnel.config.namespace,
                )
            except OSError as error:
                raise device_refused(
                    error, place=tunnel.place, name=tunnel.name, exists=_exists(tunnel.name)
                ) from error

    def _attach(self, tunnel: Tunnel, device: Device) -> None:
        """Hand *device* to the data plane: from here on packets move."""
        try:
            tunnel.port = self._plane.add_tunnel(device, tunnel.parameters())
        except OSError as error:
            raise socket_refused(error, place=tunnel.place, version=tunnel.config.family) from error
        except OverflowError as error:
            raise SetupError(f"{tunnel.place}: cannot add the tunnel: {error}") from error

    # Keeping in step.

    async def _survey(self, tunnels: Iterable[Tunnel]) -> dict[str, Observation]:
        asked = [(tunnel.config, device) for tunnel, device in _with_device(tunnels)]
        try:
            return await self._in_thread(lambda: survey(self._kernel, asked))
        except OSError as error:
            raise SetupError(f"cannot ask the kernel over netlink: {words(error)}") from error

    async def _settle(self) -> None:
        """Bring every tunnel into the state that its surroundings call for. Raises SetupError."""
        seen = await self._survey(self.tunnels.values())
        for tunnel, device in _with_device(self.tunnels.values()):
            broken = self._broken.pop(tunnel.name, None)
            if broken is not None or not seen[tunnel.name].alive:
                self._lose(tunnel, device, broken or _DELETED)
        self._follow_standings(seen)
        self._follow_paths(seen)
        await self._follow_mtus(seen)
        for tunnel, device in _with_device(self.tunnels.values()):
            if tunnel.port is None:
                self._attach(tunnel, device)
            # Nothing is awaited since the tunnel was attached: a loop is stopped before the first
            # packet enters it.
            for event in tunnel.observe(seen[tunnel.name]):
                self._listener(event)

    def _follow_standings(self, seen: Mapping[str, Observation]) -> None:
        """Let outer packets leave from where addresses and devices are now."""
        for tunnel, _device in _with_device(self.tunnels.values()):
            before = tunnel.standing
            if not tunnel.move(seen[tunnel.name].standing) or tunnel.port is None:
                continue
            tunnel.port.update(tunnel.parameters())
            if tunnel.standing.local != before.local:
                fields = {"local": str(tunnel.standing.local), "before": str(before.local)}
                self._tell("local_changed", tunnel=tunnel.name, **fields)
            if tunnel.config.packet_socket and tunnel.standing.filtered != before.filtered:
                used = "no (netfilter)" if tunnel.standing.filtered else "yes"
                self._tell("packet_socket_changed", tunnel=tunnel.name, packet_socket=used)

    def _follow_paths(self, seen: Mapping[str, Observation]) -> None:
        """Follow what the paths carry; look again when the kernel may have forgotten it."""
        now = self._loop.time()
        due = []
        for tunnel, _device in _with_device(self.tunnels.values()):
            events = tunnel.follow_path(seen[tunnel.name], now)
            if events and tunnel.port is not None:
                tunnel.port.update(tunnel.parameters())
            for event in events:
                self._listener(event)
            if (seconds := tunnel.path.due(now)) is not None:
                due.append(seconds)
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        if due:
            self._look_again = self._loop.call_later(min(due), self._changed.set)

    async def _follow_mtus(self, seen: Mapping[str, Observation]) -> None:
        wanted: dict[str | None, dict[int, int]] = {}
        for tunnel, device in _with_device(self.tunnels.values()):
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
                await self._in_thread(order)
            except SetupError as error:
                self._tell("mtu_refused", "warning", detail=str(error))

    async def _watch(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            began = self._loop.time()
            try:
                async with self._lock:
                    await self._settle()
                    await self._make_again()
            except SetupError as error:
                self._tell("survey_failed", "error", detail=str(error))
                await asyncio.sleep(_RETRY_AFTER)
                self._changed.set()
            await asyncio.sleep(min(_REST * (self._loop.time() - began), _REST_AT_MOST))

    def _watch_ended(self, watcher: asyncio.Task[None]) -> None:
        if not watcher.cancelled():
            self._loop.call_exception_handler(
                {"message": "watching the kernel ended", "exception": watcher.exception()}
            )

    async def _make_again(self) -> None:
        """Make the interfaces again that somebody deleted; tried at every change until it works."""
        made = False
        for tunnel in [tunnel for tunnel in self.tunnels.values() if tunnel.device is None]:
            try:
                await self._prepare([tunnel])
                made = True
            except SetupError as error:
                told = tunnel.detail
                await self._delete([tunnel])
                tunnel.detail = str(error)
                if tunnel.detail != told:
                    self._tell("interface_lost", "error", tunnel=tunnel.name, detail=str(error))
        if made:
            await self._settle()

    def _lose(self, tunnel: Tunnel, device: Device, detail: str) -> None:
        """Give up what is left of a tunnel whose interface is gone or can be read no more."""
        if tunnel.port is not None:
            self._plane.remove_tunnel(tunnel.port)
        device.close()  # does not wait: as a rule the interface is gone
        tunnel.lose()
        self._tell("interface_deleted", "warning", tunnel=tunnel.name, detail=detail)

    # Taking down.

    async def _take_down(self) -> None:
        self._monitor.close()
        self._errors.close()
        if self._look_again is not None:
            self._look_again.cancel()
        await self._discard(list(self.tunnels.values()))
        if not self._stopped:
            self._stopped = True
            self._plane.close()

    async def _discard(self, tunnels: Sequence[Tunnel]) -> None:
        """Take *tunnels* out of the data plane and out of the kernel, and forget them."""
        for tunnel in tunnels:
            self.tunnels.pop(tunnel.name, None)
            self._broken.pop(tunnel.name, None)
            if tunnel.port is not None:
                self._plane.remove_tunnel(tunnel.port)
                tunnel.port = None
                self._tell("tunnel_down", tunnel=tunnel.name)
        await self._delete(tunnels)

    async def _delete(self, tunnels: Sequence[Tunnel]) -> None:
        """Delete the interfaces of *tunnels* and close their devices. The data plane let go."""
        devices = [device for _tunnel, device in _with_device(tunnels)]
        for tunnel in tunnels:
            tunnel.lose()
        if not devices:
            return
        try:
            await self._in_thread(lambda: self._kernel.delete(devices))
        except OSError as error:
            # Closing deletes them as well, one by one.
            self._tell("delete_failed", "warning", detail=str(error))
        finally:
            await self._in_thread(lambda: _close(devices))

    # Helpers.

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in a thread. Cancelled, wait for its end: what it makes must be known."""
        job = self._loop.run_in_executor(None, work)
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            if not job.cancelled():
                job.exception()  # looked at, so that nobody is told: the cancellation matters more
            raise

    def _on_report(self, report: Told) -> None:
        if isinstance(report, UnderlayError):
            self._errors.take(report)
            return
        if isinstance(report, PeerLearned):
            self._tell(
                "peer_learned", tunnel=report.tunnel, inner=report.inner, remote=report.remote
            )
            return
        if isinstance(report, DeviceLost):
            # The kernel tells too, but not of a device that only fails to be read.
            gone = report.error.errno == errno.EBADFD
            self._broken[report.tunnel] = _DELETED if gone else words(report.error)
            self._changed.set()
            return
        fields: dict[str, object] = {"reason": report.reason.name.lower()}
        known = {"source": report.source, "destination": report.destination, "key": report.key}
        fields |= {name: value for name, value in known.items() if value is not None}
        fields["detail"] = report.detail
        self._listener(Event("packet_refused", "info", report.tunnel, fields))

    def _tell(
        self, name: str, level: str = "info", *, tunnel: str | None = None, **fields: object
    ) -> None:
        self._listener(Event(name, level, tunnel, fields))


def _with_device(tunnels: Iterable[Tunnel]) -> list[tuple[Tunnel, Device]]:
    return [(tunnel, tunnel.device) for tunnel in tunnels if tunnel.device is not None]


def _close(devices: Iterable[Device]) -> None:
    for device in devices:
        device.close()


def _exists(name: str) -> bool:
    try:
        socket.if_nametoindex(name)
    except OSError:
        return False
    return True
