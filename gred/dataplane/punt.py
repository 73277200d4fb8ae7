"""Punt: what the fast path refused, handed upwards as values, no faster than it can be looked at.

Counters count every packet. A report shows a few of them to people, without their content; whoever
subscribes to a reason is handed the packets refused for it, with their bytes. Nothing here sends or
writes a packet.
"""

import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

from gred.dataplane.batch import Arrivals
from gred.dataplane.layout import Received, Transport
from gred.wire.drop import DropReason
from gred.wire.gre import BASE_LENGTH as GRE_BASE
from gred.wire.gre import KEY_PRESENT as GRE_KEY
from gred.wire.gre import PROTOCOL_EOIP, PROTOCOL_PPP
from gred.wire.gre import VERSION as GRE_VERSION

HEADER = 8  # bytes of a packet that is described
LONGEST_PUNT = 2048  # bytes of a packet that is handed upwards
# A second, at once: of one tunnel, and of all and what is no tunnel's.
PUNTS_OF_TUNNEL = 50.0, 50.0
PUNTS_OF_ALL = 500.0, 500.0
# A header that was refused for what it is: its key was not looked at.
UNREAD = {DropReason.TRUNCATED, DropReason.ROUTING, DropReason.RESERVED_BITS}


@dataclass(frozen=True, slots=True)
class Report:
    """One packet that was refused or lost.

    *tunnel* is the interface's name, or None when no tunnel claims the packet. Addresses and key
    are the outer packet's (on the way out: the tunnel's own), None where they are not known.
    *detail* is one more fact in words: an errno's name, flags and protocol type, where an inner
    packet wanted to go, or which key was expected. *expected*: that key; *protocol*: the protocol
    type; None where a packet was refused before it was read. *in_udp*: whether it came in UDP.
    """

    tunnel: str | None
    reason: DropReason
    source: IPv4Address | IPv6Address | None
    destination: IPv4Address | IPv6Address | None
    key: int | None
    detail: str
    expected: int | None = None
    protocol: int | None = None
    in_udp: bool = False


class Allowance:
    """A token bucket: *rate* reports a second, at most *burst* at once."""

    __slots__ = "_burst", "_filled_at", "_rate", "_tokens"

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Punted:
    """A packet that was refused for a reason that somebody subscribes to.

    *data*: from its GRE header on, cut at LONGEST_PUNT bytes; *inner*: where in it that header
    ends, 0 where it was not read. Addresses, *tos* and *ttl* are the outer packet's.
    """

    tunnel: str | None
    """Name of the interface whose it is; None: no tunnel's."""
    reason: DropReason
    transport: Transport
    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    tos: int
    ttl: int
    data: bytes
    inner: int


class _Named(Protocol):
    name: str


class Punting(Protocol):
    """What must be known of a tunnel to hand its packets upwards."""

    @property
    def device(self) -> _Named:
        """Its interface."""

    @property
    def punts(self) -> Allowance:
        """How many are handed upwards."""

    @property
    def awaited(self) -> Collection[bytes]:
        """What a packet must contain to be handed upwards above the allowance.

        A secret that only an answer has, so that a flood of others hides no answer. A few at most;
        whoever puts one in takes it out when it has come, or is no longer waited for.
        """

    def count_punted(self, reason: DropReason) -> None:
        """Count a packet as handed upwards, and no more as dropped for *reason*."""


Take = Callable[[Punted], None]


