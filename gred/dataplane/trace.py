"""Copies of packets for people who watch (-vv). Used only while somebody watches.

Nothing here prints or decodes; nothing here is on the path of a packet that nobody watches.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from gred.dataplane.batch import EgressBatch, IngressBatch
from gred.dataplane.layout import Destination
from gred.wire.drop import DropReason

IPPROTO_GRE = 47


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


def _outer_header(
    destination: Destination, length: int, tos: int, ttl: int, dont_fragment: int
) -> bytes:
    local, remote = bytes(destination.local), bytes(destination.remote)
    if destination.family == 6:
        first = 6 << 28 | tos << 20
        return struct.pack("!IHBB", first, length, IPPROTO_GRE, ttl) + local + remote
    flags = 0x4000 if dont_fragment else 0
    return (
        struct.pack("!BBHHHBBH", 0x45, tos, 20 + length, 0, flags, ttl, IPPROTO_GRE, 0)
        + local[:4]
        + remote[:4]
    )


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
        outer = _outer_header(
            Destination.from_buffer(destinations, row),
            len(head) + len(body),
            datagram.tos,
            datagram.ttl,
            datagram.dont_fragment,
        )
        trace(TracedPacket("tx", tunnel, outer + head + body, DropReason.NONE))


def trace_received(batch: IngressBatch, count: int) -> list[TracedPacket]:
    """Return copies of the batch's first *count* datagrams, not yet judged."""
    copies = []
    for index in range(count):
        entry = batch.datagram(index)
        end = entry.offset + entry.length
        data = batch.arena[entry.offset : end]
        if entry.family == 6:
            first = 6 << 28 | entry.tos << 20
            data = (
                struct.pack("!IHBB", first, len(data), IPPROTO_GRE, entry.ttl)
                + bytes(entry.source)
                + bytes(entry.destination)
                + data
            )
        copies.append(TracedPacket("rx", None, data, DropReason.NONE))
    return copies
