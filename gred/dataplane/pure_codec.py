"""The pure-Python codec: the readable twin of the C codec, with the same contract (_codec.pyi).

It runs where the extension is absent, and says in the tests what the extension must do: every byte
of every buffer is the same. This module checks the buffers; the work is in pure_encapsulate and
pure_decapsulate. No system call.
"""

import ctypes
from typing import TYPE_CHECKING, Any, TypeVar

from gred.dataplane import pure_peers
from gred.dataplane.layout import (
    FRAME_HEADROOM,
    VNET_HEADER,
    Datagram,
    Descriptor,
    Destination,
    Frame,
    Piece,
    Received,
    RxState,
    TunnelRecord,
    TunWrite,
    TxState,
)
from gred.dataplane.peer_table import PeerTable
from gred.dataplane.pure_decapsulate import Decapsulator
from gred.dataplane.pure_emit import Queue, Writer
from gred.dataplane.pure_encapsulate import Encapsulator
from gred.dataplane.pure_flows import order_frame
from gred.dataplane.pure_lookup import LookupTable
from gred.dataplane.pure_segment import HeaderSpace
from gred.dataplane.pure_sources import SourceRanges
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "checksum",
    "decapsulate",
    "encapsulate",
    "find_learners",
    "find_unlearned_source",
    "order_frames",
    "route_frames",
    "spread_datagrams",
]

# Reasons that the codec counts, by their numbers without a gap; others are counted elsewhere.
JUDGED = sum(1 for number, reason in enumerate(DropReason) if reason == number)

Row = TypeVar("Row", bound=ctypes.Structure)


