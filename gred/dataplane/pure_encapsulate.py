"""Egress of the pure-Python codec: frames of one tunnel into datagrams.

Part of the twin of the C codec; its contract is in _codec.pyi. No system call, no exception for a
packet: a refused one is counted by reason.

    frame -> ladder of refusals -> segments, or the frame in place -> GRE header -> datagram
"""

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gred.dataplane.hashes import label_flow
from gred.dataplane.layout import (
    NO_DESTINATION,
    VNET_HEADER,
    Datagram,
    Frame,
    TunnelFlag,
    TunnelRecord,
    TxState,
)
from gred.dataplane.pure_clamp import clamp_mss
from gred.dataplane.pure_flags import has
from gred.dataplane.pure_inner import VERSION, complete_checksum
from gred.dataplane.pure_segment import HeaderSpace, SuperPacket, write_segment
from gred.wire import ethernet, gre, ip, transport, vnet
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.vnet import VnetHeader

if TYPE_CHECKING:
    import ctypes

GSO_PROTOCOL = {
    vnet.GSO_TCPV4: transport.IPPROTO_TCP,
    vnet.GSO_TCPV6: transport.IPPROTO_TCP,
    vnet.GSO_UDP_L4: transport.IPPROTO_UDP,
}
TTL_OF_NON_IP = 64

