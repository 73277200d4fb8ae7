"""Ingress, second half, of the pure-Python codec: decapsulated packets become frames to write.

Part of the twin of the C codec. Fills the tables of writes to TUNs and pieces; asks pure_coalesce
whether a packet joins one before it. Nothing here refuses a packet for what it is, only for want of
room.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gred.dataplane.layout import (
    NO_PIECE,
    VNET_HEADER,
    Descriptor,
    Piece,
    TunnelRecord,
    TunWrite,
)
from gred.dataplane.prefix import frame_prefix
from gred.dataplane.pure_inner import (
    InnerPacket,
    complete_checksum,
    find_payload,
    has_partial_checksum,
)
from gred.dataplane.pure_segment import HeaderSpace, SuperPacket, write_segment
from gred.wire import transport, vnet
from gred.wire.vnet import VnetHeader

if TYPE_CHECKING:
    import ctypes


@dataclass(frozen=True, slots=True)
class Decapsulated:
    """One packet that passed the ladder, and what is known of it."""

    tunnel: int
    start: int  # offset of the inner packet or frame
    length: int
    ip: InnerPacket | None = None  # None: not IP, or IP whose lengths do not fit
    payload: int | None = None  # offset of the TCP or UDP payload
    partial: bool = False  # its transport checksum is the pseudo-header sum
    unreadable: bool = False  # an IP packet of which the flow cannot be told
    crowded: bool = False  # what lies before it is another's, but for its own GRE header

    @property
    def end(self) -> int:
        """Offset behind the last byte."""
        return self.start + self.length


def inspect(
    view: memoryview,
    tunnel: int,
    start: int,
    length: int,
    ip: InnerPacket | None,
    *,
    crowded: bool = False,
) -> Decapsulated:
    """Return what coalescing and writing must know of the packet at *start*."""
    if ip is None:
        return Decapsulated(tunnel, start, length, crowded=crowded)
    return Decapsulated(
        tunnel=tunnel,
        start=start,
        length=length,
        ip=ip,
        payload=find_payload(view, ip),
        partial=has_partial_checksum(view, ip),
        unreadable=ip.header.is_fragment,
        crowded=crowded,
    )


class Queue:
    """The tables of writes to TUNs and their pieces, and how far they are filled."""

    def __init__(
        self,
        tun_writes: "ctypes.Array[TunWrite]",
        pieces: "ctypes.Array[Piece]",
        descriptors: "ctypes.Array[Descriptor]",
    ) -> None:
        self.tun_writes = tun_writes
        self.descriptors = descriptors
        self.pieces = pieces
        self.frames_used = 0
        self.pieces_used = 0

    def has_room(self, frames: int, pieces: int) -> bool:
        """Whether as many more fit."""
        return self.frames_used + frames <= len(
            self.tun_writes
        ) and self.pieces_used + pieces <= len(self.pieces)

    def add_frame(self, tunnel: int) -> int:
        """Begin a frame of one packet; return its index."""
        index = self.frames_used
        self.frames_used += 1
        self.tun_writes[index] = TunWrite(tunnel=tunnel, fd=self.descriptors[tunnel].fd, packets=1)
        return index

    def add_piece(self, frame: int, offset: int, length: int, *, is_header: bool = False) -> None:
        """Append a stretch of the arena, or of the headers, to *frame*."""
        index = self.pieces_used
        self.pieces_used += 1
        self.pieces[index] = Piece(offset, length, NO_PIECE, is_header)
        tun_write = self.tun_writes[frame]
        if tun_write.pieces == 0:
            tun_write.first_piece = index
        else:
            self.pieces[tun_write.last_piece].next = index
        tun_write.last_piece = index
        tun_write.pieces += 1
        tun_write.length += length


def merged_size(record: TunnelRecord, packet: Decapsulated) -> int:
    """Return the segment size of a packet that receive offload has merged; 0: it was not merged.

    The true size is not told: it is what fits the tunnel.
    """
    if packet.ip is None or packet.payload is None or not packet.partial:
        return 0
    if packet.ip.protocol != transport.IPPROTO_TCP:
        return 0
    size = int(record.mtu) - (packet.payload - packet.ip.offset)
    return size if 0 < size < packet.end - packet.payload else 0


def unfinished(view: memoryview, packet: Decapsulated, size: int) -> VnetHeader:
    """Return the header that makes the kernel finish the checksum, and cut if *size* is not 0."""
    if packet.ip is None or packet.payload is None:
        raise AssertionError("only TCP and UDP can be unfinished")
    gso_type = vnet.GSO_NONE
    if size:
        gso_type = vnet.GSO_UDP_L4
        if packet.ip.protocol == transport.IPPROTO_TCP:
            gso_type = vnet.GSO_TCPV4 if packet.ip.version == 4 else vnet.GSO_TCPV6
            if view[packet.ip.transport + transport.TCP_FLAGS] & transport.CWR:
                gso_type |= vnet.GSO_ECN
    return VnetHeader(
        flags=vnet.NEEDS_CSUM,
        gso_type=gso_type,
        hdr_len=packet.payload - packet.start if size else 0,
        gso_size=size,
        csum_start=packet.ip.transport - packet.start,
        csum_offset=transport.CHECKSUM[packet.ip.protocol],
    )


@dataclass(slots=True)
class Writer:
    """Queues packets, each for itself."""

    view: memoryview
    queue: Queue
    headers: memoryview
    space: HeaderSpace = field(init=False)

    def __post_init__(self) -> None:
        self.space = HeaderSpace(0, len(self.headers))

    def with_vnet(self, record: TunnelRecord, packet: Decapsulated) -> int | None:
        """Queue *packet* for a device with a vnet header; return its frame, None without room."""
        if not self.queue.has_room(1, 1 + packet.crowded):
            return None
        header = VnetHeader()
        if packet.partial:
            header = unfinished(self.view, packet, merged_size(record, packet))
        if packet.crowded:
            place = self.space.take(VNET_HEADER)
            if place is None:
                return None
            frame = self.queue.add_frame(packet.tunnel)
            self.queue.add_piece(frame, place, VNET_HEADER, is_header=True)
            self.queue.add_piece(frame, packet.start, packet.length)
        else:
            frame = self.queue.add_frame(packet.tunnel)
            self.queue.add_piece(frame, packet.start - VNET_HEADER, packet.length + VNET_HEADER)
        self.write_vnet(frame, header)
        return frame

    def write_vnet(self, frame: int, header: VnetHeader) -> None:
        """Put *header* where that of *frame* is: at the start of its first piece."""
        piece = self.queue.pieces[self.queue.tun_writes[frame].first_piece]
        memory = self.headers if piece.is_header else self.view
        memory[piece.offset : piece.offset + VNET_HEADER] = header.pack()

    def cut(self, record: TunnelRecord, packet: Decapsulated, size: int) -> bool:
        """Queue a packet that receive offload merged for a device that takes no super-packets.

        Return False, and queue nothing of it, when there is no room.
        """
        if packet.ip is None or packet.payload is None:
            raise AssertionError("only TCP is merged")
        super_packet = SuperPacket(
            start=packet.start,
            ip=packet.ip.offset,
            transport=packet.ip.transport,
            payload=packet.payload,
            end=packet.end,
            protocol=transport.IPPROTO_TCP,
            segment_size=size,
        )
        return self._segments(record, packet.tunnel, super_packet)

    def plain(self, record: TunnelRecord, packet: Decapsulated) -> bool:
        """Queue *packet* for a device without a vnet header: it takes finished packets only."""
        if not self.queue.has_room(1, 1):
            return False
        if packet.partial and packet.ip is not None:
            start = packet.ip.transport
            field = start + transport.CHECKSUM[packet.ip.protocol]
            complete_checksum(self.view, start, field, packet.end)
        prefix = frame_prefix(record, 0 if packet.ip is None else packet.ip.version)
        start = packet.start - len(prefix)
        self.view[start : packet.start] = prefix
        frame = self.queue.add_frame(packet.tunnel)
        self.queue.add_piece(frame, start, len(prefix) + packet.length)
        return True

    def _segments(self, record: TunnelRecord, tunnel: int, packet: SuperPacket) -> bool:
        offsets = range(0, packet.payload_length, packet.segment_size)
        if not self.queue.has_room(len(offsets), 2 * len(offsets)):
            return False
        prefix = frame_prefix(record, 4 if self.view[packet.ip] >> 4 == 4 else 6)
        size_of_head = len(prefix) + packet.headers
        if not self.space.has_room(size_of_head, len(offsets)):
            return False
        for done in offsets:
            head = self.space.take(size_of_head)
            if head is None:
                raise AssertionError("room was made sure of")
            self.headers[head : head + len(prefix)] = prefix
            size = write_segment(self.view, packet, done, self.headers, head + len(prefix))
            frame = self.queue.add_frame(tunnel)
            self.queue.add_piece(frame, head, size_of_head, is_header=True)
            self.queue.add_piece(frame, packet.payload + done, size)
        return True
