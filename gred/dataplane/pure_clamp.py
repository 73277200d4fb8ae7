"""MSS clamping in the pure-Python codec: TCP handshakes promise no more than the tunnel takes.

Part of the twin of the C codec (clamp_mss() in packet.c). Nothing here drops a packet.
"""

import struct

from gred.wire.checksum import ones_complement_sum, pseudo_header_sum, update
from gred.wire.ip import IPV4_HEADER, IPV6_HEADER, IPv4Header, IPv6Header
from gred.wire.malformed import MalformedPacketError
from gred.wire.transport import IPPROTO_TCP, SYN, TCP_CHECKSUM, TCP_FLAGS, TCP_HEADER, TcpHeader

# RFC 9293 §3.2
OPTION_END, OPTION_NOP, OPTION_MSS = 0, 1, 2
OPTION_MSS_LENGTH = 4


def clamp_mss(view: memoryview, offset: int, end: int, limit: int) -> None:
    """Lower the MSS that the IP packet in view[offset:end] offers to what *limit* bytes can carry.

    Anything but a complete, unfragmented SYN with an MSS option is left alone. The checksum
    follows, unless it is still the bare pseudo-header sum.
    """
    kind = IPv4Header if view[offset] >> 4 == 4 else IPv6Header
    try:
        header = kind.parse(view[offset:end])
    except MalformedPacketError:
        return
    protocol = header.protocol if isinstance(header, IPv4Header) else header.next_header
    largest = limit - TCP_HEADER - (IPV4_HEADER if kind is IPv4Header else IPV6_HEADER)
    tcp = offset + header.length
    if protocol != IPPROTO_TCP or header.is_fragment or end - tcp < TCP_HEADER or largest <= 0:
        return
    length = TcpHeader.parse(view[tcp:end]).length
    if not TCP_HEADER <= length <= end - tcp or not view[tcp + TCP_FLAGS] & SYN:
        return
    option = find_mss(view[tcp : tcp + length])
    if option is None or struct.unpack_from("!H", view, tcp + option + 2)[0] <= largest:
        return
    pseudo = pseudo_header_sum(header.source, header.destination, IPPROTO_TCP, end - tcp)
    (field,) = struct.unpack_from("!H", view, tcp + TCP_CHECKSUM)
    # The option may lie at an odd offset: sum the words that contain it, before and after.
    first, last = (option + 2) & ~1, (option + 5) & ~1
    before = ones_complement_sum(view[tcp + first : tcp + last])
    struct.pack_into("!H", view, tcp + option + 2, largest)
    if field != pseudo:
        after = ones_complement_sum(view[tcp + first : tcp + last])
        struct.pack_into("!H", view, tcp + TCP_CHECKSUM, update(field, before, after))


def find_mss(header: memoryview) -> int | None:
    """Return the offset of the MSS option in a TCP header; None: it has none, or is malformed."""
    at = TCP_HEADER
    while at < len(header) and header[at] != OPTION_END:
        if header[at] == OPTION_NOP:
            at += 1
            continue
        if len(header) - at < 2 or not 2 <= header[at + 1] <= len(header) - at:
            return None
        if header[at] == OPTION_MSS and header[at + 1] == OPTION_MSS_LENGTH:
            return at
        at += header[at + 1]
    return None
