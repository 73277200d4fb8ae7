"""Copies of packets for people who watch (-vv). Used only while somebody watches.

Nothing here prints or decodes; nothing here is on the path of a packet that nobody watches.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gred.dataplane.batch import Arrivals, EgressBatch
from gred.dataplane.layout import Destination
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

    def judged(self, tunnel: str | None, reason: DropReason) -> "TracedPacket":
        """Return the same packet with the verdict on it."""
        return replace(self, tunnel=tunnel, reason=reason)


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
    trace: Callable[[TracedPacket], None],
    tunnel: str,
    destinations: mmap.mmap,
    batch: EgressBatch,
    first: int,
    end: int,
) -> None:
    """Call *trace* for datagrams *first*..*end* of the batch, which go to *destinations*."""
    for index in range(first, end):
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
        trace(TracedPacket("tx", tunnel, outer + head + body, DropReason.NONE))


def trace_received(arrivals: Arrivals, count: int) -> list[TracedPacket]:
    """Return copies of the batch's first *count* datagrams, not yet judged."""
    copies = []
    for index in range(count):
        entry = arrivals.datagram(index)
        data = arrivals.payload(entry)
        outer = arrivals.outer(entry)
        ends = bytes(entry.source), bytes(entry.destination)
        if not outer and any(ends[0]):  # the kernel took it off, and said what was in it
            outer = outer_header(entry.family, *ends, len(data), entry.tos, entry.ttl)
        copies.append(TracedPacket("rx", None, outer + data, DropReason.NONE))
    return copies
