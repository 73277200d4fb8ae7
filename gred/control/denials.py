"""Leads packets that this host denied to the tunnels they are of, and lets time pass for them.

What they mean is decided in denial.py; here are only the clock and the timer.
"""

import asyncio
from collections.abc import Mapping

from gred.control.denial import CHECK_EVERY
from gred.control.events import Listener
from gred.control.kernel.denier import who_refuses
from gred.control.tunnel import Tunnel

_SLICE = 128  # tunnels looked at in one turn of the loop: packets come first


class Denials:
    """Calls *listener* with events of *tunnels*, by name. Looks only at those that were denied."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tunnels: Mapping[str, Tunnel], listener: Listener
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._listener = listener
        self._open: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, name: str | None, how: str) -> None:
        """Take in that a packet of tunnel *name* was denied."""
        tunnel = self._tunnels.get(name) if name is not None else None
        if tunnel is None or tunnel.attachment is None or tunnel.denial.is_open:
            return
        if tunnel.exposure:
            return  # it is gred itself who refuses
        who = who_refuses(tunnel.parameters())
        tunnel.denial.take(tunnel.attachment.counters(), how, self._loop.time(), who)
        self._open[tunnel.name] = None
        if self._timer is None:
            self._later()

    def close(self) -> None:
        """Let no more time pass."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _later(self) -> None:
        # Each is looked at about once in CHECK_EVERY, however many there are.
        turns = 1 + len(self._open) // _SLICE
        self._timer = self._loop.call_later(CHECK_EVERY / turns, self._check)

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        for name in list(self._open)[:_SLICE]:
            del self._open[name]
            tunnel = self._tunnels.get(name)
            if tunnel is None or tunnel.attachment is None or not tunnel.denial.is_open:
                continue
            tunnel.denial.check(tunnel.attachment.counters(), now)
            if tunnel.denial.is_open:
                self._open[name] = None  # behind the others
            for event in tunnel.reconsider():
                self._listener(event)
        if self._open:
            self._later()