# What no kernel cuts: UDP_MAX_SEGMENTS, as virtio_net_hdr_to_skb() has it, and TCP_MIN_GSO_SIZE,
# the least that TCP leaves for data beside its options. Else one frame would be 65,000 packets.
UDP_SEGMENT_LIMIT = 128
TCP_SEGMENT_LEAST = 8


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the inner packet says of the delivery header."""

    protocol: int  # GRE protocol type
    version: int  # of the inner IP header; 0: none
    ip: int  # offset of the inner IP header
    tos: int = 0
    ttl: int = TTL_OF_NON_IP
    dont_fragment: bool = False


class Encapsulator:
    """One call of encapsulate(): the buffers, and how far it has come."""

    def __init__(
        self,
        view: memoryview,
        record: TunnelRecord,
        state: TxState,
        datagrams: "ctypes.Array[Datagram]",
        headers: HeaderSpace,
    ) -> None:
        self.view = view
        self.record = record
        self.state = state
        self.flags: int = record.flags
        self.datagrams = datagrams
        self.headers = headers
        self.empty_headers = replace(headers)
        self.filled = 0
        self.gre_flags = (
            (gre.CHECKSUM_PRESENT if has(self.flags, TunnelFlag.OUTPUT_CHECKSUM) else 0)
            | (gre.KEY_PRESENT if has(self.flags, TunnelFlag.OUTPUT_KEY) else 0)
            | (gre.SEQUENCE_PRESENT if has(self.flags, TunnelFlag.OUTPUT_SEQUENCE) else 0)
        )
        self.gre_length = gre.header_length(self.gre_flags)

    def add(self, frame: Frame, index: int) -> bool:
        """Encapsulate *frame*, or refuse it; return False when there is no room to finish it."""
        # Asked first: making a datagram of a frame may complete its checksum, and that only once.
        if self.filled == len(self.datagrams):
            return False
        plan = self._plan(frame)
        if isinstance(plan, DropReason):
            frame.verdict = plan
            self.state.tx_drops[plan] += 1
            return True
        frame.verdict = DropReason.NONE
        delivery, packet = plan
        if packet is not None:
            return self._add_segments(frame, index, packet, delivery)
        head = (frame.offset - self.gre_length, self.gre_length + frame.length)
        self._add_datagram(frame, index, delivery, head, (0, 0))
        return True

    def _plan(self, frame: Frame) -> tuple[Delivery, SuperPacket | None] | DropReason:
        """Go down the ladder of refusals; return how to send *frame*, or why not."""
        if has(self.flags, TunnelFlag.BLOCKED):
            return DropReason.DEAD_LOOP
        if has(self.flags, TunnelFlag.NO_REMOTE) or frame.destination == NO_DESTINATION:
            return DropReason.NO_REMOTE
        delivery = self._read_headers(frame)
        if isinstance(delivery, DropReason):
            return delivery
        if frame.fragmentable:
            delivery = replace(delivery, dont_fragment=False)
        if self._enters_own_tunnel(frame, delivery):
            return DropReason.DEAD_LOOP
        meta = self._vnet_header(frame)
        packet: SuperPacket | None = None
        size = frame.length
        if meta.gso_type & ~vnet.GSO_ECN != vnet.GSO_NONE:
            packet = self._super_packet(frame, meta, delivery)
            if packet is None or not self._is_worth_cutting(packet):
                return DropReason.BAD_INNER
            size = min(size, packet.headers + packet.segment_size)
            if packet.payload_length == 0:
                packet = None  # nothing to cut
        if has(self.flags, TunnelFlag.ETHERNET):
            size -= ethernet.HEADER
        path_mtu = min(self.record.path_mtu, frame.path_mtu or self.record.path_mtu)
        if delivery.dont_fragment and size > path_mtu:
            return DropReason.TOO_BIG
        if packet is None and meta.flags & vnet.NEEDS_CSUM:
            if meta.csum_start + meta.csum_offset + 2 > frame.length:
                return DropReason.BAD_INNER
            start = frame.offset + meta.csum_start
            end = frame.offset + frame.length
            complete_checksum(self.view, start, start + meta.csum_offset, end)
        if packet is None and has(self.flags, TunnelFlag.CLAMP_MSS) and delivery.version:
            limit = min(self.record.mtu, path_mtu)
            clamp_mss(self.view, delivery.ip, frame.offset + frame.length, limit)
        # Headers that the empty space does not hold would be waited for without end.
        if packet is not None and not self.empty_headers.has_room(
            self.gre_length + packet.headers, 1
        ):
            return DropReason.BAD_INNER
        return delivery, packet

    def _read_headers(self, frame: Frame) -> Delivery | DropReason:
        """Look at the inner packet; TRUNCATED or UNKNOWN_PROTOCOL when it cannot be carried."""
        start, length = frame.offset, frame.length
        if has(self.flags, TunnelFlag.ETHERNET):
            if length < ethernet.HEADER:
                return DropReason.TRUNCATED
            ethertype, inside = ethernet.payload(self.view[start : start + length])
            version = VERSION.get(ethertype, 0)
            needed = ip.IPV4_HEADER if version == 4 else ip.IPV6_HEADER
            if length - inside < needed or self.view[start + inside] >> 4 != version:
                version = 0
            if version == 4 and self.view[start + inside] & 0x0F < 5:
                version = 0
            return self._delivery(gre.PROTOCOL_ETHERNET, version, start + inside)
        if length < 1:
            return DropReason.TRUNCATED
        if has(self.flags, TunnelFlag.PACKET_INFO):
            (protocol,) = struct.unpack_from("!H", self.view, start - 2)
            if protocol == self.record.protocol:
                return self._delivery(protocol, 0, start)
            if protocol not in VERSION:
                return DropReason.UNKNOWN_PROTOCOL
        version = self.view[start] >> 4
        if version == 4:
            header_length = (self.view[start] & 0x0F) * 4
            if length < ip.IPV4_HEADER or not ip.IPV4_HEADER <= header_length <= length:
                return DropReason.TRUNCATED
            return self._delivery(gre.PROTOCOL_IPV4, 4, start)
        if version == 6:
            if length < ip.IPV6_HEADER:
                return DropReason.TRUNCATED
            return self._delivery(gre.PROTOCOL_IPV6, 6, start)
        return DropReason.UNKNOWN_PROTOCOL

    def _delivery(self, protocol: int, version: int, offset: int) -> Delivery:
        tos, ttl, dont_fragment = 0, TTL_OF_NON_IP, False
        if version == 4:
            tos = self.view[offset + 1]
            ttl = self.view[offset + 8]
            if not has(self.flags, TunnelFlag.IGNORE_DONT_FRAGMENT):
                (fragment,) = struct.unpack_from("!H", self.view, offset + 6)
                dont_fragment = bool(fragment & ip.DONT_FRAGMENT)
        elif version == 6:
            (first_half,) = struct.unpack_from("!H", self.view, offset)
            tos = first_half >> 4 & 0xFF
            ttl = self.view[offset + 7]
        # ECN is the inner packet's in any case: normal mode of RFC 6040 §4.1.
        dscp = tos if has(self.flags, TunnelFlag.TOS_INHERIT) else self.record.tos
        if not has(self.flags, TunnelFlag.TTL_INHERIT):
            ttl = self.record.ttl
        return Delivery(
            protocol=protocol,
            version=version,
            ip=offset,
            tos=dscp & ~ip.ECN | tos & ip.ECN,
            ttl=ttl or 1,
            dont_fragment=has(self.flags, TunnelFlag.DONT_FRAGMENT) or dont_fragment,
        )

    def _enters_own_tunnel(self, frame: Frame, delivery: Delivery) -> bool:
        """Whether the inner packet is one that this tunnel itself has sent."""
        if delivery.version != self.record.family or has(self.flags, TunnelFlag.ETHERNET):
            return False
        start = delivery.ip
        if delivery.version == 4:
            protocol, source, width = self.view[start + 9], start + 12, 4
        else:
            protocol, source, width = self.view[start + 6], start + 8, 16
        if self.record.port:
            if not self._goes_to_port(frame, delivery, protocol):
                return False
        elif protocol != gre.IPPROTO_GRE:
            return False
        local = bytes(self.record.local)[:width]
        remote = bytes(self.record.remote)[:width]
        if self.view[source + width : source + 2 * width] != remote:
            return False
        return local == bytes(width) or self.view[source : source + width] == local

    def _goes_to_port(self, frame: Frame, delivery: Delivery, protocol: int) -> bool:
        start = delivery.ip
        (fragment,) = struct.unpack_from("!H", self.view, start + 6)
        header = start + (self.view[start] & 0x0F) * 4
        if delivery.version == 6:
            fragment, header = 0, start + ip.IPV6_HEADER
        if protocol != transport.IPPROTO_UDP or fragment & (ip.FRAGMENT_OFFSET | ip.MORE_FRAGMENTS):
            return False
        if frame.offset + frame.length - header < transport.UDP_HEADER:
            return False
        (port,) = struct.unpack_from("!H", self.view, header + 2)
        return bool(port == self.record.port)

    def _vnet_header(self, frame: Frame) -> VnetHeader:
        if self.record.vnet_header != VNET_HEADER:
            return VnetHeader()
        return VnetHeader.parse(self.view[frame.offset - VNET_HEADER : frame.offset])

    def _super_packet(
        self, frame: Frame, meta: VnetHeader, delivery: Delivery
    ) -> SuperPacket | None:
        """Return where the parts of a super-packet are; None when its headers contradict."""
        protocol = GSO_PROTOCOL.get(meta.gso_type & ~vnet.GSO_ECN)
        if protocol is None or delivery.version == 0 or meta.gso_size == 0:
            return None
        if not meta.flags & vnet.NEEDS_CSUM:
            return None
        end = frame.offset + frame.length
        header = frame.offset + meta.csum_start
        if delivery.version == 4:
            header_length = (self.view[delivery.ip] & 0x0F) * 4
            if header != delivery.ip + header_length:
                return None
        elif header < delivery.ip + ip.IPV6_HEADER or (header - delivery.ip) % 8:
            return None  # extension headers are multiples of 8 bytes, RFC 8200 §4
        if end - header < transport.HEADER[protocol]:
            return None
        length = transport.UDP_HEADER
        if protocol == transport.IPPROTO_TCP:
            length = transport.TcpHeader.parse(self.view[header:end]).length
            if not transport.TCP_HEADER <= length <= end - header:
                return None
        return SuperPacket(
            start=frame.offset,
            ip=delivery.ip,
            transport=header,
            payload=header + length,
            end=end,
            protocol=protocol,
            segment_size=meta.gso_size,
        )

    @staticmethod
    def _is_worth_cutting(packet: SuperPacket) -> bool:
        if packet.payload_length == 0:
            return True  # nothing is cut
        if packet.protocol == transport.IPPROTO_UDP:
            return packet.payload_length <= packet.segment_size * UDP_SEGMENT_LIMIT
        return packet.segment_size >= TCP_SEGMENT_LEAST

    def _add_segments(
        self, frame: Frame, index: int, packet: SuperPacket, delivery: Delivery
    ) -> bool:
        """Make datagrams of a super-packet from where it stopped; return whether to its end."""
        head_length = self.gre_length + packet.headers
        while frame.done < packet.payload_length:
            if self.filled == len(self.datagrams):
                return False
            head = self.headers.take(head_length)
            if head is None:
                return False
            size = write_segment(self.view, packet, frame.done, self.view, head + self.gre_length)
            body = packet.payload + frame.done
            self._add_datagram(frame, index, delivery, (head, head_length), (body, size))
            frame.done += size
        return True

    def _add_datagram(
        self,
        frame: Frame,
        index: int,
        delivery: Delivery,
        head: tuple[int, int],
        body: tuple[int, int],
    ) -> None:
        """Write the GRE header at the start of *head* and fill the next datagram."""
        self._write_gre(delivery.protocol, head, body)
        inner_length = head[1] - self.gre_length + body[1]
        self.datagrams[self.filled] = Datagram(
            head_offset=head[0],
            head_length=head[1],
            body_offset=body[0],
            body_length=body[1],
            tos=delivery.tos,
            ttl=delivery.ttl,
            dont_fragment=delivery.dont_fragment,
            destination=frame.destination,
            frame=index,
            inner_length=inner_length,
            flow=frame.flow,
            flow_label=self._label(frame),
        )
        self.filled += 1
        self.state.tx_packets += 1
        self.state.tx_bytes += inner_length

    def _label(self, frame: Frame) -> int:
        label: int = self.record.flow_label
        is_by_flow = has(self.flags, TunnelFlag.LABELS_FLOWS)
        return label_flow(frame.flow, label) if is_by_flow else label

    def _write_gre(self, protocol: int, head: tuple[int, int], body: tuple[int, int]) -> None:
        record, state = self.record, self.state
        header = gre.GreHeader(
            protocol_type=protocol,
            checksum=0 if has(self.flags, TunnelFlag.OUTPUT_CHECKSUM) else None,
            key=record.output_key if has(self.flags, TunnelFlag.OUTPUT_KEY) else None,
            sequence=state.output_next if has(self.flags, TunnelFlag.OUTPUT_SEQUENCE) else None,
        )
        start = head[0]
        self.view[start : start + self.gre_length] = header.pack()
        if has(self.flags, TunnelFlag.OUTPUT_SEQUENCE):
            state.output_next = (state.output_next + 1) & 0xFFFFFFFF
        if has(self.flags, TunnelFlag.OUTPUT_CHECKSUM):
            data = b"".join(self.view[at : at + size] for at, size in (head, body))
            struct.pack_into("!H", self.view, start + gre.BASE_LENGTH, checksum(data))
