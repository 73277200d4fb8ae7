"""``-vv``: one decoded line per packet, and a limit to how many.

Nothing here decodes: the decoder is handed in. Lines that did not fit are counted and told.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gred.management.ratelimit import TokenBucket

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.dataplane.trace import TracedPacket

LINES_PER_SECOND = 50  # what a person may follow; each costs about a millisecond to decode
_BURST = 100
_HEX_BYTES = 2048  # a merged packet has up to 65,535


class PacketTracer:
    """The data plane's *trace* callback: *decode* makes a packet's line, *hexdump* adds hex."""

    def __init__(
        self,
        log: "FilteringBoundLogger",
        decode: "Callable[[TracedPacket], str]",
        *,
        hexdump: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._decode = decode
        self._hexdump = hexdump
        self._clock = clock
        self._told = clock()
        self._bucket = TokenBucket(rate=LINES_PER_SECOND, burst=_BURST, clock=clock)

    def __call__(self, packet: "TracedPacket") -> None:
        """Log *packet*, unless too many were logged just now."""
        if not self._bucket.take():
            return
        if self._clock() - self._told >= 1:
            self.flush()
        text = self._decode(packet)
        shown = None
        if self._hexdump:
            shown = packet.data[:_HEX_BYTES].hex()
            if len(packet.data) > _HEX_BYTES:
                text += f" (hex of the first {_HEX_BYTES} of {len(packet.data)} bytes)"
        self._log.debug(
            "packet",
            text=text,
            direction=packet.direction,
            tunnel=packet.tunnel,
            reason=packet.reason or None,
            hex=shown,
        )

    def flush(self) -> None:
        """Say how many lines were suppressed, if any were since the last time."""
        self._told = self._clock()
        if count := self._bucket.suppressed():
            self._log.debug("packets_suppressed", count=count)
