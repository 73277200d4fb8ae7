"""Copies of packets for people who watch: -vv, gred trace, gred capture. Used only meanwhile.

Whoever watches says which packets, before they are copied. Nothing here prints, decodes or waits;
nothing here is on the path of a packet that nobody watches.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gred.dataplane.batch import Arrivals, EgressBatch
from gred.dataplane.layout import Destination, Transport
from gred.dataplane.linux import IPPROTO_GRE
from gred.wire.drop import DropReason
from gred.wire.gre import UDP_PORT
from gred.wire.ip import DONT_FRAGMENT, IPV4_HEADER
from gred.wire.transport import IPPROTO_UDP, UDP_HEADER

# Received, as layout.py has it; key and inner packet left out. A tenth of the time of its members.
_ROW = struct.Struct("=II6BHI12x16s16s")
_Row = tuple[Any, ...]
_REASONS = tuple(DropReason)


@dataclass(frozen=True, slots=True)
class TracedPacket:
    """One packet as it left or arrived.

    *inside*: what *data* is of a packet that was refused before it had an outer header; empty:
    *data* begins with the outer IP header. On the way out the kernel builds that header, so that
    source (if left to routing), identification and header checksum are zero here.
    """

    direction: Literal["tx", "rx"]
    tunnel: str | None
    data: bytes
    reason: DropReason
    inside: Literal["", "ip", "ethernet"] = ""


class Watcher(Protocol):
    """Who watches. Called from the loop; must not block."""

    @property
    def room(self) -> bool:
        """Whether it takes packets now. Stays as it is while a batch moves, but for ``take``."""
        ...

    def wants(self, tunnel: str | None, reason: DropReason, source: bytes, count: int, /) -> bool:
        """Whether it takes the next *count* packets of this kind.

        It counts for itself what it has no room for. *source*: the outer one, on the way in, 16
        bytes as in `Received`.
        """
        ...

    def take(self, packet: TracedPacket, /) -> None:
        """Take one that it wants."""


@dataclass(frozen=True, slots=True, eq=False)
class Everything:
    """Watches all packets. *take* is called with each."""

    take: Callable[[TracedPacket], None]
    room: bool = True

    def wants(self, *_kind: object) -> bool:
        """Yes."""
        return True


class Tap:
    """Where packets are watched: all watchers of a data plane."""

    def __init__(self) -> None:
        self.watchers: tuple[Watcher, ...] = ()
        """Empty: nothing is done for anybody."""

    def add(self, watcher: Watcher) -> None:
        """Let *watcher* see packets from now on."""
        self.watchers = (*self.watchers, watcher)

    def remove(self, watcher: Watcher) -> None:
        """Show *watcher* nothing more. Harmless twice."""
        self.watchers = tuple(one for one in self.watchers if one is not watcher)

    def takers(
        self, count: int, tunnel: str | None, reason: DropReason, source: bytes = b""
    ) -> list[Watcher]:
        """Return who takes *count* such packets; nobody where nobody has room."""
        return [one for one in self.watchers if one.wants(tunnel, reason, source, count)]


def _slice(arena: mmap.mmap, offset: int, length: int) -> bytes:
    return arena[offset : offset + length]


def outer_header(
    family: int,
    source: bytes,
    destination: bytes,
    length: int,
    tos: int,
    ttl: int,
    *,
    dont_fragment: bool = False,
    port: int = 0,
) -> bytes:
    """Return the header of a packet of *length* bytes of GRE; addresses are fields of 16 bytes.

    *port*: with a UDP header behind it, to that port; where from, and its checksum, is not known.
    """
    udp, protocol = b"", IPPROTO_GRE
    if port:
        length += UDP_HEADER
        udp, protocol = struct.pack("!HHHH", 0, port, length, 0), IPPROTO_UDP
    if family == 6:
        first = 6 << 28 | tos << 20
        return struct.pack("!IHBB", first, length, protocol, ttl) + source + destination + udp
    flags = DONT_FRAGMENT if dont_fragment else 0
    fields = 0x45, tos, IPV4_HEADER + length, 0, flags, ttl, protocol, 0
    return struct.pack("!BBHHHBBH", *fields) + source[:4] + destination[:4] + udp


def trace_sent(
    tap: Tap,
    tunnel: str,
    destinations: mmap.mmap,
    batch: EgressBatch,
    first: int,
    end: int,
    reason: DropReason = DropReason.NONE,
) -> None:
    """Show datagrams *first*..*end* of the batch, which go to *destinations*; *reason*: or not."""
    if first == end:
        return
    takers = tap.takers(end - first, tunnel, reason)
    for index in range(first, end if takers else first):
        datagram = batch.datagram(index)
        head = _slice(batch.arena, datagram.head_offset, datagram.head_length)
        body = _slice(batch.arena, datagram.body_offset, datagram.body_length)
        row = datagram.destination * ctypes.sizeof(Destination)
        place = Destination.from_buffer(destinations, row)
        outer = outer_header(
            place.family,
            bytes(place.local),
            bytes(place.remote),
            len(head) + len(body),
            datagram.tos,
            datagram.ttl,
            dont_fragment=bool(datagram.dont_fragment),
            port=place.port,
        )
        packet = TracedPacket("tx", tunnel, outer + head + body, reason)
        for taker in takers:
            taker.take(packet)


def trace_refused(
    tap: Tap, tunnel: str, batch: EgressBatch, index: int, reason: DropReason, *, is_ethernet: bool
) -> None:
    """Show frame *index* of the batch, which leaves for nowhere."""
    takers = tap.takers(1, tunnel, reason)
    if not takers:
        return
    frame = batch.frame(index)
    data = _slice(batch.arena, frame.offset, frame.length)
    packet = TracedPacket("tx", tunnel, data, reason, "ethernet" if is_ethernet else "ip")
    for taker in takers:
        taker.take(packet)


def copy_received(tap: Tap, arrivals: Arrivals, count: int) -> list[bytes]:
    """Return the batch's first *count* datagrams as they came: decapsulation patches headers.

    Nothing where nobody has room.
    """
    if not any(one.room for one in tap.watchers):
        return []
    return [_slice(arrivals.arena, row[0], row[1]) for row in _rows(arrivals, count)]


def trace_received(
    tap: Tap,
    arrivals: Arrivals,
    count: int,
    copies: Sequence[bytes],
    owner: Callable[[int], str | None],
) -> None:
    """Show the batch's first *count* datagrams, judged by now, as *copies* has them.

    *owner*: the name of the tunnel that a record belongs to.
    """
    rows = list(_rows(arrivals, count))
    first = 0
    while first < count:
        verdict, tunnel, source = rows[first][7], rows[first][9], rows[first][10]
        end = first + 1
        if not verdict:  # those that passed are asked for together
            while end < count and rows[end][9] == tunnel and not rows[end][7]:
                end += 1
        name, reason = owner(tunnel), _REASONS[verdict]
        takers = tap.takers(end - first, name, reason, source)
        for index in range(first, end if takers else first):
            data = _with_outer(rows[index], copies[index])
            packet = TracedPacket("rx", name, data, reason)
            for taker in takers:
                taker.take(packet)
        first = end


def _rows(arrivals: Arrivals, count: int) -> Iterator[_Row]:
    return _ROW.iter_unpack(arrivals.received[: count * _ROW.size])


def _with_outer(row: _Row, data: bytes) -> bytes:
    """Return *data* behind the outer header that the kernel took off, if it did and told of it."""
    _offset, _length, family, transport, outer_length, tos, ttl, *_, source, destination = row
    if outer_length or not any(source):
        return data
    port = UDP_PORT if transport == Transport.UDP else 0
    return outer_header(family, source, destination, len(data), tos, ttl, port=port) + data
