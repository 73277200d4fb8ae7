"""Fragmentation of IPv4 packets (RFC 791 §3.2). Pure: bytes in, bytes out.

Nothing here reassembles, and nothing asks whether a packet may be fragmented.
"""

import struct
from typing import TYPE_CHECKING

from gred.wire import ip

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_END_OF_OPTIONS, _NO_OPERATION = 0, 1
_COPIED = 0x80  # of an option's type: it goes into every fragment. RFC 791 §3.1


def fragment(packet: "ReadableBuffer", mtu: int) -> list[bytes]:
    """Return *packet* cut into IPv4 packets of at most *mtu* bytes, in order; itself when it fits.

    A fragment is cut further. An empty list: *mtu* holds no header and eight bytes of data. Raises
    MalformedPacketError when *packet* has no IPv4 header. Bytes behind its total length are left
    out.
    """
    view = memoryview(packet).cast("B")
    header = ip.IPv4Header.parse(view)
    view = view[: max(header.total_length, header.length)]
    if len(view) <= mtu:
        return [bytes(view)]
    first, later = bytes(view[: header.length]), _later_header(bytes(view[: header.length]))
    data = view[header.length :]
    offset = header.fragment & ip.FRAGMENT_OFFSET  # in units of eight bytes
    flags = header.fragment & ~ip.FRAGMENT_OFFSET
    parts: list[bytes] = []
    while data:
        begin = later if parts else first
        room = mtu - len(begin)
        size = len(data) if len(data) <= room else room & ~7
        if size < 1:
            return []
        more = flags | ip.MORE_FRAGMENTS if size < len(data) else flags
        part = bytearray(begin + data[:size])
        struct.pack_into("!H", part, 6, more | offset)
        ip.set_length(memoryview(part), 0, len(part))
        parts.append(bytes(part))
        data = data[size:]
        offset += size // 8
    return parts


def _later_header(header: bytes) -> bytes:
    """Return *header* as fragments but the first have it: only with options that are copied."""
    kept = bytearray()
    offset = ip.IPV4_HEADER
    while offset < len(header) and header[offset] != _END_OF_OPTIONS:
        length = 1
        if header[offset] != _NO_OPERATION:
            length = header[offset + 1] if offset + 1 < len(header) else 0
            if length < 2 or offset + length > len(header):
                break  # damaged: what follows cannot be told apart
            if header[offset] & _COPIED:
                kept += header[offset : offset + length]
        offset += length
    kept += bytes(-len(kept) % 4)
    words = (ip.IPV4_HEADER + len(kept)) // 4
    return bytes([0x40 | words]) + header[1 : ip.IPV4_HEADER] + kept
