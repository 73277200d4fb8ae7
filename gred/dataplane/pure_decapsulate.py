"""Ingress, first half, of the pure-Python codec: a ladder of refusals, then one line: it is ours.

Part of the twin of the C codec; its contract is in _codec.pyi. No system call, no exception for a
packet: a refused one is counted by reason.

    GRE header -> tunnel -> checksum -> inner header -> ECN -> sequence -> inner source
"""

import struct
from typing import TYPE_CHECKING

from gred.dataplane.layout import Kind, Received, RxState, Transport, TunnelFlag, TunnelRecord
from gred.dataplane.pure_clamp import clamp_mss
from gred.dataplane.pure_coalesce import Coalescer
from gred.dataplane.pure_emit import Decapsulated, Writer, inspect, merged_size
from gred.dataplane.pure_flags import has
from gred.dataplane.pure_inner import VERSION, find_ip, has_partial_checksum, locate, measure
from gred.dataplane.pure_lookup import Addresses, LookupTable
from gred.dataplane.pure_sequence import check_number
from gred.dataplane.pure_sources import SourceRanges
from gred.wire import echo, ethernet, gre, icmp, ip
from gred.wire.checksum import ones_complement_sum
from gred.wire.drop import DropReason
from gred.wire.gre import GreHeader
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    import ctypes


