"""ICMP errors (RFC 792, RFC 1191, RFC 4443) about inner packets: built, not read.

Pure: bytes in, bytes out. No socket, no clock, no rate limit.
"""

import struct
from typing import TYPE_CHECKING

from gred.wire import ip
from gred.wire.checksum import checksum, ones_complement_sum, pseudo_header_sum
from gred.wire.icmp import (
    FRAGMENTATION_NEEDED,
    HEADER,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    REDIRECT6,
    TOO_BIG6,
    UNREACHABLE,
    upper_layer,
)
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LONGEST_ANSWER = 576  # bytes with the IP header. RFC 1812 §4.3.2.3
LONGEST_ANSWER6 = 1280  # RFC 4443 §2.4 (c)
SMALLEST_MTU6 = 1280  # RFC 8200 §5
_TTL = 64
_INTERNETWORK_CONTROL = 0xC0  # precedence of ICMP errors. RFC 1812 §4.3.2.5

# Questions and answers: everything else of ICMP for IPv4 may be an error. RFC 1122 §3.2.2.
_QUERIES = frozenset({0, 8, 9, 10, 13, 14, 15, 16, 17, 18})
_FIRST_INFORMATIONAL6 = 128  # lower types are errors. RFC 4443 §2.1


def answerable(packet: "ReadableBuffer") -> bool:
    """Whether the sender of this inner IPv4 or IPv6 *packet* may be told that it is too big.

    Not about an ICMP error, a fragment but the first, a packet to many or from nobody in particular
    (RFC 1122 §3.2.2, RFC 4443 §2.4 (e)). For IPv4 it must have Don't Fragment. The answer comes in
    the name of the packet's destination, so that has to be one host, also where RFC 4443 would let
    an answer about multicast pass.
    """
    view = memoryview(packet).cast("B")
    try:
        if view[:1] and view[0] >> 4 == 6:
            return _answerable6(ip.IPv6Header.parse(view), view)
        return _answerable4(ip.IPv4Header.parse(view), view)
    except MalformedPacketError:
        return False


def _answerable4(header: ip.IPv4Header, view: memoryview) -> bool:
    if not header.fragment & ip.DONT_FRAGMENT or header.fragment & ip.FRAGMENT_OFFSET:
        return False
    if not (_is_host4(header.source) and _is_host4(header.destination)):
        return False
    return (
        header.protocol != IPPROTO_ICMP or view[header.length : header.length + 1] in _QUERY_BYTES
    )


_QUERY_BYTES = frozenset(bytes([kind]) for kind in _QUERIES)


def _answerable6(header: ip.IPv6Header, view: memoryview) -> bool:
    if not (_is_host6(header.source) and _is_host6(header.destination)):
        return False
    protocol, offset = upper_layer(view)
    if protocol != IPPROTO_ICMPV6:
        return True
    return len(view) > offset and _FIRST_INFORMATIONAL6 <= view[offset] != REDIRECT6


def _is_host4(address: bytes) -> bool:
    """Not this network, loopback, multicast, reserved or broadcast. RFC 1122 §3.2.1.3."""
    return address[0] not in {0, 127} and address[0] < 224


def _is_host6(address: bytes) -> bool:
    """Not multicast, unspecified or loopback. RFC 4291 §2.4."""
    return address[0] != 0xFF and (any(address[:15]) or address[15] > 1)


def fragmentation_needed(packet: "ReadableBuffer", mtu: int) -> bytes:
    """Return the whole IPv4 packet that tells the sender of *packet* to send at most *mtu* bytes.

    RFC 792, RFC 1191 §4. *packet* is answerable; what does not fit the quote is left out.
    """
    quoted = bytes(memoryview(packet).cast("B")[: LONGEST_ANSWER - ip.IPV4_HEADER - HEADER])
    asked = ip.IPv4Header.parse(quoted)
    message = struct.pack("!BBHHH", UNREACHABLE, FRAGMENTATION_NEEDED, 0, 0, min(mtu, 0xFFFF))
    message += quoted
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            asked.tos & 0x1E | _INTERNETWORK_CONTROL,
            ip.IPV4_HEADER + len(message),
            0,
            ip.DONT_FRAGMENT,
            _TTL,
            IPPROTO_ICMP,
            0,
            asked.destination,
            asked.source,
        )
    )
    ip.set_header_checksum(memoryview(header), 0)
    return bytes(header) + message[:2] + struct.pack("!H", checksum(message)) + message[4:]


def packet_too_big(packet: "ReadableBuffer", mtu: int) -> bytes:
    """Return the whole IPv6 packet that tells the sender of *packet* to send at most *mtu* bytes.

    RFC 4443 §3.2. *packet* is answerable. Less than 1280 is not told: RFC 7676 §3.2 has the tunnel
    carry packets of that size in any case.
    """
    quoted = bytes(memoryview(packet).cast("B")[: LONGEST_ANSWER6 - ip.IPV6_HEADER - HEADER])
    asked = ip.IPv6Header.parse(quoted)
    message = struct.pack("!BBHI", TOO_BIG6, 0, 0, max(mtu, SMALLEST_MTU6)) + quoted
    total = pseudo_header_sum(asked.destination, asked.source, IPPROTO_ICMPV6, len(message))
    found = ~ones_complement_sum(message, total) & 0xFFFF
    header = struct.pack(
        "!IHBB16s16s", 6 << 28, len(message), IPPROTO_ICMPV6, _TTL, asked.destination, asked.source
    )
    return header + message[:2] + struct.pack("!H", found) + message[4:]
