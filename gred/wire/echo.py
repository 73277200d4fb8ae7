"""ICMP echo of gred's own (RFC 792, RFC 4443 section 4): built and read. Pure; no clock, no socket.

    IP, inner address to inner address | ICMP echo | ECHO_MARK | trailer | padding

The mark tells our own from everybody else's: an answer that has it never reaches the interface.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gred.wire.checksum import checksum, ones_complement_sum, pseudo_header_sum
from gred.wire.icmp import IPPROTO_ICMP, IPPROTO_ICMPV6
from gred.wire.ip import (
    FRAGMENT_OFFSET,
    IPV4_HEADER,
    MORE_FRAGMENTS,
    IPv4Header,
    IPv6Header,
    set_header_checksum,
)
from gred.wire.malformed import MalformedPacketError

ECHO_REQUEST, ECHO_REPLY = 8, 0
ECHO_REQUEST6, ECHO_REPLY6 = 128, 129
ECHO_MARK = 0x67726564  # "gred": the first four bytes of the data
ECHO_LEAST = 12  # bytes of ICMP, to the end of the mark
CONTROL = 0xC0  # TOS of network control, CS6: RFC 4594 §3.2

_HOP_LIMIT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoReply:
    """What came back of a request."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    identifier: int
    sequence: int
    trailer: bytes
    """What follows the mark."""


def build_echo_request(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    *,
    identifier: int,
    sequence: int,
    trailer: bytes,
    size: int = 0,
) -> bytes:
    """Return an IP packet that asks *destination* to return *trailer*; at least *size* bytes long.

    *identifier*, *sequence*: 16 bits are used. Addresses are of one version.
    """
    version = source.version
    kind, outside = (ECHO_REQUEST, IPV4_HEADER) if version == 4 else (ECHO_REQUEST6, 40)
    head = struct.pack("!BBHHHI", kind, 0, 0, identifier & 0xFFFF, sequence & 0xFFFF, ECHO_MARK)
    content = bytearray(head + trailer)
    content += bytes(max(size - outside - len(content), 0))
    start = 0
    if version == 6:
        start = pseudo_header_sum(source.packed, destination.packed, IPPROTO_ICMPV6, len(content))
    struct.pack_into("!H", content, 2, ~ones_complement_sum(content, start) & 0xFFFF)
    if version == 6:
        fields = len(content), IPPROTO_ICMPV6, _HOP_LIMIT, source.packed, destination.packed
        return struct.pack("!IHBB16s16s", 6 << 28 | CONTROL << 20, *fields) + content
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            CONTROL,
            IPV4_HEADER + len(content),
            sequence & 0xFFFF,
            0,
            _HOP_LIMIT,
            IPPROTO_ICMP,
            0,
            source.packed,
            destination.packed,
        )
    )
    set_header_checksum(memoryview(header), 0)
    return bytes(header + content)


def read_echo_reply(packet: bytes) -> EchoReply | None:
    """Return the answer to one of our requests that the inner *packet* is; None for any other.

    Of an answer that was fragmented the first part is enough; its checksum is not verified, nor is
    that of one that was cut.
    """
    try:
        header: IPv4Header | IPv6Header
        if packet[:1] and packet[0] >> 4 == 6:
            header = IPv6Header.parse(packet)
            protocol, kind, is_whole = header.next_header, ECHO_REPLY6, True
        else:
            header = IPv4Header.parse(packet)
            protocol, kind = header.protocol, ECHO_REPLY
            is_whole = not header.fragment & MORE_FRAGMENTS
            if header.fragment & FRAGMENT_OFFSET:
                return None
    except MalformedPacketError:
        return None
    content = packet[header.length : header.total_length]
    wanted = IPPROTO_ICMP if kind == ECHO_REPLY else IPPROTO_ICMPV6
    if protocol != wanted or len(content) < ECHO_LEAST:
        return None
    found, code, _sum, identifier, sequence, mark = struct.unpack_from("!BBHHHI", content)
    if (found, code, mark) != (kind, 0, ECHO_MARK):
        return None
    if is_whole and header.total_length <= len(packet) and not _is_intact(header, content):
        return None
    return EchoReply(
        source=ip_address(header.source),
        destination=ip_address(header.destination),
        identifier=identifier,
        sequence=sequence,
        trailer=bytes(content[ECHO_LEAST:]),
    )


def _is_intact(header: IPv4Header | IPv6Header, content: bytes) -> bool:
    if isinstance(header, IPv4Header):
        return checksum(content) == 0
    ends = header.source, header.destination
    start = pseudo_header_sum(*ends, IPPROTO_ICMPV6, len(content))
    return ones_complement_sum(content, start) == 0xFFFF
