"""Memory for packets: allocated once, lent for the length of one batch.

Terms. A *batch* is what one readiness of a descriptor moves. A *slot* is one packet's place in it.
The *arena* is the batch's packet memory; tables beside it (layout.py) say where in the arena things
are. *Headroom* is free memory before a packet, for headers. Whoever reads into a batch owns what
lies in it until the next read; nobody keeps a reference longer than that.

One egress and one ingress batch serve a whole process: batches are moved to their end before the
loop goes on. Pages are touched only where packets lie, so room costs address space, not memory.
Nothing here reads, writes or parses.
"""

import ctypes
import mmap

from gred.dataplane.layout import (
    FRAME_HEADROOM,
    Datagram,
    Destination,
    Frame,
    Outgoing,
    Piece,
    Received,
)

KIB = 1024
SUPER_PACKET = 64 * KIB  # the largest packet there is, and so the largest frame or datagram


def table(structure: type[ctypes.Structure], count: int) -> mmap.mmap:
    """Return zeroed memory for *count* structures; pages are taken when they are touched."""
    return mmap.mmap(-1, ctypes.sizeof(structure) * count)


class EgressBatch:
    """TUN to underlay: frames as read, datagrams as encapsulated, destinations as configured.

    The arena holds frames in front and the headers of segments behind them.
    """

    FRAMES = 64
    DATAGRAMS = 256
    # Four super-packets, or 64 frames of any size a device without offload has.
    FRAME_SPACE = 4 * (SUPER_PACKET + 2 * FRAME_HEADROOM) + SUPER_PACKET
    HEADER_SPACE = DATAGRAMS * 192  # GRE 16 + Ethernet 22 + IPv6 40 + TCP 60, rounded up to 64

    def __init__(self) -> None:
        self.arena = mmap.mmap(-1, self.FRAME_SPACE + self.HEADER_SPACE)
        self.frames = table(Frame, self.FRAMES)
        self.datagrams = table(Datagram, self.DATAGRAMS)

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


class IngressBatch:
    """Underlay to TUN: datagrams as received, frames to write as chains of pieces.

    A slot takes the largest datagram: receive offload merges GRE packets up to 64 KiB before a raw
    socket sees them. The stride is no power of two, so that the headers of consecutive slots do
    not compete for the same cache sets.
    """

    SLOTS = 128
    STRIDE = SUPER_PACKET + FRAME_HEADROOM + 17 * 64
    OUTGOING = 1024
    PIECES = 4096
    GSO_UDP = 5  # VIRTIO_NET_HDR_GSO_UDP_L4
    HEADER_SPACE = 128 * KIB  # used only for devices that take no super-packets

    def __init__(self) -> None:
        self.arena = mmap.mmap(-1, self.SLOTS * self.STRIDE + self.HEADER_SPACE)
        self.received = table(Received, self.SLOTS)
        self.outgoing = table(Outgoing, self.OUTGOING)
        self.pieces = table(Piece, self.PIECES)

    @property
    def headers_begin(self) -> int:
        """Offset of the header space in the arena."""
        return self.SLOTS * self.STRIDE

    @property
    def headers_end(self) -> int:
        """Offset behind the header space."""
        return self.headers_begin + self.HEADER_SPACE

    def datagram(self, index: int) -> Received:
        """Return a view of one received datagram's entry."""
        return Received.from_buffer(self.received, index * ctypes.sizeof(Received))

    def gso_type(self, frame: Outgoing) -> int:
        """Return the vnet header's gso_type, without the ECN bit, of a frame that has one."""
        piece = Piece.from_buffer(self.pieces, frame.first_piece * ctypes.sizeof(Piece))
        return int(self.arena[piece.offset + 1]) & 0x7F

    def frame(self, index: int) -> Outgoing:
        """Return a view of one outgoing frame's entry."""
        return Outgoing.from_buffer(self.outgoing, index * ctypes.sizeof(Outgoing))


def destination_table(count: int) -> mmap.mmap:
    """Return memory for *count* destinations."""
    return table(Destination, count)
