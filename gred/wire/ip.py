"""IPv4 and IPv6 headers (RFC 791, RFC 8200), as far as a tunnel looks at them.

Pure: bytes in, values out, or one field of a writable buffer changed. Options and extension headers
are not read.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gred.wire.checksum import checksum, update
from gred.wire.drop import DropReason
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IPV4_HEADER = 20  # bytes without options, RFC 791 §3.1
IPV6_HEADER = 40  # RFC 8200 §3
LONGEST_PACKET = 65535  # what the IPv4 total length can say

DONT_FRAGMENT = 0x4000  # RFC 791 §3.1
MORE_FRAGMENTS = 0x2000
FRAGMENT_OFFSET = 0x1FFF

HOP_BY_HOP = 0  # next header: a payload length of 0 then means a jumbogram, RFC 2675 §2
# Next headers of extension headers, RFC 8200 §4; of AH, RFC 4302 §2.
ROUTING = 43
IPV6_FRAGMENT = 44
AUTHENTICATION = 51
DESTINATION_OPTIONS = 60

ECN = 0x03  # the two low bits of TOS and traffic class, RFC 3168 §5
NOT_ECT, ECT_1, ECT_0, CE = range(4)


@dataclass(frozen=True, slots=True)
class IPv4Header:
    """An IPv4 header. Addresses are wire bytes, lengths are in bytes."""

    length: int  # of the header, options included
    tos: int
    total_length: int
    identification: int
    fragment: int  # flags and fragment offset, one word
    ttl: int
    protocol: int
    source: bytes
    destination: bytes

    @classmethod
    def parse(cls, data: "ReadableBuffer") -> "IPv4Header":
        """Return the header at the start of *data*; raise MalformedPacketError.

        The header checksum and the total length are not verified.
        """
        view = memoryview(data).cast("B")
        if len(view) < IPV4_HEADER:
            raise MalformedPacketError(DropReason.TRUNCATED, f"{len(view)} bytes, expected 20")
        fields = struct.unpack_from("!BBHHHBBH4s4s", view)
        first, tos, total_length, identification, fragment, ttl, protocol = fields[:7]
        length = (first & 0x0F) * 4
        if first >> 4 != 4 or length < IPV4_HEADER:
            raise MalformedPacketError(DropReason.BAD_INNER, f"first byte is {first:#04x}")
        source, destination = fields[8:]
        return cls(
            length,
            tos,
            total_length,
            identification,
            fragment,
            ttl,
            protocol,
            source,
            destination,
        )

    @property
    def is_fragment(self) -> bool:
        """Whether this is a part of a packet."""
        return bool(self.fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET))


@dataclass(frozen=True, slots=True)
class IPv6Header:
    """An IPv6 header. Addresses are wire bytes, lengths are in bytes."""

    first_word: int  # version, traffic class and flow label
    payload_length: int
    next_header: int
    hop_limit: int
    source: bytes
    destination: bytes

    @classmethod
    def parse(cls, data: "ReadableBuffer") -> "IPv6Header":
        """Return the header at the start of *data*; raise MalformedPacketError."""
        view = memoryview(data).cast("B")
        if len(view) < IPV6_HEADER:
            raise MalformedPacketError(DropReason.TRUNCATED, f"{len(view)} bytes, expected 40")
        header = cls(*struct.unpack_from("!IHBB16s16s", view))
        if header.first_word >> 28 != 6:
            raise MalformedPacketError(DropReason.BAD_INNER, f"first byte is {view[0]:#04x}")
        return header

    @property
    def length(self) -> int:
        """Bytes of the header, extension headers excluded."""
        return IPV6_HEADER

    @property
    def total_length(self) -> int:
        """Bytes of header and payload."""
        return IPV6_HEADER + self.payload_length

    @property
    def traffic_class(self) -> int:
        """DSCP and ECN, as the TOS byte of IPv4."""
        return self.first_word >> 20 & 0xFF

    @property
    def is_fragment(self) -> bool:
        """Whether a fragment header follows right behind."""
        return self.next_header == IPV6_FRAGMENT


def set_length(view: memoryview, offset: int, length: int) -> None:
    """Make the IP header at *offset* one of a packet of *length* bytes, IPv4 checksum included."""
    if view[offset] >> 4 == 4:
        struct.pack_into("!H", view, offset + 2, length & 0xFFFF)
        set_header_checksum(view, offset)
    else:
        struct.pack_into("!H", view, offset + 4, length - IPV6_HEADER & 0xFFFF)


def set_header_checksum(view: memoryview, offset: int) -> None:
    """Compute the checksum of the IPv4 header at *offset*."""
    length = (view[offset] & 0x0F) * 4
    struct.pack_into("!H", view, offset + 10, 0)
    struct.pack_into("!H", view, offset + 10, checksum(view[offset : offset + length]))


def set_ecn(view: memoryview, offset: int, version: int, ecn: int) -> None:
    """Set the ECN bits of the IP header at *offset*, and the IPv4 checksum incrementally."""
    if version == 6:
        view[offset + 1] = view[offset + 1] & ~(ECN << 4) | ecn << 4
        return
    old_word, old_checksum = struct.unpack_from("!H8xH", view, offset)
    new_word = old_word & ~ECN | ecn
    struct.pack_into("!H", view, offset, new_word)
    struct.pack_into("!H", view, offset + 10, update(old_checksum, old_word, new_word))
