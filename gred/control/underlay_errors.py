"""Leads errors of the underlay to the tunnels they are about, and lets time pass for them.

What an error means is decided in refusal.py and path_mtu.py; here are only the clock and the timer.
"""

import asyncio
from collections.abc import Callable, Mapping

from gred.config.model import IPAddress
from gred.control.events import Listener
from gred.control.path_mtu import Obstacle
from gred.control.peer_paths import PeerPaths
from gred.control.refusal import CHECK_EVERY, Evidence
from gred.control.tunnel import Tunnel
from gred.dataplane.icmp_errors import UnderlayError
from gred.wire.icmp import ErrorKind

# Hosts whose last error is remembered. Who forges errors chooses the names: the oldest goes first.
OFFENDERS_AT_MOST = 256


class UnderlayErrors:
    """Calls *listener* with events of *tunnels*, by name; *look* when a path has changed.

    *lifetime*: IP version -> for how many seconds what is learned of a path is believed. *inquire*:
    ask the other end of a tunnel, as errors and packets contradict each other.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        listener: Listener,
        look: Callable[[], None],
        lifetime: Callable[[int], float],
        inquire: Callable[[Tunnel], None],
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._listener = listener
        self._look = look
        self._lifetime = lifetime
        self._inquire = inquire
        self._timer: asyncio.TimerHandle | None = None
        self.peer_paths = PeerPaths(loop, listener)
        self._open: dict[str, None] = {}  # tunnels that time may change something for
        self._heard: dict[IPAddress, float] = {}  # offender -> its last error; the oldest first

    def take(self, error: UnderlayError) -> None:
        """Take in one *error*."""
        tunnel = self._tunnels.get(error.tunnel)
        if tunnel is None or tunnel.attachment is None:
            return
        now = self._loop.time()
        if error.kind is ErrorKind.TOO_BIG:
            obstacle = Obstacle(error.mtu, error.length, is_proven=error.is_proven)
            lifetime = self._lifetime(tunnel.config.family)
            if tunnel.config.remote is None:
                if error.remote is not None:
                    self.peer_paths.take(tunnel, error.remote, obstacle, lifetime)
            elif tunnel.path.tell(obstacle, now, lifetime):
                self.follow(tunnel)
            return
        if tunnel.config.remote is None:
            return  # one of many that cannot be reached says nothing of the others
        self._hear(error.offender, now)
        tunnel.refusal.take(error, tunnel.config.remote, tunnel.attachment.traffic(), now)
        self._follow(tunnel)

    def follow(self, tunnel: Tunnel) -> None:
        """Let packets obey what the path carries; the interface follows when all is looked at."""
        now = self._loop.time()
        events = None if tunnel.seen is None else tunnel.follow_path(tunnel.seen, now)
        if events is not None and tunnel.attachment is not None:
            try:
                tunnel.attachment.update(tunnel.parameters())
            except OSError:
                tunnel.path.route_mtu = None  # as if it had changed: dealt with in the next look
        for event in events or ():
            self._listener(event)
        tunnel.stale = True
        self._look()

    def close(self) -> None:
        """Let no more time pass."""
        self.peer_paths.close()
        self._open.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hear(self, offender: IPAddress | None, now: float) -> None:
        if offender is None:
            return
        self._heard.pop(offender, None)
        self._heard[offender] = now
        if len(self._heard) > OFFENDERS_AT_MOST:
            del self._heard[next(iter(self._heard))]

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        for name in list(self._open):
            tunnel = self._tunnels.get(name)
            if tunnel is None or tunnel.attachment is None:
                del self._open[name]
                continue
            last, refusal = tunnel.attachment.last_error, tunnel.refusal
            heard = self._heard.get(refusal.offender) if refusal.offender is not None else None
            evidence = Evidence(tunnel.attachment.traffic(), last.at, last.traffic)
            if refusal.wants_inquiry(evidence):
                self._inquire(tunnel)
            refusal.check(evidence if heard is None else evidence._replace(heard=heard), now)
            self._follow(tunnel)

    def _follow(self, tunnel: Tunnel) -> None:
        """Tell what has changed for *tunnel*, and look at it again while more may change."""
        for event in tunnel.reconsider():
            self._listener(event)
        if tunnel.refusal.is_open:
            self._open[tunnel.name] = None
        else:
            self._open.pop(tunnel.name, None)
        if self._timer is None and self._open:
            self._timer = self._loop.call_later(CHECK_EVERY, self._check)
