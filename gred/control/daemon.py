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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast
from zlib import crc32

from gred.config.model import Config, TunnelConfig
from gred.control import events
from gred.control.denials import Denials
from gred.control.diagnoses import Diagnoses
from gred.control.errors import SetupError, words
from gred.control.events import Listener
from gred.control.evidence import Evidence
from gred.control.hooks import Hooks
from gred.control.inquiries import Inquiries
from gred.control.keepalives import Keepalives
from gred.control.kernel.devices import adopt_device, open_device
from gred.control.kernel.monitor import LinkMonitor
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import AdoptDevice, Kernel, OpenDevice
from gred.control.lifecycle import Lifecycle
from gred.control.names import Names, Resolve
from gred.control.neighbours import Neighbours
from gred.control.parts import Plane
from gred.control.peers import Peer, peers
from gred.control.probed_paths import ProbedPaths
from gred.control.progress import Progress
from gred.control.queue_drops import QueueDrops
from gred.control.receivers import Receivers
from gred.control.reconciler import Reconciler
from gred.control.reload import Plan, plan
from gred.control.remains import Remains
from gred.control.retry import Retry
from gred.control.route_mtus import RouteMtus
from gred.control.shielding import Shielding
from gred.control.snapshot import Snapshot, take
from gred.control.store import NoStore, Store
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel, TunnelState
from gred.control.underlay_errors import UnderlayErrors
from gred.control.unknown_senders import Nearest, UnknownSenders, members
from gred.dataplane.plane import DataPlane, Told, TracedPacket
from gred.dataplane.trace import Tap
from gred.dataplane.tunnels import Counters

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

    def listen_everywhere(self) -> None:
        """Tell of changes in other network namespaces, too. Harmless twice."""

    def close(self) -> None:
        """Stop listening."""


