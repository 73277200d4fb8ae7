"""Leads errors of the underlay to the tunnels they are about, and lets time pass for them.

What an error means is decided in refusal.py and path_mtu.py; here are only the clock and the timer.
"""

import asyncio
from collections.abc import Callable, Mapping

from gred.control.parts import Listener
from gred.control.refusal import CHECK_EVERY
from gred.control.tunnel import Tunnel
from gred.dataplane.icmp_errors import UnderlayError
from gred.wire.icmp import ErrorKind


class UnderlayErrors:
    """Calls *listener* with events of *tunnels*, by name; *look* when a route may have changed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: Mapping[str, Tunnel],
        listener: Listener,
        look: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._listener = listener
        self._look = look
        self._timer: asyncio.TimerHandle | None = None

    def take(self, error: UnderlayError) -> None:
        """Take in one *error*."""
        tunnel = self._tunnels.get(error.tunnel)
        if tunnel is None or tunnel.port is None:
            return
        now = self._loop.time()
        if error.kind is ErrorKind.TOO_BIG:
            # The kernel has learned it, too, where it can: the route tells.
            tunnel.path.tell(error.mtu, now)
            self._look()
            return
        received = tunnel.port.counters().rx_packets
        tunnel.refusal.take(error, tunnel.config.remote, received, now)
        self._tell(tunnel)
        if self._timer is None and tunnel.refusal.is_open:
            self._timer = self._loop.call_later(CHECK_EVERY, self._check)

    def close(self) -> None:
        """Let no more time pass."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        for tunnel in self._tunnels.values():
            if not tunnel.refusal.is_open or tunnel.port is None:
                continue
            tunnel.refusal.check(tunnel.port.counters().rx_packets, self._loop.time())
            self._tell(tunnel)
            if self._timer is None and tunnel.refusal.is_open:
                self._timer = self._loop.call_later(CHECK_EVERY, self._check)

    def _tell(self, tunnel: Tunnel) -> None:
        for event in tunnel.reconsider():
            self._listener(event)
