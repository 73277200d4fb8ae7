"""Punt: what the fast path refused, told upwards as values, no faster than people can read.

Counters count every packet; reports show a few of them. Nothing here moves a packet.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gred.dataplane.batch import IngressBatch
from gred.dataplane.layout import Received
from gred.wire.drop import DropReason
from gred.wire.gre import KEY_PRESENT as GRE_KEY


@dataclass(frozen=True, slots=True)
class Report:
    """One packet that was refused or lost.

    *tunnel* is the interface's name, or None when no tunnel claims the packet. Addresses and key
    are the outer packet's (on the way out: the tunnel's own), None where they are not known.
    *detail* is one more fact in words: an errno's name, or flags and protocol type.
    """

    tunnel: str | None
    reason: DropReason
    source: IPv4Address | IPv6Address | None
    destination: IPv4Address | IPv6Address | None
    key: int | None
    detail: str


class Allowance:
    """A token bucket: *rate* reports a second, at most *burst* at once."""

    def __init__(self, rate: float = 20.0, burst: float = 20.0) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = 0.0

    def take(self, now: float) -> bool:
        """Take one token at *now* (seconds, monotonic); False when there is none."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def report_refused(batch: IngressBatch, entry: Received, tunnel: str | None) -> Report:
    """Return the report of a datagram that decapsulation refused. *tunnel*: whose it was."""
    width = 16 if entry.family == 6 else 4
    start, end = entry.offset, entry.offset + entry.length
    if entry.family == 4 and entry.length:
        start += (batch.arena[start] & 15) * 4
    key, detail = None, "no GRE header"
    if start + 4 <= end:
        flags, protocol = struct.unpack_from("!HH", batch.arena, start)
        key = entry.key if flags & GRE_KEY else None
        detail = f"flags 0x{flags:04x} protocol 0x{protocol:04x}"
    return Report(
        tunnel=tunnel,
        reason=DropReason(entry.verdict),
        source=ip_address(bytes(entry.source[:width])),
        destination=ip_address(bytes(entry.destination[:width])),
        key=key,
        detail=detail,
    )
