"""The MTUs that administrators gave to routes, for tunnels with many remotes.

The data plane's sockets ask the kernel for the MTU of the device and no other, so that what a route
was given (``ip route add ... mtu 1400``, locked or not) has to be found:

    something in the kernel changed -> list the routes, once -> none has an MTU that matters: done
                                    -> look up the remotes in networks that such routes lead to

What is looked up is bounded at each step, and a rest follows that is longer than the work was: a
host with a million routes that never rest has little to spare. A remote that was learned meanwhile
is looked up by itself. Nothing here knows what else limits a path (peer_paths.py).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address

from gred.config.model import IPAddress
from gred.control.events import Listener, RouteMtusChanged
from gred.control.kernel.parts import Kernel
from gred.control.kernel.routes import MtuRoute, Networks
from gred.control.parts import Attachment
from gred.control.peer_paths import PeerPaths, widest
from gred.control.slices import in_slices
from gred.control.survey import Binding
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel

AT_ONCE = 256  # look-ups in one go
REST = 19.0  # times as long as the work took: it costs at most a twentieth of a core
REST_AT_MOST = 60.0  # seconds
RETRY = 5.0  # seconds, after the kernel was not able to say
NEW_AT_MOST = 4096  # learned remotes that are looked up by themselves: then all are, anew


@dataclass(frozen=True, slots=True)
class _Hub:
    """A tunnel with many remotes as it was when its remotes were looked up."""

    attachment: Attachment
    binding: Binding
    narrow: Networks
    """Where routes lead whose MTU is less than what the tunnel sends."""


class RouteMtus:
    """Used on *loop*. Tells *paths* what routes to remotes of *tunnels*, by name, were given."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        kernel: Kernel,
        paths: PeerPaths,
        listener: Listener,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._kernel = kernel
        self._paths = paths
        self._listener = listener
        self._hubs: dict[str, _Hub] = {}
        self._new: dict[tuple[str, IPAddress], None] = {}
        self._learned = 0
        self._stale = False
        self._rest_until = 0.0
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._task = self._loop.create_task(self._watch())
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Look no more. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def changed(self) -> None:
        """Something in the kernel has changed: routes, or what they depend on."""
        if any(_has_many_remotes(tunnel) for tunnel in self._tunnels.values()):
            self._stale = True
            self._work.set()

    def settled(self) -> None:
        """Tunnels may have come, or may send from elsewhere."""
        for name, tunnel in self._tunnels.items():
            if not _has_many_remotes(tunnel) or tunnel.attachment is None:
                continue
            hub = self._hubs.get(name)
            if (
                hub is None
                or hub.attachment is not tunnel.attachment
                or hub.binding != tunnel.binding
            ):
                self._stale = True
                self._work.set()

    def came(self, name: str, remote: IPAddress) -> None:
        """Tunnel *name* has learned that something is behind *remote*."""
        hub = self._hubs.get(name)
        if hub is None or not hub.narrow.have(remote.packed):
            return
        self._learned += 1
        if self._learned <= NEW_AT_MOST:
            self._new[name, remote] = None
        else:
            self._stale = True  # which forgets those that have gone, too
        self._work.set()

    async def _watch(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            now = self._loop.time()
            if self._stale and now >= self._rest_until:
                self._stale = False
                rest = 0.0
                try:
                    await self._follow()
                except OSError:
                    self._stale, rest = True, RETRY
                took = self._loop.time() - now
                self._rest_until = now + took + max(rest, min(REST * took, REST_AT_MOST))
            if self._new:
                await self._follow_new()
            if self._stale and self._timer is None:
                self._timer = self._loop.call_at(self._rest_until, self._rested)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._loop.call_exception_handler(
                {"message": "looking at the MTUs of routes ended", "exception": task.exception()}
            )

    def _rested(self) -> None:
        self._timer = None
        self._work.set()

    async def _follow(self) -> None:
        """Look all remotes up that routes with an MTU may lead to. Raises OSError."""
        hubs = [tunnel for tunnel in self._tunnels.values() if _has_many_remotes(tunnel)]
        self._new, self._learned = {}, 0
        names = {tunnel.name for tunnel in hubs}
        self._hubs = {name: hub for name, hub in self._hubs.items() if name in names}
        listed: dict[int, list[MtuRoute]] = {}
        for version in {tunnel.config.family for tunnel in hubs}:
            listed[version] = await in_thread(partial(self._kernel.mtu_routes, version))
        for tunnel in hubs:
            if tunnel.attachment is not None:
                await self._follow_hub(tunnel, tunnel.attachment, listed[tunnel.config.family])

    async def _follow_hub(
        self, tunnel: Tunnel, attachment: Attachment, routes: Sequence[MtuRoute]
    ) -> None:
        limit = widest(tunnel)
        narrow = Networks((route.network, route.length) for route in routes if route.mtu < limit)
        self._hubs[tunnel.name] = _Hub(attachment, tunnel.binding, narrow)
        before = set(self._paths.routed(tunnel))
        known = attachment.remotes() if narrow else []
        remotes = [ip_address(remote) async for remote in in_slices(known) if narrow.have(remote)]
        changed = await self._look_up(tunnel, attachment, remotes)
        async for gone in in_slices(before.difference(remotes)):
            changed += tunnel.attachment is attachment and self._paths.route(tunnel, gone, None)
        if changed:
            remotes_with = len(self._paths.routed(tunnel))
            self._listener(RouteMtusChanged(tunnel=tunnel.name, remotes=remotes_with))

    async def _follow_new(self) -> None:
        """Look up the remotes that were learned since."""
        new, self._new = self._new, {}
        by_name: dict[str, list[IPAddress]] = {}
        for name, remote in new:
            by_name.setdefault(name, []).append(remote)
        for name, remotes in by_name.items():
            tunnel = self._tunnels.get(name)
            if tunnel is not None and tunnel.attachment is not None:
                try:
                    await self._look_up(tunnel, tunnel.attachment, remotes)
                except OSError:
                    self._stale = True

    async def _look_up(
        self, tunnel: Tunnel, attachment: Attachment, remotes: Sequence[IPAddress]
    ) -> int:
        """Let packets to *remotes* obey their routes; return for how many something changed."""
        changed = 0
        for start in range(0, len(remotes), AT_ONCE):
            some = remotes[start : start + AT_ONCE]
            queries = [tunnel.route_query(remote) for remote in some]
            mtus = await in_thread(partial(self._kernel.route_mtus, queries))
            async for remote, mtu in in_slices(zip(some, mtus, strict=True)):
                if tunnel.attachment is attachment:
                    changed += self._paths.route(tunnel, remote, mtu)
        return changed


def _has_many_remotes(tunnel: Tunnel) -> bool:
    config = tunnel.config
    return config.remote is None and (bool(config.peers) or config.learn_peers)
