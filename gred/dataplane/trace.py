"""Copies of packets for people who watch: -vv, gred trace, gred capture. Used only meanwhile.

Whoever watches says which packets, before they are copied. Nothing here prints, decodes or waits;
nothing here is on the path of a packet that nobody watches.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from gred.dataplane.batch import Arrivals, EgressBatch
from gred.dataplane.layout import Destination, Received
from gred.dataplane.linux import IPPROTO_GRE
from gred.wire.drop import DropReason
from gred.wire.ip import DONT_FRAGMENT, IPV4_HEADER


@dataclass(frozen=True, slots=True)
class TracedPacket:
    """One packet as it left or arrived.

    *data* begins with the outer IP header. On the way out the kernel builds that header, so that
    source (if left to routing), identification and header checksum are zero here.
    """

    direction: Literal["tx", "rx"]
    tunnel: str | None
    data: bytes
    reason: DropReason


def _everything(_tunnel: str | None, _reason: DropReason, _source: bytes, /) -> bool:
    return True


@dataclass(frozen=True, slots=True, eq=False)
class Watcher:
    """Who watches. *take* is called with each packet that *wants* says yes to, from the loop.

    *wants* is called with the tunnel, the reason and, on the way in, the outer source (16 bytes, as
    in `Received`), and counts for itself what it has no room for.
    """

    take: Callable[[TracedPacket], None]
    wants: Callable[[str | None, DropReason, bytes], bool] = _everything


class Tap:
    """Where packets are watched: all watchers of a data plane."""

    def __init__(self) -> None:
        self.watchers: tuple[Watcher, ...] = ()
        """Empty: nothing is copied."""

    def add(self, watcher: Watcher) -> None:
        """Let *watcher* see packets from now on."""
        self.watchers = (*self.watchers, watcher)

    def remove(self, watcher: Watcher) -> None:
        """Show *watcher* nothing more. Harmless twice."""
        self.watchers = tuple(one for one in self.watchers if one is not watcher)

    def takers(
        self, tunnel: str | None, reason: DropReason, source: bytes = b""
    ) -> list[Callable[[TracedPacket], None]]:
        """Return what is to be called with such a packet."""
        return [one.take for one in self.watchers if one.wants(tunnel, reason, source)]


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
) -> bytes:
    """Return the header of a packet of *length* bytes of GRE; addresses are fields of 16 bytes."""
    if family == 6:
        first = 6 << 28 | tos << 20
        return struct.pack("!IHBB", first, length, IPPROTO_GRE, ttl) + source + destination
    flags = DONT_FRAGMENT if dont_fragment else 0
    fields = 0x45, tos, IPV4_HEADER + length, 0, flags, ttl, IPPROTO_GRE, 0
    return struct.pack("!BBHHHBBH", *fields) + source[:4] + destination[:4]


def trace_sent(
    tap: Tap,
    tunnel: str,
    destinations: mmap.mmap,
    batch: EgressBatch,
    first: int,
    end: int,
    reason: DropReason = DropReason.NONE,
) -> None:
    """Show datagrams *first*..*end* of the batch, which go to *destinations*, or do not: *reason*."""
    for index in range(first, end):
        takers = tap.takers(tunnel, reason)
        if not takers:
            continue
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
        )
        packet = TracedPacket("tx", tunnel, outer + head + body, reason)
        for take in takers:
            take(packet)


def copy_received(arrivals: Arrivals, count: int) -> list[bytes]:
    """Return the batch's first *count* datagrams as they came: decapsulation patches headers."""
    size = ctypes.sizeof(Received) // 4
    with memoryview(arrivals.received).cast("I") as words:
        offsets = words[Received.offset.offset // 4 : count * size : size].tolist()
        lengths = words[Received.length.offset // 4 : count * size : size].tolist()
    return [_slice(arrivals.arena, *place) for place in zip(offsets, lengths, strict=True)]


def trace_received(
    tap: Tap, arrivals: Arrivals, copies: Sequence[bytes], owner: Callable[[int], str | None]
) -> None:
    """Show the batch's first datagrams, judged by now, as *copies* has them.

    *owner*: the name of the tunnel that a record belongs to.
    """
    for index, data in enumerate(copies):
        entry = arrivals.datagram(index)
        tunnel, reason, source = owner(entry.tunnel), DropReason(entry.verdict), bytes(entry.source)
        takers = tap.takers(tunnel, reason, source)
        if not takers:
            continue
        outer = b""
        if not entry.outer_length and any(source):
            # The kernel took it off, and said what was in it.
            ends = source, bytes(entry.destination)
            outer = outer_header(entry.family, *ends, len(data), entry.tos, entry.ttl)
        packet = TracedPacket("rx", tunnel, outer + data, reason)
        for take in takers:
            take(packet)
