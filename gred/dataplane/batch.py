"""Memory for packets: allocated once, lent for the length of one batch.

Terms. A *batch* is what moves together. A *slot* is one packet's place in it.
The *arena* is the batch's packet memory; tables beside it (layout.py) say where in the arena things
are. *Headroom* is free memory before a packet, for headers. Whoever reads into a slot owns what
lies in it until the packet has left; nobody keeps a reference longer than that.

What arrives lies in memory of the underlay that received it, and is moved to its end before the
loop goes on. Egress batches are lent to tunnels while frames of theirs wait (scheduler.py).
Pages are touched only where packets lie, so room costs address space, not memory.
Nothing here reads, writes or parses.
"""

import ctypes
import mmap

from gred.dataplane.layout import (
    FRAME_HEADROOM,
    Datagram,
    Destination,
    Frame,
    Piece,
    Received,
    TunWrite,
)

KIB = 1024
SUPER_PACKET = 64 * KIB  # the largest packet there is, and so the largest frame or datagram

# From slot to slot: room for the largest packet and its headroom. No power of two, so that the
# headers of consecutive slots do not compete for the same cache sets.
STRIDE = SUPER_PACKET + FRAME_HEADROOM + 17 * 64


def table(structure: type[ctypes.Structure], count: int) -> mmap.mmap:
    """Return zeroed memory for *count* structures; pages are taken when they are touched."""
    return mmap.mmap(-1, ctypes.sizeof(structure) * count)


class EgressBatch:
    """TUN to underlay: frames that wait, datagrams as encapsulated.

    The frame table is an order of the slots, as they are read and sent: entries before ``waiting``
    are frames in the order in which they leave, the first ``sparse`` of them small ones that go
    before others; the entries behind name free slots, that used last first. The arena holds slots
    in front and the headers of segments behind them.
    """

    FRAMES = 64
    DATAGRAMS = 128
    COPIES = 128  # behind them in the table: what goes to several remotes, once for each
    FRAME_SPACE = FRAMES * STRIDE
    HEADER_SPACE = DATAGRAMS * 192  # GRE 16 + Ethernet 22 + IPv6 40 + TCP 60, rounded up to 64

    def __init__(self) -> None:
        self.arena = mmap.mmap(-1, self.FRAME_SPACE + self.HEADER_SPACE)
        self.frames = table(Frame, self.FRAMES)
        self.datagrams = table(Datagram, self.DATAGRAMS + self.COPIES)
        self.turn = memoryview(self.datagrams)[: self.DATAGRAMS * ctypes.sizeof(Datagram)]
        """As much of the datagram table as may be filled in one turn."""
        self.limit = self.DATAGRAMS
        """How many that is, and how many frames are looked at."""
        self.waiting = 0
        self.sparse = 0
        self.overtaken = False
        """Whether a frame of the last read went before some that waited."""
        self.moved = False
        """Whether the last turn read, sent or refused anything."""
        self.tenure = 0
        """Datagrams that whoever holds the batch could send while others queued for it."""
        for index in range(self.FRAMES):
            self.frame(index).offset = index * STRIDE + FRAME_HEADROOM

    def limit_datagrams(self, count: int) -> None:
        """Let a turn fill *count* datagrams, of as many frames at the most."""
        if count == self.limit:
            return
        self.limit = count
        self.turn = memoryview(self.datagrams)[: count * ctypes.sizeof(Datagram)]

    def retire(self, count: int) -> None:
        """Free the slots of the first *count* frames that wait: they have left."""
        size = ctypes.sizeof(Frame)
        end, gone = self.waiting * size, count * size
        left = self.frames[:gone]
        self.frames[: end - gone] = self.frames[gone:end]
        self.frames[end - gone : end] = left
        self.waiting -= count
        self.sparse = max(self.sparse - count, 0)

    def forget_destinations(self) -> None:
        """Let the frames that wait be routed anew."""
        for index in range(self.waiting):
            frame = self.frame(index)
            frame.destination = frame.path_mtu = frame.fragmentable = 0

    def clear(self) -> None:
        """Free all slots."""
        self.waiting = self.sparse = self.tenure = 0

    @property
    def headers_begin(self) -> int:
        """Offset of the header space in the arena."""
        return self.FRAME_SPACE

    @property
    def headers_end(self) -> int:
        """Offset behind the header space."""
        return self.FRAME_SPACE + self.HEADER_SPACE

    def frame(self, index: int) -> Frame:
        """Return a view of one frame entry."""
        return Frame.from_buffer(self.frames, index * ctypes.sizeof(Frame))

    def datagram(self, index: int) -> Datagram:
        """Return a view of one datagram entry."""
        return Datagram.from_buffer(self.datagrams, index * ctypes.sizeof(Datagram))


class Arrivals:
    """Underlay to TUN, first half: datagrams as received. An underlay's memory.

    A slot takes the largest datagram: receive offload merges GRE packets up to 64 KiB before a raw
    socket sees them.
    """

    SLOTS = 128
    MOST = 2048
    """The most datagrams that there may be, where a slot takes several that the kernel merged."""

    def __init__(self, datagrams: int = SLOTS) -> None:
        self.arena = mmap.mmap(-1, self.SLOTS * STRIDE)
        self.limit = datagrams
        self.received = table(Received, datagrams)

    def datagram(self, index: int) -> Received:
        """Return a view of one received datagram's entry."""
        return Received.from_buffer(self.received, index * ctypes.sizeof(Received))

    def verdicts(self, count: int) -> bytes:
        """Return the verdicts of the first *count* datagrams, a byte for each."""
        size = ctypes.sizeof(Received)
        return self.received[Received.verdict.offset : count * size : size]

    def outer(self, entry: Received) -> bytes:
        """Return a copy of the outer header, as far as the kernel left it."""
        return self.arena[entry.offset : entry.offset + entry.outer_length]

    def payload(self, entry: Received, length: int | None = None) -> bytes:
        """Return a copy of what follows the outer header, of *length* bytes at most."""
        start, end = entry.offset + entry.outer_length, entry.offset + entry.length
        return self.arena[start : end if length is None else min(start + length, end)]


class TunWrites:
    """Underlay to TUN, second half: frames to write as chains of pieces. Ingress's memory.

    Pieces lie in the arena of the arrivals; the headers of those that are cut here.
    """

    FRAMES = Arrivals.MOST
    PIECES = 2 * FRAMES
    GSO_UDP = 5  # VIRTIO_NET_HDR_GSO_UDP_L4
    HEADER_SPACE = 128 * KIB  # of segments that are cut here, and for vnet headers: 64 for each

    def __init__(self) -> None:
        self.frames = table(TunWrite, self.FRAMES)
        self.pieces = table(Piece, self.PIECES)
        self.headers = mmap.mmap(-1, self.HEADER_SPACE)

    def frame(self, index: int) -> TunWrite:
        """Return a view of one frame's entry."""
        return TunWrite.from_buffer(self.frames, index * ctypes.sizeof(TunWrite))

    def gso_type(self, frame: TunWrite, arrivals: Arrivals) -> int:
        """Return the vnet header's gso_type, without the ECN bit, of a frame that has one."""
        piece = Piece.from_buffer(self.pieces, frame.first_piece * ctypes.sizeof(Piece))
        memory = self.headers if piece.is_header else arrivals.arena
        return int(memory[piece.offset + 1]) & 0x7F


def destination_table(count: int) -> mmap.mmap:
    """Return memory for *count* destinations."""
    return table(Destination, count)