class Punts:
    """Hands packets to whoever subscribes to the reason they were refused for.

    *tunnels*: by the index of their record. A packet above the allowance stays a drop, counted as
    all others; nothing is allocated for it.
    """

    def __init__(self, tunnels: Mapping[int, Punting]) -> None:
        self._tunnels = tunnels
        self._takers: dict[int, Take] = {}
        self._allowance = Allowance(*PUNTS_OF_ALL)

    def subscribe(self, reasons: Collection[DropReason], take: Take) -> None:
        """Call *take* from the loop with packets refused for one of *reasons*; it must not block.

        One subscriber for a reason: a later one replaces it.
        """
        self._takers.update(dict.fromkeys(map(int, reasons), take))

    def hand_up(self, arrivals: Arrivals, verdicts: bytes, now: float) -> None:
        """Look at the batch in *arrivals*, to which decapsulation has given *verdicts*."""
        for reason, take in self._takers.items():
            index = verdicts.find(reason)
            while index >= 0:
                self._hand_up(arrivals, arrivals.datagram(index), take, now)
                index = verdicts.find(reason, index + 1)

    def takes(self, reason: int) -> bool:
        """Whether somebody subscribes to *reason*."""
        return reason in self._takers

    def _hand_up(self, arrivals: Arrivals, entry: Received, take: Take, now: float) -> None:
        tunnel = self._tunnels.get(entry.tunnel)
        if tunnel is None or not _is_awaited(tunnel.awaited, arrivals, entry):
            # A tunnel that is flooded must not use up what is all others'.
            if tunnel is not None and not tunnel.punts.take(now):
                return
            if not self._allowance.take(now):
                return
        reason, width = DropReason(entry.verdict), 16 if entry.family == 6 else 4
        if tunnel is not None:
            tunnel.count_punted(reason)
        start = entry.offset + entry.outer_length
        take(
            Punted(
                tunnel=None if tunnel is None else tunnel.device.name,
                reason=reason,
                transport=Transport(entry.transport),
                source=ip_address(bytes(entry.source[:width])),
                destination=ip_address(bytes(entry.destination[:width])),
                tos=entry.tos,
                ttl=entry.ttl,
                data=arrivals.payload(entry, LONGEST_PUNT),
                inner=max(entry.inner_offset - start, 0),
            )
        )


def _is_awaited(awaited: Collection[bytes], arrivals: Arrivals, entry: Received) -> bool:
    start, end = entry.offset + entry.outer_length, entry.offset + entry.length
    return any(arrivals.arena.find(secret, start, end) >= 0 for secret in awaited)


def report_refused(
    arrivals: Arrivals, entry: Received, tunnel: str | None, expected: int | None
) -> Report:
    """Return the report of a datagram that decapsulation refused.

    *tunnel*: whose it was; *expected*: the key that tunnel takes, None: it takes none.
    """
    width = 16 if entry.family == 6 else 4
    reason = DropReason(entry.verdict)
    header = arrivals.payload(entry, HEADER)
    flags = _flags(header[:2])
    keyed = flags & GRE_KEY and not flags & GRE_VERSION and reason not in UNREAD
    return Report(
        tunnel=tunnel,
        reason=reason,
        source=ip_address(bytes(entry.source[:width])),
        destination=ip_address(bytes(entry.destination[:width])),
        key=entry.key if keyed else None,
        detail=_detail(arrivals, entry, header, entry.key if keyed else None, expected),
        expected=expected,
        protocol=int.from_bytes(header[2:4]) if len(header) >= GRE_BASE else None,
        in_udp=entry.transport == Transport.UDP,
    )


def _detail(
    arrivals: Arrivals, entry: Received, header: bytes, key: int | None, expected: int | None
) -> str:
    """Say more of a refused datagram than its reason does."""
    match entry.verdict:
        case DropReason.KEY_MISMATCH:
            return f"it has {_key(key)}, expected {_key(expected)}"
        case DropReason.SPOOFED:
            return inner_source(arrivals.arena[entry.inner_offset : entry.inner_offset + 40])
        case _:
            return describe(header)


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


def inner_source(packet: bytes) -> str:
    """Say where an IP packet comes from; nothing for any other."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return f"from {ip_address(bytes(packet[12:16]))}"
    if version == 6 and len(packet) >= 40:
        return f"from {ip_address(bytes(packet[8:24]))}"
    return ""


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