def _table(buffer: "WriteableBuffer", kind: type[Row]) -> "ctypes.Array[Row]":
    """Return a view of *buffer* as an array of structures, as many as fit."""
    view = memoryview(buffer).cast("B")
    return (kind * (len(view) // ctypes.sizeof(kind))).from_buffer(view)


def _inside(rows: "list[Any]", arena: memoryview) -> bool:
    return all(
        row.offset >= FRAME_HEADROOM and row.offset + row.length <= len(arena) for row in rows
    )


def encapsulate(
    arena: "WriteableBuffer",
    frames: "WriteableBuffer",
    first: int,
    count: int,
    tunnels: "WriteableBuffer",
    states: "WriteableBuffer",
    tunnel: int,
    datagrams: "WriteableBuffer",
    headers_begin: int,
    headers_end: int,
    /,
) -> tuple[int, int, int]:
    """See _codec.pyi."""
    view = memoryview(arena).cast("B")
    frame_table = _table(frames, Frame)
    records, tx_states = _table(tunnels, TunnelRecord), _table(states, TxState)
    if not (
        0 <= first <= count <= len(frame_table)
        and 0 <= tunnel < min(len(records), len(tx_states))
        and 0 <= headers_begin <= headers_end <= len(view)
    ):
        raise ValueError("encapsulate: a table is smaller than its count")
    record = records[tunnel]
    if not _inside(frame_table[first:count], view) or record.vnet_header > VNET_HEADER:
        raise ValueError("encapsulate: a frame lies outside the arena")

    headers = HeaderSpace(headers_begin, headers_end)
    worker = Encapsulator(view, record, tx_states[tunnel], _table(datagrams, Datagram), headers)
    refused = 0
    for index in range(first, count):
        frame = frame_table[index]
        if not worker.add(frame, index):
            return worker.filled, index, refused
        refused += bool(frame.verdict)
    return worker.filled, count, refused


def order_frames(
    arena: "WriteableBuffer",
    frames: "WriteableBuffer",
    sparse: int,
    waiting: int,
    count: int,
    tunnels: "WriteableBuffer",
    tunnel: int,
    /,
) -> int:
    """See _codec.pyi."""
    view = memoryview(arena).cast("B")
    frame_table, records = _table(frames, Frame), _table(tunnels, TunnelRecord)
    fits = 0 <= sparse <= waiting <= count <= len(frame_table)
    if not fits or not 0 <= tunnel < len(records):
        raise ValueError("order_frames: a table is smaller than its count")
    record = records[tunnel]
    if not _inside(frame_table[waiting:count], view) or record.vnet_header > VNET_HEADER:
        raise ValueError("order_frames: a frame lies outside the arena")
    for index in range(waiting, count):
        sparse = order_frame(view, frame_table, sparse, index, record.flags)
    return sparse


def route_frames(
    arena: "WriteableBuffer",
    frames: "WriteableBuffer",
    count: int,
    limit: int,
    peers: "WriteableBuffer",
    destinations: "WriteableBuffer",
    /,
) -> int:
    """See _codec.pyi."""
    view = memoryview(arena).cast("B")
    table = PeerTable(memoryview(peers).cast("B"))
    frame_table = _table(frames, Frame)
    rows = frame_table[:count] if 0 <= count <= len(frame_table) else None
    if rows is None or any(row.offset + row.length > len(view) for row in rows):
        raise ValueError("route_frames: a buffer is smaller than its count")
    return pure_peers.route_frames(view, rows, limit, table, _table(destinations, Destination))


def spread_datagrams(
    datagrams: "WriteableBuffer",
    start: int,
    copy: int,
    count: int,
    first: int,
    destinations: "WriteableBuffer",
    states: "WriteableBuffer",
    tunnel: int,
    /,
) -> tuple[int, int, int]:
    """See _codec.pyi."""
    rows, tx_states = _table(datagrams, Datagram), _table(states, TxState)
    if not 0 <= start <= count <= first <= len(rows) or not 0 <= tunnel < len(tx_states):
        raise ValueError("spread_datagrams: a table is smaller than its count")
    spread = pure_peers.Spread(start, copy)
    filled = spread.fill(rows, count, first, _table(destinations, Destination), tx_states[tunnel])
    return filled, spread.next, spread.copy


def find_learners(
    received: "WriteableBuffer",
    count: int,
    tunnels: "WriteableBuffer",
    found: "WriteableBuffer",
    /,
) -> int:
    """See _codec.pyi."""
    entries, numbers = _table(received, Received), memoryview(found).cast("B").cast("I")
    if not 0 <= count <= len(entries):
        raise ValueError("find_learners: a buffer is smaller than its count")
    learners = pure_peers.find_learners(entries[:count], _table(tunnels, TunnelRecord))
    for index, number in enumerate(learners[: len(numbers)]):
        numbers[index] = number
    return min(len(learners), len(numbers))


def find_unlearned_source(
    arena: "WriteableBuffer",
    received: "WriteableBuffer",
    first: int,
    count: int,
    tunnel: int,
    peers: "WriteableBuffer",
    destinations: "WriteableBuffer",
    now: int,
    hold: int,
    /,
) -> int:
    """See _codec.pyi."""
    view = memoryview(arena).cast("B")
    entries = _table(received, Received)
    table = PeerTable(memoryview(peers).cast("B"))
    rows = entries[:count] if 0 <= first <= count <= len(entries) else None
    if rows is None or any(row.inner_offset + row.inner_length > len(view) for row in rows[first:]):
        raise ValueError("find_unlearned_source: a buffer is smaller than its count")
    hearing = pure_peers.Hearing(tunnel, table, _table(destinations, Destination), now, hold)
    for index in range(first, count):
        if hearing.is_unlearned(view, rows[index], index):
            return index
    return count


def decapsulate(
    arena: "WriteableBuffer",
    received: "WriteableBuffer",
    count: int,
    tunnels: "WriteableBuffer",
    states: "WriteableBuffer",
    descriptors: "WriteableBuffer",
    lookup: "WriteableBuffer",
    sources: "WriteableBuffer",
    tun_writes: "WriteableBuffer",
    pieces: "WriteableBuffer",
    headers: "WriteableBuffer",
    now: int,
    /,
) -> tuple[int, int]:
    """See _codec.pyi."""
    view = memoryview(arena).cast("B")
    entries = _table(received, Received)
    records, rx_states = _table(tunnels, TunnelRecord), _table(states, RxState)
    fds = _table(descriptors, Descriptor)
    if not (0 <= count <= len(entries) and 0 < len(records) <= min(len(rx_states), len(fds))):
        raise ValueError("decapsulate: a table is smaller than its count")
    if not _inside(entries[:count], view) or any(row.verdict >= JUDGED for row in entries[:count]):
        raise ValueError("decapsulate: a datagram lies outside the arena")

    worker = Decapsulator(
        view,
        records,
        rx_states,
        LookupTable(memoryview(lookup).cast("B"), len(records)),
        SourceRanges(memoryview(sources).cast("B")),
        Writer(
            view,
            Queue(_table(tun_writes, TunWrite), _table(pieces, Piece), fds),
            memoryview(headers).cast("B"),
        ),
        now,
    )
    refused = sum(bool(worker.add(entries[index])) for index in range(count))
    worker.finish()
    return worker.writer.queue.frames_used, refused
