"""What the paths of tunnels with many remotes carry: to each remote its own.

The interface's MTU stays: one narrow path says nothing of the others. What is believed is decided
in path_mtu.py; here are only whom it is about, the clock and a bound.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field

from gred.config.model import IPAddress
from gred.control.mtu import overhead
from gred.control.parts import Event, Listener, Port
from gred.control.path_mtu import Obstacle, PathMtu
from gred.control.tunnel import Tunnel

PATHS_AT_MOST = 1024  # of one tunnel: the one that nothing was told of for longest goes first


@dataclass(eq=False, slots=True)
class _Known:
    """What is known of the paths of one tunnel, as long as it has *port*."""

    tunnel: Tunnel
    port: Port
    paths: OrderedDict[IPAddress, PathMtu] = field(default_factory=OrderedDict)
    timers: dict[IPAddress, asyncio.TimerHandle] = field(default_factory=dict)

    def stop(self, remote: IPAddress) -> None:
        """Let no more time pass for one path."""
        timer = self.timers.pop(remote, None)
        if timer is not None:
            timer.cancel()


class PeerPaths:
    """Tells ports what their paths carry, and *listener* what has changed."""

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
        if known is None or not path.tell(obstacle, self._loop.time(), lifetime):
            return
        known.paths[remote] = path
        known.paths.move_to_end(remote)
        if len(known.paths) > PATHS_AT_MOST:
            oldest, _path = known.paths.popitem(last=False)
            known.stop(oldest)
            known.port.limit_path(oldest, None, fragmentable=False)
        self._follow(known, remote)

    def close(self) -> None:
        """Let no more time pass."""
        while self._known:
            _name, known = self._known.popitem()
            for remote in list(known.timers):
                known.stop(remote)

    def _known_of(self, tunnel: Tunnel) -> _Known | None:
        """Return what is known of *tunnel*: nothing when it was made anew. None: it is down."""
        known = self._known.get(tunnel.name)
        if known is not None and known.port is not tunnel.port:
            for remote in list(known.timers):
                known.stop(remote)
            known = None
            del self._known[tunnel.name]
        if known is None and tunnel.port is not None:
            known = self._known[tunnel.name] = _Known(tunnel, tunnel.port)
        return known

    def _again(self, known: _Known, remote: IPAddress) -> None:
        if self._known_of(known.tunnel) is known:
            self._follow(known, remote)

    def _follow(self, known: _Known, remote: IPAddress) -> None:
        """Let packets obey the path to *remote*, and look again when what is believed ends."""
        tunnel, path, now = known.tunnel, known.paths[remote], self._loop.time()
        head = overhead(tunnel.config)
        widest = tunnel.mtu + head
        before = path.mtu, path.fragmentable
        path.look(widest, now)
        known.stop(remote)
        if (seconds := path.due(now)) is not None:
            known.timers[remote] = self._loop.call_later(seconds, self._again, known, remote)
        if (path.mtu, path.fragmentable) == before:
            return
        room = None if path.mtu is None else path.mtu - head
        known.port.limit_path(remote, room, fragmentable=path.fragmentable)
        fields: dict[str, object] = {
            "remote": str(remote),
            "path_mtu": path.mtu or widest,
            "before": before[0] or widest,
            "detail": _detail(path, room),
        }
        self._listener(Event("path_mtu_changed", "info", tunnel.name, fields))


def _detail(path: PathMtu, room: int | None) -> str:
    """Say what becomes of packets that the path does not carry."""
    if path.fragmentable:
        return f"it carries less than {path.mtu}: outer packets may be fragmented"
    return "" if room is None else f"inner packets above {room} are cut or refused"
