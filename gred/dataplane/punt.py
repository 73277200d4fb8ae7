"""Punt: what the fast path refused, told upwards as values, no faster than people can read.

Counters count every packet; reports show a few of them. Nothing here moves a packet.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gred.dataplane.batch import IngressBatch
from gred.dataplane.layout import Received
from gred.wire.drop import DropReason
from gred.wire.gre import BASE_LENGTH as GRE_BASE
from gred.wire.gre import KEY_PRESENT as GRE_KEY
from gred.wire.gre import PROTOCOL_EOIP, PROTOCOL_PPP
from gred.wire.gre import VERSION as GRE_VERSION

HEADER = 8  # bytes of a packet that is described
# A header that was refused for what it is: its key was not looked at.
UNREAD = {DropReason.TRUNCATED, DropReason.ROUTING, DropReason.RESERVED_BITS}


@dataclass(frozen=True, slots=True)
class Report:
    """One packet that was refused or lost.

    *tunnel* is the interface's name, or None when no tunnel claims the packet. Addresses and key
    are the outer packet's (on the way out: the tunnel's own), None where they are not known.
    *detail* is one more fact in words: an errno's name, flags and protocol type, where an inner
    packet wanted to go, or which key was expected.
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


def report_refused(
    batch: IngressBatch, entry: Received, tunnel: str | None, expected: int | None
) -> Report:
    """Return the report of a datagram that decapsulation refused.

    *tunnel*: whose it was; *expected*: the key that tunnel takes, None: it takes none.
    """
    width = 16 if entry.family == 6 else 4
    start, end = entry.offset, entry.offset + entry.length
    if entry.family == 4 and entry.length:
        start += (batch.arena[start] & 15) * 4
    reason = DropReason(entry.verdict)
    flags = _flags(batch.arena[start : min(start + 2, end)])
    keyed = flags & GRE_KEY and not flags & GRE_VERSION and reason not in UNREAD
    return Report(
        tunnel=tunnel,
        reason=reason,
        source=ip_address(bytes(entry.source[:width])),
        destination=ip_address(bytes(entry.destination[:width])),
        key=entry.key if keyed else None,
        detail=(
            f"it has {_key(entry.key if keyed else None)}, expected {_key(expected)}"
            if reason is DropReason.KEY_MISMATCH
            else describe(batch.arena[start : min(start + HEADER, end)])
        ),
    )


def describe(header: bytes) -> str:
    """Say what the first eight bytes from a GRE header on are."""
    if len(header) < GRE_BASE:
        return "no GRE header"
    flags, protocol = struct.unpack_from("!HH", header)
    text = f"flags 0x{flags:04x} protocol 0x{protocol:04x}"
    if flags & GRE_VERSION == 1 and len(header) >= HEADER:
        if protocol == PROTOCOL_EOIP:
            return f"EoIP tunnel id {int.from_bytes(header[6:8], 'little')}, {text}"
        if protocol == PROTOCOL_PPP:
            return f"PPTP call id {int.from_bytes(header[6:8])}, {text}"
    return text


def inner_destination(packet: bytes) -> str:
    """Say where an IP packet wants to go; nothing for any other."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return f"to {ip_address(packet[16:20])}"
    if version == 6 and len(packet) >= 40:
        return f"to {ip_address(packet[24:40])}"
    return ""


def _flags(data: bytes) -> int:
    return int.from_bytes(data) if len(data) == 2 else 0


def _key(key: int | None) -> str:
    return "no key" if key is None else f"key {key}"
