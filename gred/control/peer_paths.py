"""What the paths of tunnels with many remotes carry: to each remote its own.

The interface's MTU stays: one narrow path says nothing of the others. What is believed is decided
in path_mtu.py, and what routes were given is found in route_mtus.py; here are only whom it is
about, the clock and a bound.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from gred.config.model import IPAddress
from gred.control.events import Listener, PathMtuChanged
from gred.control.mtu import FLOOR_IPV4, overhead
from gred.control.parts import Attachment
from gred.control.path_mtu import Obstacle, PathMtu
from gred.control.tunnel import Tunnel

PATHS_AT_MOST = 1024  # of one tunnel: the one that nothing was told of for longest goes first


@dataclass(eq=False, slots=True)
class _Known:
    """What is known of the paths of one tunnel, as long as it has *attachment*."""

    tunnel: Tunnel
    attachment: Attachment
    paths: OrderedDict[IPAddress, PathMtu] = field(default_factory=OrderedDict)
    timers: dict[IPAddress, asyncio.TimerHandle] = field(default_factory=dict)
    routes: dict[IPAddress, int] = field(default_factory=dict)
    """The MTUs that routes were given, where they are less than what the tunnel sends."""

    def stop(self, remote: IPAddress) -> None:
        """Let no more time pass for one path."""
        timer = self.timers.pop(remote, None)
        if timer is not None:
            timer.cancel()


class PeerPaths:
    """Tells attachments what their paths carry, and *listener* what has changed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self._loop = loop
        self._listener = listener
        self._known: dict[str, _Known] = {}

    def take(self, tunnel: Tunnel, remote: IPAddress, obstacle: Obstacle, lifetime: float) -> None:
        """Take in an *obstacle* that packets of *tunnel*, which is up, met on the way to *remote*.

        *lifetime*: how long it is believed at most, in seconds.
        """
        known = self._known_of(tunnel)
        path = None if known is None else known.paths.get(remote)
        path = path or PathMtu(tunnel.config.family)
        if known is not None and path.tell(obstacle, self._loop.time(), lifetime):
            self._keep(known, remote, path)

    def probe(self, tunnel: Tunnel, remote: IPAddress, limit: int | None) -> None:
        """Take in what probes of the path to *remote* found, in bytes; None: no limit."""
        known = self._known_of(tunnel)
        path = None if known is None else known.paths.get(remote)
        path = path or PathMtu(tunnel.config.family)
        if known is not None and path.probe(limit):
            self._keep(known, remote, path)

    def passed(self, tunnel: Tunnel, remote: IPAddress, size: int, at: float) -> None:
        """Take in that a packet of *size* bytes, sent *at*, has arrived at *remote*."""
        known, path = self._known_of(tunnel), self.path(tunnel, remote)
        if known is not None and path is not None and path.passed(size, at):
            self._follow(known, remote)

    def path(self, tunnel: Tunnel, remote: IPAddress) -> PathMtu | None:
        """Return what is known of the path to *remote*; None: nothing."""
        known = self._known_of(tunnel)
        return None if known is None else known.paths.get(remote)

    def route_mtu(self, tunnel: Tunnel, remote: IPAddress) -> int:
        """Return the longest outer packet to *remote* while nothing was met on the way."""
        known = self._known_of(tunnel)
        return widest(tunnel) if known is None else known.routes.get(remote, widest(tunnel))

    def routed(self, tunnel: Tunnel) -> list[IPAddress]:
        """Return the remotes of *tunnel* to which the MTU of a route counts."""
        known = self._known_of(tunnel)
        return [] if known is None else list(known.routes)

    def route(self, tunnel: Tunnel, remote: IPAddress, mtu: int | None) -> bool:
        """Let packets of *tunnel* to *remote* obey the MTU that its route was given, in bytes.

        None: it was given none. Return whether anything changed.
        """
        known = self._known_of(tunnel)
        if mtu is not None and mtu >= widest(tunnel):
            mtu = None
        if known is None or known.routes.get(remote) == mtu:
            return False
        if mtu is None:
            del known.routes[remote]
        else:
            known.routes[remote] = mtu
        if remote in known.paths:
            self._follow(known, remote)
        _limit(known, remote)
        return True

    def close(self) -> None:
        """Let no more time pass."""
        while self._known:
            _name, known = self._known.popitem()
            for remote in list(known.timers):
                known.stop(remote)

    def _known_of(self, tunnel: Tunnel) -> _Known | None:
        """Return what is known of *tunnel*: nothing when it was made anew. None: it is down."""
        known = self._known.get(tunnel.name)
        if known is not None and known.attachment is not tunnel.attachment:
            for remote in list(known.timers):
                known.stop(remote)
            known = None
            del self._known[tunnel.name]
        if known is None and tunnel.attachment is not None:
            known = self._known[tunnel.name] = _Known(tunnel, tunnel.attachment)
        return known

    def _keep(self, known: _Known, remote: IPAddress, path: PathMtu) -> None:
        known.paths[remote] = path
        known.paths.move_to_end(remote)
        if len(known.paths) > PATHS_AT_MOST:
            oldest, _path = known.paths.popitem(last=False)
            known.stop(oldest)
            _limit(known, oldest)
        self._follow(known, remote)

    def _again(self, known: _Known, remote: IPAddress) -> None:
        if self._known_of(known.tunnel) is known:
            self._follow(known, remote)

    def _follow(self, known: _Known, remote: IPAddress) -> None:
        """Let packets obey the path to *remote*, and look again when what is believed ends."""
        tunnel, path, now = known.tunnel, known.paths[remote], self._loop.time()
        route_mtu = known.routes.get(remote, widest(tunnel))
        before = path.mtu, path.fragmentable
        path.look(route_mtu, now)
        known.stop(remote)
        if (seconds := path.due(now)) is not None:
            known.timers[remote] = self._loop.call_later(seconds, self._again, known, remote)
        if (path.mtu, path.fragmentable) == before:
            return
        room = _limit(known, remote)
        self._listener(
            PathMtuChanged(
                tunnel=tunnel.name,
                remote=str(remote),
                path_mtu=path.mtu or route_mtu,
                before=before[0] or route_mtu,
                detail=_detail(path, room),
            )
        )


def widest(tunnel: Tunnel) -> int:
    """Return the longest outer packet that *tunnel* sends, in bytes."""
    return tunnel.mtu + overhead(tunnel.config)


def _limit(known: _Known, remote: IPAddress) -> int | None:
    """Tell the data plane; return the longest inner packet, None: as to all others."""
    path = known.paths.get(remote)
    mtu = known.routes.get(remote)
    if path is not None and path.mtu is not None:
        mtu = path.mtu
    room = None if mtu is None else max(mtu - overhead(known.tunnel.config), FLOOR_IPV4)
    known.attachment.limit_path(remote, room, fragmentable=path is not None and path.fragmentable)
    return room


def _detail(path: PathMtu, room: int | None) -> str:
    """Say what becomes of packets that the path does not carry."""
    what = "" if room is None else f"inner packets above {room} are cut or refused"
    if path.fragmentable:
        what = f"it carries less than {path.mtu}: outer packets may be fragmented"
    return "; ".join(filter(None, (path.sentence, what)))