def _make_plane(loop: asyncio.AbstractEventLoop, trace: Trace | None, report: Reporter) -> Plane:
    # DataPlane takes no device and no attachment but its own kind; control hands it no others.
    return cast("Plane", DataPlane(loop, trace=trace, report=report))


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a daemon is built from; tests put fakes in their place."""

    kernel: Kernel
    open_device: OpenDevice
    make_plane: Callable[[asyncio.AbstractEventLoop, Trace | None, Reporter], Plane] = _make_plane
    make_monitor: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Monitor] = LinkMonitor
    receivers: Receivers | None = None
    adopt_device: AdoptDevice = adopt_device
    resolve: Resolve | None = None


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
        store: Store | None = None,
    ) -> None:
        parts = parts or Parts(kernel=Netlink(), open_device=open_device, receivers=Receivers())
        self.tunnels: dict[str, Tunnel] = {}
        self._config = config
        self._loop = loop
        self._since: dict[str, tuple[TunnelState, float, int]] = {}
        self._listener = listener = partial(self._hear, listener)
        self._hooks = Hooks(loop, self.tunnels, listener)
        self._remotes = Names(loop, self.tunnels, parts.resolve, self._remote_moved, listener)
        self._plane = parts.make_plane(loop, trace, self._on_report)
        if store is not None:
            self._plane.use_store(store)
        self._changed = asyncio.Event()
        self._neighbours = Neighbours(
            loop,
            parts.receivers,
            listener,
            changed=self._look,
            present=self._plane.others_receive,
        )
        self._progress = Progress()
        self._store: Store = store or NoStore()
        self._keeps, self._started = store is not None, False
        self._lifecycle = Lifecycle(
            loop,
            parts.kernel,
            parts.open_device,
            self._plane,
            listener,
            self._progress,
            self._store,
            parts.adopt_device,
        )
        inquiries = Inquiries(loop, self._plane)
        self._errors = UnderlayErrors(
            loop, self.tunnels, listener, self._look, parts.kernel.path_mtu_lifetime, inquiries.ask
        )
        paths = ProbedPaths(self._errors)
        self._keepalives = Keepalives(loop, self.tunnels, self._plane, listener, paths, inquiries)
        self._shielding = Shielding(parts.kernel, crc32(config.file.encode()))
        self._reconciler = Reconciler(
            loop,
            self.tunnels,
            parts.kernel,
            self._lifecycle,
            listener,
            self._look,
            self._neighbours,
            self._keepalives,
            self._shielding,
        )
        self._route_mtus = RouteMtus(
            loop, self.tunnels, parts.kernel, self._errors.peer_paths, listener
        )
        self._denials = Denials(loop, self.tunnels, listener)
        self._diagnoses = Diagnoses(loop, self.tunnels, parts.kernel, self._plane, listener)
        self._unknown = UnknownSenders(loop.time)
        self._evidence = Evidence(
            tunnels=self.tunnels,
            listener=listener,
            errors=self._errors,
            denials=self._denials,
            diagnoses=self._diagnoses,
            neighbours=self._neighbours,
            unknown=self._unknown,
            route_mtus=self._route_mtus,
            lost=self._lost,
        )
        self._queues = QueueDrops(loop, self.tunnels, parts.kernel, listener)
        self._remains = Remains(
            loop, self._store, self.tunnels, self._lifecycle.counted, self._queues.told.get
        )
        self._lifecycle.past.update(self._remains.counters())
        self._queues.told |= self._remains.interface_drops()
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
                await self._remotes.follow(self._config.tunnels)
                tunnels = [self._make(config) for config in self._config.tunnels]
                for tunnel in tunnels:
                    self._remains.give(tunnel)
                await self._bring_up(tunnels, starting=True)
                self._plane.receive()
                await in_thread(self._store.drop_rest)
                if self._remains.unfit:
                    self._listener(events.RemainsIgnored(detail=self._remains.unfit))
            except BaseException:
                await self._take_down()
                raise
            if not self._config.tunnels:
                self._listener(events.NoTunnels(detail=self.status()))
            if self._keeps:
                self._remains.start()
            self._queues.start()
            self._route_mtus.start()
            self._diagnoses.start()
            self._plan_tries()
            self._started = True
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
            await self._route_mtus.stop()
            await self._diagnoses.stop()
            await self._take_down()

    async def add_tunnel(self, config: TunnelConfig) -> None:
        """Bring one more tunnel up, or have it down and tried again, as at the start.

        Raises SetupError when there is one of that name; the others are not disturbed.
        """
        async with self._lock:
            if config.name in self.tunnels:
                raise SetupError(f"{config.location}: [Tunnel {config.name}]: it is there already")
            await self._remotes.follow([*self._config.tunnels, config])
            await self._bring_up([self._make(config)])
            self._plan_tries()

    async def remove_tunnel(self, name: str) -> None:
        """Take one tunnel down. Raises KeyError when there is none of that name."""
        async with self._lock:
            await self._discard([self.tunnels[name]])

    async def reload(self, config: Config) -> Plan:
        """Run with another configuration; return what was done.

        Tunnels that do not differ are not touched. What can change on an interface that exists
        changes there: it stays up, and counters and sequence state are kept. What is refused one
        tunnel is that one's trouble. Raises SetupError when nothing can be asked of the kernel.
        """
        async with self._lock:
            before = self._remotes.all_effective(self._config)
            await self._remotes.follow(config.tunnels)
            after = self._remotes.all_effective(config)
            what = plan(before, after)
            goes = what.names("removed", "renewed")
            await self._discard([self.tunnels[name] for name in goes if name in self.tunnels])
            self._config = config
            configs = {one.name: one for one in after.tunnels}
            changed = [self.tunnels[name] for name in what.names("changed") if name in self.tunnels]
            now = self._loop.time()
            for tunnel in changed:
                tunnel.reconfigure(configs[tunnel.name])
                tunnel.unresolved = self._remotes.why(tunnel.config)
                tunnel.retry.hasten(now)
            comes = [self._make(configs[name]) for name in configs if name not in self.tunnels]
            await self._bring_up(comes)
            for name in configs:  # of two that take the same packets the first one written has them
                self.tunnels[name] = self.tunnels.pop(name)
            steps = {step.name: step for step in what.steps}
            for tunnel in changed:
                detail = ", ".join(map(str, steps[tunnel.name].options))
                self._listener(events.TunnelChanged(tunnel=tunnel.name, detail=detail))
                if tunnel.attachment is not None:
                    self._keepalives.begin(tunnel)
                    for event in tunnel.reconsider():
                        self._listener(event)
            self._plan_tries()
            return what

    @property
    def config(self) -> Config:
        """What it runs with."""
        return self._config

    @property
    def tap(self) -> Tap:
        """Where packets are watched."""
        return self._plane.tap

    def plan(self, config: Config) -> Plan:
        """Return what ``reload`` would do."""
        effective = self._remotes.all_effective
        return plan(effective(self._config), effective(config))

    def progress(self) -> str:
        """Return how far start or stop is; the same again when nothing was done meanwhile."""
        return str(self._progress)

    def facts(self) -> Mapping[str, object]:
        """Return what the start-up line says besides the version."""
        attached = [tunnel for tunnel in self.tunnels.values() if tunnel.attachment is not None]
        found = Counter(tunnel.packet_socket for tunnel in attached)
        said = found if len(found) < 2 else [f"{count} {used}" for used, count in found.items()]
        packet_socket = {"packet_socket": ", ".join(said)} if found else {}
        down = sum(tunnel.device is None for tunnel in self.tunnels.values())
        counts = {"tunnels": len(self.tunnels)} | ({"down": down} if down else {})
        if self._lifecycle.adopted:
            counts["adopted"] = self._lifecycle.adopted
        return {**counts, **self._plane.features(), **packet_socket}

    def counters(self) -> Iterator[tuple[str | None, Counters]]:
        """Yield each tunnel's name and a snapshot; ``None`` is what belongs to no tunnel.

        An interface that was deleted and made again goes on counting, and what a tunnel has counted
        is known when it is gone. Tunnels may come and go in between.
        """
        yield None, self._plane.unclaimed()
        for name, past in list(self._lifecycle.past.items()):
            gone = self.tunnels.get(name or "")
            if gone is None or gone.attachment is None:
                yield name, past
        for tunnel in list(self.tunnels.values()):
            if tunnel.attachment is not None:
                yield tunnel.name, self._lifecycle.counted(tunnel.name, tunnel.attachment)

    def past(self) -> Iterable[tuple[str | None, Counters]]:
        """Return what tunnels counted that are gone: before the start, what another process did."""
        return self._lifecycle.past.items()

    def status(self) -> str:
        """Return how many tunnels are in which state, as one line."""
        if not self._config.tunnels and not self.tunnels:
            return " in ".join(filter(None, ("no tunnels configured", self._config.file)))
        states = Counter(tunnel.state for tunnel in self.tunnels.values())
        parts = [f"{states[state]} {state}" for state in TunnelState if states[state]]
        noun = "tunnel" if len(self.tunnels) == 1 else "tunnels"
        return f"{len(self.tunnels)} {noun}" + (f": {', '.join(parts)}" if parts else "")

    def names(self) -> list[str]:
        """Return all tunnels, those that a reload takes down and brings up again, too."""
        return list(dict.fromkeys((*(one.name for one in self._config.tunnels), *self.tunnels)))

    def snapshot(self, name: str) -> Snapshot:
        """Return everything that is known of one tunnel. Raises KeyError when there is none."""
        tunnel = self.tunnels.get(name)
        if tunnel is None:  # not yet, or between being taken down and brought up again
            config = next((one for one in self._config.tunnels if one.name == name), None)
            if config is None:
                raise KeyError(name)
            tunnel = Tunnel(config)
        attachment, past = tunnel.attachment, self._lifecycle.past.get(name)
        counters = past if attachment is None else self._lifecycle.counted(name, attachment)
        _state, since, changes = self._since.get(name, (None, None, 0))
        return take(tunnel, counters, since, self._loop.time(), transitions=changes)

    def peers(self, name: str) -> Iterator[Peer]:
        """Yield the remotes of one tunnel. Raises KeyError when there is none of that name."""
        return peers(self.tunnels[name], self._loop.time())

    def unknown_senders(self) -> Iterator[Mapping[str, object]]:
        """Yield who sends GRE that no tunnel takes, the latest first; members as of JSON."""
        nearest, now = Nearest(self.tunnels.values()), self._loop.time()
        for sender in self._unknown.senders():
            yield members(sender, nearest.tunnel(sender), now)

    def _hear(self, listener: Listener, event: events.Event) -> None:
        """Note since when a tunnel is in its state, and its changes; hand the event on."""
        tunnel = self.tunnels.get(event.tunnel or "")
        if tunnel is not None:
            before, _since, changes = self._since.get(tunnel.name, (None, 0.0, 0))
            if before is not tunnel.state:
                changes += tunnel.state is not (before or TunnelState.DOWN)
                self._since[tunnel.name] = tunnel.state, self._loop.time(), changes
        listener(event)
        self._hooks.note(event)
        self._remotes.note(event)

    # Bringing up.

    def _make(self, config: TunnelConfig) -> Tunnel:
        tunnel = Tunnel(self._remotes.effective(config))
        tunnel.unresolved = self._remotes.why(config)
        return tunnel

    def _listen(self) -> None:
        try:
            self._monitor.open()
        except OSError as error:
            raise SetupError(f"cannot listen to the kernel over netlink: {words(error)}") from error

    async def _bring_up(self, tunnels: Sequence[Tunnel], *, starting: bool = False) -> None:
        self.tunnels |= {tunnel.name: tunnel for tunnel in tunnels}
        if any(tunnel.config.namespace for tunnel in tunnels):
            self._monitor.listen_everywhere()
        try:
            await self._lifecycle.bring_up(tunnels, starting=starting)
            await self._reconciler.settle(starting=starting)
            self._route_mtus.settled()
            self._hooks.settled()
        except BaseException:
            await self._discard(tunnels, leave=starting)
            raise

    # Keeping in step.

    def _kernel_changed(self) -> None:
        """Look again; what was in the way of a tunnel may be gone."""
        now = self._loop.time()
        for tunnel in self.tunnels.values():
            if tunnel.device is None:
                tunnel.retry.hasten(now)
            else:
                tunnel.upkeep.hasten(now)
        self._route_mtus.changed()
        self._remotes.hasten()
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
            self._plan_tries()
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
        self._route_mtus.settled()
        self._hooks.settled()

    async def _remote_moved(self, name: str) -> None:
        """Follow the name in Remote= to another address, as a reload with that address would."""
        async with self._lock:
            tunnel = self.tunnels.get(name)
            if tunnel is None:
                return
            config = self._remotes.effective(tunnel.config)
            before = None if tunnel.unresolved else str(tunnel.config.remote)
            why = self._remotes.why(config)
            if config == tunnel.config:
                tunnel.unresolved = why
                for event in tunnel.reconsider():
                    self._listener(event)
                return
            remote, host = str(config.remote), str(config.remote_name)
            self._listener(
                events.RemoteChanged(tunnel=name, remote=remote, before=before, host=host)
            )
            if config.family != tunnel.config.family:
                await self._hooks.leave([tunnel])
                await self._lifecycle.take_down([tunnel])
                self.tunnels[name] = self._make(config)  # the next pass brings it up
                self._changed.set()
                return
            tunnel.reconfigure(config)
            tunnel.unresolved = why
            try:
                await self._reconciler.settle()
            except (SetupError, OSError):
                self._look()  # it is told there
            if tunnel.attachment is not None:
                self._keepalives.begin(tunnel)
                for event in tunnel.reconsider():
                    self._listener(event)
            self._hooks.settled()

    async def _wait_after(self, error: SetupError | OSError) -> None:
        """Tell of a pass that failed, once, and rest: it is no fault of any tunnel."""
        detail = words(error) if isinstance(error, OSError) else str(error)
        if detail != self._trouble:
            self._trouble = detail
            self._listener(events.SurveyFailed(detail=detail))
        now = self._loop.time()
        self._passes.failed(now)
        await asyncio.sleep(self._passes.due - now)
        self._look()

    def _plan_tries(self) -> None:
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
        await self._remains.stop()
        leave = not await self._store.ends_for_good()
        await self._remotes.close()
        await self._hooks.leave(self.tunnels.values())  # while packets still move
        self._monitor.close()
        self._errors.close()
        self._denials.close()
        self._keepalives.close()
        self._neighbours.close()
        self._reconciler.close()
        if self._next_try is not None:
            self._next_try.cancel()
        # First, so that what still arrives is not counted as for no tunnel.
        if not self._stopped:
            self._stopped = True
            self._plane.close()
            if leave and self._started:
                await self._remains.write(clean=True)
        await self._discard(list(self.tunnels.values()), leave=leave)

    async def _discard(self, tunnels: Sequence[Tunnel], *, leave: bool = False) -> None:
        """Take *tunnels* down, and forget them; *leave* as of ``Lifecycle.take_down``."""
        await self._hooks.leave(tunnels)
        for tunnel in tunnels:
            self.tunnels.pop(tunnel.name, None)
            self._since.pop(tunnel.name, None)
            self._reconciler.broken.pop(tunnel.name, None)
        await self._lifecycle.take_down(tunnels, leave=leave)
        if not leave:
            await self._shielding.keep(self.tunnels.values())

    # What the data plane tells.

    def _on_report(self, told: Told) -> None:
        self._evidence.take(told)

    def _lost(self, name: str, why: str) -> None:
        self._reconciler.broken[name] = why
        self._look()
