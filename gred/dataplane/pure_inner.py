"""The inner packet of the pure-Python codec: where its headers are and what its checksum says.

Part of the twin of the C codec. Offsets are into the arena. Nothing here changes a byte except
``complete_checksum``, and nothing drops a packet.
"""

import struct
from dataclasses import dataclass

from gred.wire import ethernet, gre
from gred.wire.checksum import ones_complement_sum, pseudo_header_sum
from gred.wire.drop import DropReason
from gred.wire.ip import HOP_BY_HOP, IPV4_HEADER, IPV6_HEADER, IPv4Header, IPv6Header
from gred.wire.transport import CHECKSUM, HEADER, IPPROTO_TCP, IPPROTO_UDP, TcpHeader

VERSION = {gre.PROTOCOL_IPV4: 4, gre.PROTOCOL_IPV6: 6}  # by protocol type, or EtherType


@dataclass(frozen=True, slots=True)
class InnerPacket:
    """One inner IP packet whose lengths are consistent."""

    start: int  # of the frame: the MAC header, or the IP header itself
    offset: int  # of the IP header
    end: int  # of the IP packet
    header: IPv4Header | IPv6Header

    @property
    def version(self) -> int:
        """4 or 6."""
        return 4 if isinstance(self.header, IPv4Header) else 6

    @property
    def protocol(self) -> int:
        """The number of the protocol right behind the IP header."""
        if isinstance(self.header, IPv4Header):
            return self.header.protocol
        return self.header.next_header

    @property
    def transport(self) -> int:
        """Offset of what is right behind the IP header."""
        return self.offset + self.header.length

    @property
    def transport_length(self) -> int:
        """Bytes behind the IP header."""
        return self.end - self.transport

    @property
    def pseudo_sum(self) -> int:
        """The sum of the pseudo-header."""
        header = self.header
        return pseudo_header_sum(
            header.source, header.destination, self.protocol, self.transport_length
        )


def measure(view: memoryview, offset: int, available: int, version: int) -> DropReason | int:
    """Return the length of the IP packet at *offset*, at most *available*, or why it has none."""
    if available < (IPV4_HEADER if version == 4 else IPV6_HEADER):
        return DropReason.TRUNCATED
    if view[offset] >> 4 != version:
        return DropReason.BAD_INNER
    if version == 4:
        header_length = (view[offset] & 0x0F) * 4
        (length,) = struct.unpack_from("!H", view, offset + 2)
        if not IPV4_HEADER <= header_length <= length <= available:
            return DropReason.BAD_INNER
        return int(length)
    payload_length, next_header = struct.unpack_from("!HB", view, offset + 4)
    if payload_length + IPV6_HEADER > available:
        return DropReason.BAD_INNER
    if payload_length == 0 and next_header == HOP_BY_HOP:
        return DropReason.BAD_INNER
    return int(payload_length) + IPV6_HEADER


def find_ip(view: memoryview, start: int, length: int, protocol: int) -> tuple[int, int]:
    """Return (version, offset) of the complete IP header in a frame of *length* bytes at *start*.

    Version 0: there is none. *protocol* is the GRE protocol type. Into an Ethernet frame it looks
    right behind the MAC header only; a VLAN tag hides what follows.
    """
    offset = start
    if protocol == gre.PROTOCOL_ETHERNET:
        (protocol,) = struct.unpack_from("!H", view, start + ethernet.TYPE)
        offset += ethernet.HEADER
    version = VERSION.get(protocol, 0)
    needed = IPV4_HEADER if version == 4 else IPV6_HEADER
    if start + length - offset < needed or view[offset] >> 4 != version:
        return 0, offset
    return version, offset


def locate(view: memoryview, start: int, length: int, protocol: int) -> InnerPacket | None:
    """Return the IP packet that fills the frame of *length* bytes at *start* to its end.

    None: there is none, its lengths are inconsistent, or padding follows.
    """
    version, offset = find_ip(view, start, length, protocol)
    available = start + length - offset
    if version == 0 or measure(view, offset, available, version) != available:
        return None
    kind = IPv4Header if version == 4 else IPv6Header
    return InnerPacket(start, offset, start + length, kind.parse(view[offset : start + length]))


def find_payload(view: memoryview, packet: InnerPacket) -> int | None:
    """Return the offset of the TCP or UDP payload.

    None: a fragment, no TCP or UDP right behind the IP header, or a header that does not fit.
    """
    if packet.header.is_fragment or packet.protocol not in HEADER:
        return None
    needed = HEADER[packet.protocol]
    if packet.transport_length < needed:
        return None
    if packet.protocol == IPPROTO_TCP:
        length = TcpHeader.parse(view[packet.transport : packet.end]).length
        if not needed <= length <= packet.transport_length:
            return None
        needed = length
    return packet.transport + needed


def has_partial_checksum(view: memoryview, packet: InnerPacket) -> bool:
    """Whether the checksum field holds the sum of the pseudo-header, and no more.

    That is what a packet looks like which receive offload has merged, or which never left the host.
    One good packet in 65536 looks the same; completing its checksum does no harm.
    """
    if find_payload(view, packet) is None:
        return False
    field = stored_checksum(view, packet)
    if packet.protocol == IPPROTO_UDP and field == 0:  # the sender computed none, RFC 768
        return False
    return field == packet.pseudo_sum


def stored_checksum(view: memoryview, packet: InnerPacket) -> int:
    """Return the TCP or UDP checksum field."""
    (field,) = struct.unpack_from("!H", view, packet.transport + CHECKSUM[packet.protocol])
    return int(field)


def has_right_checksum(view: memoryview, packet: InnerPacket) -> bool:
    """Whether the TCP or UDP checksum is right."""
    data = view[packet.transport : packet.end]
    return ones_complement_sum(data, packet.pseudo_sum) == 0xFFFF


def complete_checksum(view: memoryview, start: int, field: int, end: int) -> None:
    """Turn the pseudo-header sum at *field* into the checksum of view[start:end]."""
    value = ~ones_complement_sum(view[start:end]) & 0xFFFF
    if value == 0 and field - start == CHECKSUM[IPPROTO_UDP]:
        value = 0xFFFF  # zero would say that there is no checksum, RFC 768
    struct.pack_into("!H", view, field, value)
