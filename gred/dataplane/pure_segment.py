"""Segmentation of the pure-Python codec: one super-packet into packets of the size it asks for.

Part of the twin of the C codec. Headers are copied and patched, payload bytes stay where they are.
Nothing here looks at tunnels or drops a packet.
"""

import struct
from dataclasses import dataclass

from gred.wire import ip, transport
from gred.wire.checksum import ones_complement_sum, pseudo_header_sum

LINE = 64  # every copied header starts at a multiple of this


def align(offset: int) -> int:
    """Return the next multiple of a cache line."""
    return (offset + LINE - 1) // LINE * LINE


@dataclass(slots=True)
class HeaderSpace:
    """A stretch of the arena that copied headers are put into, one after the other."""

    position: int
    end: int

    def has_room(self, length: int, count: int) -> bool:
        """Whether *length* bytes can be taken *count* times."""
        return align(self.position) + count * align(length) <= self.end

    def take(self, length: int) -> int | None:
        """Return the offset of *length* free bytes; None when they do not fit."""
        if not self.has_room(length, 1):
            return None
        start = align(self.position)
        self.position = start + align(length)
        return start


@dataclass(frozen=True, slots=True)
class SuperPacket:
    """A TCP or UDP packet to be cut. Offsets are into the arena."""

    start: int  # of the frame
    ip: int  # of the IP header
    transport: int  # of the TCP or UDP header
    payload: int
    end: int
    protocol: int
    segment_size: int  # payload bytes of one segment

    @property
    def headers(self) -> int:
        """Bytes in front of the payload."""
        return self.payload - self.start

    @property
    def payload_length(self) -> int:
        """Bytes of the payload."""
        return self.end - self.payload


def write_segment(
    view: memoryview, packet: SuperPacket, done: int, headers: memoryview, to: int
) -> int:
    """Write the headers of the segment whose payload starts *done* bytes in; return its size.

    They go to *to* in *headers*. The size is that of the payload slice, in bytes.
    """
    size = min(packet.segment_size, packet.payload_length - done)
    headers[to : to + packet.headers] = view[packet.start : packet.payload]
    ip_header = to + packet.ip - packet.start
    transport_header = to + packet.transport - packet.start
    length = to + packet.headers + size - ip_header

    if headers[ip_header] >> 4 == 4:
        (identification,) = struct.unpack_from("!H", headers, ip_header + 4)
        identification += done // packet.segment_size
        struct.pack_into("!H", headers, ip_header + 4, identification & 0xFFFF)
        addresses = bytes(headers[ip_header + 12 : ip_header + 20])
    else:
        addresses = bytes(headers[ip_header + 8 : ip_header + 40])
    ip.set_length(headers, ip_header, length)

    if packet.protocol == transport.IPPROTO_TCP:
        _patch_tcp(headers, transport_header, packet, done, size)
    else:
        udp_length = transport.UDP_HEADER + size
        struct.pack_into("!H", headers, transport_header + transport.UDP_LENGTH, udp_length)

    half = len(addresses) // 2
    rest = length - (transport_header - ip_header)
    total = pseudo_header_sum(addresses[:half], addresses[half:], packet.protocol, rest)
    payload = packet.payload + done
    field = transport_header + transport.CHECKSUM[packet.protocol]
    struct.pack_into("!H", headers, field, 0)
    total = ones_complement_sum(headers[transport_header : to + packet.headers], total)
    value = ~ones_complement_sum(view[payload : payload + size], total) & 0xFFFF
    if value == 0 and packet.protocol == transport.IPPROTO_UDP:
        value = 0xFFFF  # zero would say that there is no checksum, RFC 768
    struct.pack_into("!H", headers, field, value)
    return size


def _patch_tcp(view: memoryview, header: int, packet: SuperPacket, done: int, size: int) -> None:
    (sequence,) = struct.unpack_from("!I", view, header + transport.TCP_SEQUENCE)
    sequence = (sequence + done) & 0xFFFFFFFF
    struct.pack_into("!I", view, header + transport.TCP_SEQUENCE, sequence)
    flags = view[header + transport.TCP_FLAGS]
    if done + size < packet.payload_length:
        flags &= ~(transport.FIN | transport.PSH)
    if done > 0:
        flags &= ~transport.CWR  # the sender reduced its window once, RFC 3168 §6.1.2
    view[header + transport.TCP_FLAGS] = flags
