"""Coalescing of the pure-Python codec: packets of one flow into one super-packet.

Part of the twin of the C codec. The rules are those of the kernel's GRO: what is merged must come
out of segmentation as it came in. The order within a flow never changes, because a packet that
cannot join its flow's run closes it. Headers are changed when a batch ends, not before.

Terms: a run is the packets of one flow that will leave as one frame; its first packet lends the
headers. A merged packet is one that receive offload below has put together already.
"""

import struct
from dataclasses import dataclass

from gred.dataplane.hashes import mix
from gred.dataplane.layout import TunnelFlag, TunnelRecord
from gred.dataplane.pure_emit import Decapsulated, Writer, merged_size, unfinished
from gred.dataplane.pure_flags import has
from gred.dataplane.pure_inner import InnerPacket, has_right_checksum
from gred.wire import ip, transport
from gred.wire.checksum import pseudo_header_sum
from gred.wire.ip import IPv4Header
from gred.wire.transport import ACK, CWR, FIN, IPPROTO_TCP, IPPROTO_UDP, PSH, TcpHeader

RUN_SLOTS = 16
UDP_MAX_PACKETS = 64  # the kernel's UDP_MAX_SEGMENTS since 4.18; later kernels take 128

Flow = tuple[int, int, int, bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP or UDP packet with all that decides whether it may join a run."""

    packet: Decapsulated
    ip: InnerPacket
    payload: int  # offset
    flow: Flow  # tunnel, IP version, protocol, source, destination, ports
    size: int  # payload bytes that a full segment of its run has
    merged: bool
    candidate: bool

    @property
    def payload_length(self) -> int:
        """Bytes of the payload."""
        return self.packet.end - self.payload

    @property
    def slot(self) -> int:
        """Which run slot its flow has."""
        tunnel, _version, protocol, source, destination, ports = self.flow
        addresses = source.ljust(16, b"\0") + destination.ljust(16, b"\0")
        words = struct.unpack("=9I", addresses + ports)
        return mix((*words, tunnel | protocol << 24)) % RUN_SLOTS


@dataclass(slots=True)
class Run:
    """The packets of one flow that will leave as one frame."""

    first: Segment
    frame: int  # index of its write
    ip_length: int  # of the super-packet
    next_sequence: int  # TCP
    checked: bool  # the first packet's checksum is known to be right, or partial
    packets: int = 1
    fixed_id: bool = False  # all have the same IPv4 identification
    gathered: int = 0  # PSH and FIN of the members
    open: bool = True


class Coalescer:
    """The runs of one batch."""

    def __init__(self, view: memoryview, writer: Writer) -> None:
        self.view = view
        self.writer = writer
        self.queue = writer.queue
        self.slots: list[Run | None] = [None] * RUN_SLOTS
        self.runs: list[Run] = []

    def segment(self, record: TunnelRecord, packet: Decapsulated) -> Segment | None:
        """Return *packet* as a possible member of a run; None without a readable flow."""
        if packet.ip is None or packet.payload is None:
            return None
        header = packet.ip.header
        ports = bytes(self.view[packet.ip.transport : packet.ip.transport + 4])
        merged = merged_size(record, packet) if has(record.flags, TunnelFlag.WRITE_TSO) else 0
        return Segment(
            packet=packet,
            ip=packet.ip,
            payload=packet.payload,
            flow=(
                packet.tunnel,
                packet.ip.version,
                packet.ip.protocol,
                header.source,
                header.destination,
                ports,
            ),
            size=merged or packet.end - packet.payload,
            merged=bool(merged),
            candidate=self._is_candidate(record, packet.ip, packet.payload),
        )

    def _is_candidate(self, record: TunnelRecord, packet: InnerPacket, payload: int) -> bool:
        """Whether a packet could be a part of a super-packet at all."""
        has_options = packet.version == 4 and packet.header.length != ip.IPV4_HEADER
        if payload == packet.end or has_options:
            return False
        header = self.view[packet.transport : packet.end]
        if packet.protocol == IPPROTO_TCP:
            flags = TcpHeader.parse(header).flags
            return has(record.flags, TunnelFlag.WRITE_TSO) and flags & ~(PSH | FIN | CWR) == ACK
        length, checksum = struct.unpack_from("!HH", header, transport.UDP_LENGTH)
        if checksum == 0 or length != packet.transport_length:
            return False
        return has(record.flags, TunnelFlag.WRITE_USO)

    def join(self, segment: Segment) -> bool:
        """Add *segment* to the open run of its flow; else close that run and return False."""
        run = self.slots[segment.slot]
        if run is None or run.first.flow != segment.flow:
            return False
        if not segment.candidate or not self._may_join(run, segment):
            self._close(segment.slot)
            return False
        self.queue.add_piece(run.frame, segment.payload, segment.payload_length)
        self.queue.tun_writes[run.frame].packets += 1
        run.packets += 1
        run.ip_length += segment.payload_length
        ends = 0
        if segment.ip.protocol == IPPROTO_TCP:
            ends = self._tcp(segment).flags & (PSH | FIN)
            run.next_sequence = (run.next_sequence + segment.payload_length) & 0xFFFFFFFF
            run.gathered |= ends
        short = segment.payload_length < run.first.size and not run.first.merged
        if ends or short:
            self._close(segment.slot)
        return True

    def open(self, segment: Segment, frame: int) -> None:
        """Open a run with *segment*, which is queued as *frame*, if it may begin one."""
        if not segment.candidate:
            return
        next_sequence = 0
        if segment.ip.protocol == IPPROTO_TCP:
            header = self._tcp(segment)
            if header.flags & (PSH | FIN):
                return
            next_sequence = (header.sequence + segment.payload_length) & 0xFFFFFFFF
        run = Run(
            first=segment,
            frame=frame,
            ip_length=segment.packet.end - segment.ip.offset,
            next_sequence=next_sequence,
            checked=segment.packet.partial,
        )
        self._close(segment.slot)
        self.slots[segment.slot] = run
        self.runs.append(run)

    def close_tunnel(self, tunnel: int) -> None:
        """Close all runs of *tunnel*: a packet follows whose flow cannot be told."""
        for slot, run in enumerate(self.slots):
            if run is not None and run.first.packet.tunnel == tunnel:
                self._close(slot)

    def finish(self) -> None:
        """Make super-packets of the runs that have more than one packet."""
        for run in self.runs:
            if run.packets > 1:
                self._patch(run)

    def _close(self, slot: int) -> None:
        self.slots[slot] = None

    def _tcp(self, segment: Segment) -> TcpHeader:
        return TcpHeader.parse(self.view[segment.ip.transport : segment.packet.end])

    def _may_join(self, run: Run, segment: Segment) -> bool:
        first = run.first
        if segment.merged:
            if not first.merged or segment.size != first.size:
                return False
        elif segment.payload_length > first.size:
            return False
        if run.ip_length + segment.payload_length > ip.LONGEST_PACKET:
            return False
        if not self.queue.has_room(0, 1):
            return False
        if not self._has_same_ip(run, segment):
            return False
        if segment.ip.protocol == IPPROTO_UDP:
            if run.packets >= UDP_MAX_PACKETS:
                return False
        elif not self._continues_tcp(run, segment):
            return False
        # What is written as a super-packet is trusted by the kernel: no packet that was damaged on
        # the way may become a part of one. The first is verified when a second comes.
        run.checked = run.checked or has_right_checksum(self.view, first.ip)
        if not run.checked:
            return False
        return segment.packet.partial or has_right_checksum(self.view, segment.ip)

    def _has_same_ip(self, run: Run, segment: Segment) -> bool:
        """Whether all agrees that segmentation copies from the first packet to the others."""
        first, ours = run.first.ip, segment.ip
        mac_header = self.view[first.start : first.offset]
        if mac_header != self.view[ours.start : ours.offset]:
            return False
        a, b = first.header, ours.header
        if not isinstance(a, IPv4Header) or not isinstance(b, IPv4Header):
            assert not isinstance(a, IPv4Header)  # noqa: S101 - one flow has one IP version
            assert not isinstance(b, IPv4Header)  # noqa: S101 - as above
            return (a.first_word, a.hop_limit) == (b.first_word, b.hop_limit)
        if (a.tos, a.ttl, a.fragment) != (b.tos, b.ttl, b.fragment):
            return False
        if run.first.merged:
            return True  # the identifications of merged packets jump
        if run.packets == 1 and b.fragment & ip.DONT_FRAGMENT:
            run.fixed_id = a.identification == b.identification
        step = 0 if run.fixed_id else run.packets
        return b.identification == (a.identification + step) & 0xFFFF

    def _continues_tcp(self, run: Run, segment: Segment) -> bool:
        a, b = self._tcp(run.first), self._tcp(segment)
        if b.flags & CWR or b.sequence != run.next_sequence:
            return False
        if (a.acknowledgment, a.offset_byte, a.window) != (
            b.acknowledgment,
            b.offset_byte,
            b.window,
        ):
            return False
        return self._tcp_options(run.first) == self._tcp_options(segment)

    def _tcp_options(self, segment: Segment) -> memoryview:
        return self.view[segment.ip.transport + transport.TCP_HEADER : segment.payload]

    def _patch(self, run: Run) -> None:
        """Make the first packet's headers those of the whole run; the checksum is left partial."""
        view, packet = self.view, run.first.ip
        header = packet.transport
        rest = run.ip_length - packet.header.length
        ip.set_length(view, packet.offset, run.ip_length)
        if packet.protocol == IPPROTO_TCP:
            view[header + transport.TCP_FLAGS] |= run.gathered
        else:
            struct.pack_into("!H", view, header + transport.UDP_LENGTH, rest)
        total = pseudo_header_sum(
            packet.header.source, packet.header.destination, packet.protocol, rest
        )
        struct.pack_into("!H", view, header + transport.CHECKSUM[packet.protocol], total)
        first = run.first
        self.writer.write_vnet(run.frame, unfinished(view, first.packet, first.size))