class Decapsulator:
    """One call of decapsulate(): the buffers, and what has become of the packets so far."""

    def __init__(
        self,
        view: memoryview,
        tunnels: "ctypes.Array[TunnelRecord]",
        states: "ctypes.Array[RxState]",
        lookup: LookupTable,
        sources: SourceRanges,
        writer: Writer,
        now: int,
    ) -> None:
        self.now = now & 0xFFFFFFFF
        self.view = view
        self.tunnels = tunnels
        self.states = states
        self.lookup = lookup
        self.sources = sources
        self.writer = writer
        self.coalescer = Coalescer(view, writer)

    def add(self, entry: Received) -> DropReason:
        """Decapsulate one datagram; return why it is refused, or NONE. Fill its entry, count it."""
        entry.tunnel = entry.protocol = entry.key = 0
        entry.inner_offset = entry.inner_length = 0
        admitted = self._admit(entry)
        record, state = self.tunnels[entry.tunnel], self.states[entry.tunnel]
        reason = admitted if isinstance(admitted, DropReason) else DropReason.NONE
        if isinstance(admitted, Decapsulated) and not self._emit(record, admitted):
            reason = DropReason.NO_BUFS
        entry.verdict = reason
        if reason:
            state.rx_drops[reason] += 1
        else:
            state.rx_packets += 1
            state.rx_bytes += entry.inner_length
        return reason

    def finish(self) -> None:
        """End the batch: make super-packets of what was coalesced."""
        self.coalescer.finish()

    def _admit(self, entry: Received) -> DropReason | Decapsulated:
        """Go down the ladder of refusals."""
        if entry.verdict:  # it was no good as it arrived
            return DropReason(entry.verdict)
        if entry.outer_length > entry.length:
            return DropReason.TRUNCATED
        start, end = entry.offset + entry.outer_length, entry.offset + entry.length
        try:
            header = GreHeader.parse(self.view[start:end])
        except MalformedPacketError as malformed:
            return malformed.reason
        entry.protocol = header.protocol_type
        entry.key = header.key or 0
        reason = self._look_up(entry, header)
        if reason:
            return reason
        record = self.tunnels[entry.tunnel]
        entry.inner_offset = start + header.length
        # The answer to a keepalive has what our request said, not what this tunnel demands.
        if header.protocol_type == gre.PROTOCOL_KEEPALIVE:
            return DropReason.KEEPALIVE
        opened = self._open_redirected(record, entry, header, start, end)
        if isinstance(opened, DropReason):
            return opened
        inner = start + opened
        reason = self._check_checksum(record, header, start, end)
        if reason:
            return reason
        length = self._measure_inner(record, entry.protocol, inner, end)
        if isinstance(length, DropReason):
            bare = length is DropReason.UNKNOWN_PROTOCOL and self._is_bare(
                record, entry, inner, end
            )
            if not bare:
                return length
            _check_sequence(record, self.states[entry.tunnel], header, self.now)
            return DropReason.KEEPALIVE
        entry.inner_offset, entry.inner_length = inner, length
        if self._is_keepalive(record, entry, inner, length, entry.protocol) or (
            has(record.flags, TunnelFlag.ECHOES)
            and self._is_echo_reply(record, inner, length, entry.protocol)
        ):
            # It has its number, and none is missing.
            _check_sequence(record, self.states[entry.tunnel], header, self.now)
            return DropReason.KEEPALIVE
        reason = self._propagate_ecn(entry)
        if reason:
            return reason
        reason = _check_sequence(record, self.states[entry.tunnel], header, self.now)
        if reason:
            return reason
        packet = self._inspect(entry)
        # Last, so that none of the other end's numbers is missing. What is no IP has no source.
        checks = has(record.flags, TunnelFlag.CHECKS_SOURCES)
        if checks and packet.ip is not None and not has(record.flags, TunnelFlag.ETHERNET):
            begin, length = (12, 4) if packet.ip.version == 4 else (8, 16)
            begin += packet.ip.offset
            if not self.sources.have(entry.tunnel, bytes(self.view[begin : begin + length])):
                return DropReason.SPOOFED
        if has(record.flags, TunnelFlag.CLAMP_MSS) and packet.ip is not None:
            clamp_mss(self.view, packet.ip.offset, packet.end, min(record.mtu, record.path_mtu))
        return packet

    def _look_up(self, entry: Received, header: GreHeader) -> DropReason:
        addresses = Addresses(
            entry.family, entry.transport, bytes(entry.destination), bytes(entry.source)
        )
        kind = Kind.NO_KEY if header.key is None else Kind.KEY
        entry.tunnel = self.lookup.find(addresses, kind, entry.key)
        if entry.tunnel:
            return DropReason.NONE
        entry.tunnel = self.lookup.find(addresses, Kind.SOME, 0)
        if not entry.tunnel:
            return DropReason.NO_TUNNEL
        theirs = Kind.FOREIGN_NO_KEY if header.key is None else Kind.FOREIGN_KEY
        if not self.lookup.find(addresses, theirs, entry.key):
            return DropReason.KEY_MISMATCH
        entry.tunnel = 0
        return DropReason.FOREIGN

    def _open_redirected(
        self, record: TunnelRecord, entry: Received, header: GreHeader, start: int, end: int
    ) -> DropReason | int:
        """Return how far behind *start* the inner packet begins; it may be one that WCCP redirects.

        That is an IP packet, in version 2 behind a header of four bytes; as gre_parse_header() of
        the kernel. Only where all flags are zero.
        """
        length = header.length
        (flags,) = struct.unpack_from("!H", self.view, start)
        if (
            header.protocol_type != gre.PROTOCOL_WCCP
            or flags
            or has(record.flags, TunnelFlag.ETHERNET)
            or (has(record.flags, TunnelFlag.PACKET_INFO) and record.protocol == gre.PROTOCOL_WCCP)
        ):
            return length
        if start + length == end:
            return DropReason.TRUNCATED
        if self.view[start + length] >> 4 != 4:
            length += gre.WCCP_HEADER
        if start + length > end:
            return DropReason.TRUNCATED
        entry.protocol = gre.PROTOCOL_IPV6 if entry.family == 6 else gre.PROTOCOL_IPV4
        return length

    def _is_bare(self, record: TunnelRecord, entry: Received, inner: int, end: int) -> bool:
        """Whether what this tunnel does not carry is a request for an answer all the same.

        Who sends Ethernet asks with a bare IP packet, and Huawei with a protocol type of its own.
        """
        protocol = entry.protocol
        if protocol == gre.PROTOCOL_HUAWEI:
            protocol = gre.PROTOCOL_IPV4
        if protocol not in VERSION:
            return False
        length = measure(self.view, inner, end - inner, VERSION[protocol])
        if isinstance(length, DropReason):
            return False
        return self._is_keepalive(record, entry, inner, length, protocol)

    def _is_keepalive(
        self, record: TunnelRecord, entry: Received, start: int, length: int, protocol: int
    ) -> bool:
        """Whether this is a keepalive: an answer that we are to send back.

        That is GRE without content, from this end or to the other: both, but that behind a NAT
        either end may know itself by another address; some mean the ends inside the tunnel.
        Delivered, it would be a packet that claims our own address. wire/keepalive.py has them.
        """
        version, offset = find_ip(self.view, start, length, protocol)
        if not version or offset != start:
            return False
        kind = ip.IPv4Header if version == 4 else ip.IPv6Header
        packet = kind.parse(self.view[start : start + length])
        protocol = packet.next_header if isinstance(packet, ip.IPv6Header) else packet.protocol
        if protocol != gre.IPPROTO_GRE or packet.is_fragment:
            return False
        size = len(packet.source)
        ends = bytes(entry.destination)[:size], bytes(entry.source)[:size]
        outside = version == entry.family and (
            packet.source == ends[0] or packet.destination == ends[1]
        )
        if not outside and not (any(record.inner) and packet.source == bytes(record.inner)):
            return False
        left = length - packet.length
        if left < gre.BASE_LENGTH:
            return False
        flags, protocol = struct.unpack_from("!HH", self.view, start + packet.length)
        if flags & gre.VERSION:
            return False
        is_empty_ipv6 = version == 6 and protocol == gre.PROTOCOL_IPV6
        return protocol == gre.PROTOCOL_KEEPALIVE or (
            is_empty_ipv6 and left == gre.header_length(flags)
        )

    def _is_echo_reply(self, record: TunnelRecord, start: int, length: int, protocol: int) -> bool:
        """Whether this answers an echo request of our own, which has the tunnel's identifier.

        Of one that was fragmented the first part is enough.
        """
        version, offset = find_ip(self.view, start, length, protocol)
        if not version or offset != start:
            return False
        kind = ip.IPv4Header if version == 4 else ip.IPv6Header
        packet = kind.parse(self.view[start : start + length])
        if isinstance(packet, ip.IPv6Header):
            found, wanted = (packet.next_header, echo.ECHO_REPLY6), icmp.IPPROTO_ICMPV6
        else:
            found, wanted = (packet.protocol, echo.ECHO_REPLY), icmp.IPPROTO_ICMP
            if packet.fragment & ip.FRAGMENT_OFFSET:
                return False
        left = length - packet.length
        if found[0] != wanted or left < echo.ECHO_LEAST:
            return False
        fields = struct.unpack_from("!BBxxHxxI", self.view, start + packet.length)
        return fields == (found[1], 0, record.echo, echo.ECHO_MARK)

    def _check_checksum(
        self, record: TunnelRecord, header: GreHeader, start: int, end: int
    ) -> DropReason:
        if header.checksum is None:
            required = has(record.flags, TunnelFlag.INPUT_CHECKSUM_REQUIRED)
            return DropReason.CSUM_MISSING if required else DropReason.NONE
        if has(record.flags, TunnelFlag.INPUT_CHECKSUM_REFUSED):
            return DropReason.CSUM_UNEXPECTED
        if ones_complement_sum(self.view[start:end]) == 0xFFFF:
            return DropReason.NONE
        # Receive offload verifies the checksum of each packet, merges, and leaves the first
        # packet's field: it cannot be right any more. Such a packet is known by its unfinished
        # inner checksum.
        inner = start + header.length
        length = self._measure_inner(record, header.protocol_type, inner, end)
        if not isinstance(length, DropReason):
            packet = locate(self.view, inner, length, header.protocol_type)
            if packet is not None and has_partial_checksum(self.view, packet):
                return DropReason.NONE
        return DropReason.CSUM_ERR

    def _measure_inner(
        self, record: TunnelRecord, protocol: int, inner: int, end: int
    ) -> DropReason | int:
        """Return the length of the inner packet without what trails it, or why it is refused."""
        if has(record.flags, TunnelFlag.ETHERNET):
            if protocol != gre.PROTOCOL_ETHERNET:
                return name_protocol(protocol)
            # A switch does not judge what it carries.
            return DropReason.TRUNCATED if end - inner < ethernet.HEADER else end - inner
        if has(record.flags, TunnelFlag.PACKET_INFO) and protocol == record.protocol:
            return end - inner
        if protocol not in VERSION:
            return name_protocol(protocol)
        return measure(self.view, inner, end - inner, VERSION[protocol])

    def _propagate_ecn(self, entry: Received) -> DropReason:
        """Copy a congestion mark to the inner header: RFC 6040 §4.2, figure 4."""
        start, length = entry.inner_offset, entry.inner_length
        version, offset = find_ip(self.view, start, length, entry.protocol)
        if version == 0:
            return DropReason.NONE
        (first_half,) = struct.unpack_from("!H", self.view, offset)
        inner = (first_half if version == 4 else first_half >> 4) & ip.ECN
        outer = entry.tos & ip.ECN
        if inner == ip.NOT_ECT:
            return DropReason.ECN_ERR if outer == ip.CE else DropReason.NONE
        if inner != ip.CE and (outer == ip.CE or (outer, inner) == (ip.ECT_1, ip.ECT_0)):
            ip.set_ecn(self.view, offset, version, outer)
        return DropReason.NONE

    def _inspect(self, entry: Received) -> Decapsulated:
        start, length = entry.inner_offset, entry.inner_length
        packet = locate(self.view, start, length, entry.protocol)
        # Datagrams that the kernel merged lie next to each other.
        crowded = entry.transport == Transport.UDP
        if packet is None and find_ip(self.view, start, length, entry.protocol)[0]:
            return Decapsulated(entry.tunnel, start, length, unreadable=True, crowded=crowded)
        return inspect(self.view, entry.tunnel, start, length, packet, crowded=crowded)

    def _emit(self, record: TunnelRecord, packet: Decapsulated) -> bool:
        """Queue *packet*, alone or in a run; return False without room."""
        size = merged_size(record, packet)
        if size and not (record.vnet_header and has(record.flags, TunnelFlag.WRITE_TSO)):
            return self.writer.cut(record, packet, size)
        if not record.vnet_header:
            return self.writer.plain(record, packet)
        if packet.unreadable:
            self.coalescer.close_tunnel(packet.tunnel)
        segment = self.coalescer.segment(record, packet)
        if segment is not None and self.coalescer.join(segment):
            return True
        frame = self.writer.with_vnet(record, packet)
        if frame is None:
            return False
        if segment is not None:
            self.coalescer.open(segment, frame)
        return True


def name_protocol(protocol: int) -> DropReason:
    """Return what a protocol type is that the tunnel does not carry."""
    return gre.NAMED_PROTOCOLS.get(protocol, DropReason.UNKNOWN_PROTOCOL)


def _check_sequence(
    record: TunnelRecord, state: RxState, header: GreHeader, now: int
) -> DropReason:
    if not has(record.flags, TunnelFlag.INPUT_SEQUENCE):
        return DropReason.NONE
    if header.sequence is None:
        return DropReason.SEQ_MISSING
    return check_number(state, header.sequence, now)
