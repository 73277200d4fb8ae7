"""GRE keepalives: requests that carry their own answer. Pure: bytes in, values out; no clock.

There is no RFC; most follow Cisco. A request is an ordinary tunnelled packet; what it carries is
the answer, ready-made, so that an end that merely routes answers, too:

    outer IP | GRE, of IPv4 or IPv6 | IP, asked to asking end | GRE, protocol 0 | trailer
                                    `----------------- the answer ------------------'

The forms that are read, each as packets of the vendor were seen:

    Cisco, Fortinet,   no trailer
    HPE, Aruba
    OpenBSD            16 bytes of trailer that must come back untouched; over IPv6, too
    MikroTik           over IPv6 the inner GRE header is of IPv6 and nothing follows; behind a NAT
                       the answer is addressed to the router's private address
    Huawei             the outer GRE header says 0x0004
    VeloCloud          the answer goes between addresses inside the tunnel, and through it
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from gred.wire.checksum import checksum, ones_complement_sum
from gred.wire.gre import (
    BASE_LENGTH,
    IPPROTO_GRE,
    PROTOCOL_HUAWEI,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    PROTOCOL_KEEPALIVE,
    GreHeader,
)
from gred.wire.ip import IPV4_HEADER, IPV6_HEADER, IPv4Header, IPv6Header, set_header_checksum
from gred.wire.malformed import MalformedPacketError

LONGEST_TRAILER = 64  # bytes that an answer returns at most
CONTROL = 0xC0  # TOS of network control, CS6: RFC 4594 §3.2

_HOP_LIMIT = 255  # a router that forwards the answer takes one off


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A keepalive that wants an answer."""

    source: IPv4Address | IPv6Address
    """Who is to answer, as the asking end knows it."""
    destination: IPv4Address | IPv6Address
    """Who asks, as it knows itself; behind a NAT that is no address to send to."""
    answer: bytes
    """What is to come back: a GRE header and its trailer, to be sent in a packet of one's own."""
    packet: bytes
    """The whole inner packet, for those who want their answer through the tunnel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back of a request."""

    key: int | None
    trailer: bytes


def build_request(
    source: IPv4Address | IPv6Address,
    destination: IPv4Address | IPv6Address,
    *,
    key: int | None,
    trailer: bytes = b"",
    identification: int = 0,
) -> bytes:
    """Return the inner packet of a request: the answer that *source* is to send to *destination*.

    *key*: what the asking end requires of packets received. Addresses are of one version.
    """
    content = GreHeader(protocol_type=PROTOCOL_KEEPALIVE, key=key).pack() + trailer
    if source.version == 6:
        first = 6 << 28 | CONTROL << 20
        fields = first, len(content), IPPROTO_GRE, _HOP_LIMIT, source.packed, destination.packed
        return struct.pack("!IHBB16s16s", *fields) + content
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            CONTROL,
            IPV4_HEADER + len(content),
            identification & 0xFFFF,
            0,  # without DF: an answer is never too long
            _HOP_LIMIT,
            IPPROTO_GRE,
            0,
            source.packed,
            destination.packed,
        )
    )
    set_header_checksum(memoryview(header), 0)
    return bytes(header) + content


def read_request(packet: bytes) -> Request | None:
    """Return the request that the inner *packet* is, or None for any other packet.

    Fragments, options of IPv4 that reach beyond the packet, extension headers, wrong checksums and
    trailers of more than LONGEST_TRAILER bytes are no request. What carries anything else than an
    empty answer is none either: an answer to it would be somebody's packet.
    """
    try:
        header = _outer(packet)
        if header is None:
            return None
        content = packet[header.length : header.total_length]
        gre = GreHeader.parse(content)
    except MalformedPacketError:
        return None
    trailer = content[gre.length :]
    empty = gre.protocol_type == PROTOCOL_KEEPALIVE or (
        # MikroTik's form for IPv6
        isinstance(header, IPv6Header) and gre.protocol_type == PROTOCOL_IPV6 and not trailer
    )
    if not empty or len(trailer) > LONGEST_TRAILER or not _is_intact(gre, content):
        return None
    return Request(
        source=ip_address(header.source),
        destination=ip_address(header.destination),
        answer=content,
        packet=packet[: header.total_length],
    )


def read_answer(datagram: bytes) -> Answer | None:
    """Return the answer that *datagram* is, from its GRE header on; None for any other datagram."""
    try:
        gre = GreHeader.parse(datagram)
    except MalformedPacketError:
        return None
    trailer = datagram[gre.length :]
    empty = gre.protocol_type == PROTOCOL_KEEPALIVE or (
        gre.protocol_type == PROTOCOL_IPV6 and not trailer
    )
    if not empty or not _is_intact(gre, datagram):
        return None
    return Answer(key=gre.key, trailer=trailer)


def carries_request(protocol_type: int) -> bool:
    """Whether a GRE header of *protocol_type* may have a request behind it."""
    return protocol_type in {PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_HUAWEI}


def forward(request: Request) -> bytes:
    """Return the request's inner packet as a router passes it on: one hop less to live."""
    packet = bytearray(request.packet)
    if request.source.version == 6:
        packet[7] -= 1
    else:
        packet[8] -= 1
        set_header_checksum(memoryview(packet), 0)
    return bytes(packet)


def _outer(packet: bytes) -> IPv4Header | IPv6Header | None:
    """Return the IP header at the start of *packet* when GRE is right behind; else None.

    One that has no hop left is not passed on, and so asks for nothing.
    """
    if len(packet) < IPV4_HEADER + BASE_LENGTH:
        return None
    if packet[0] >> 4 == 6:
        six = IPv6Header.parse(packet)
        fits = IPV6_HEADER + BASE_LENGTH <= six.total_length <= len(packet)
        return six if fits and six.next_header == IPPROTO_GRE and six.hop_limit > 1 else None
    four = IPv4Header.parse(packet)
    fits = four.length + BASE_LENGTH <= four.total_length <= len(packet)
    if not fits or four.protocol != IPPROTO_GRE or four.is_fragment or four.ttl <= 1:
        return None
    return four if checksum(packet[: four.length]) == 0 else None


def _is_intact(gre: GreHeader, content: bytes) -> bool:
    """Whether the checksum is right, where *gre* has one."""
    return gre.checksum is None or ones_complement_sum(content) == 0xFFFF
