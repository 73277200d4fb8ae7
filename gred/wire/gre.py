"""GRE header codec (RFC 2784, RFC 2890). Pure: bytes in, values out. No I/O, no logging, no clock.

 0                   1                   2                   3
 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
+-+-+-+-+-------------------------+-----+-------------------------------+
|C|R|K|S|  Reserved0              | Ver |         Protocol Type         |
+-+-+-+-+-------------------------+-----+-------------------------------+
|     Checksum (if C)                   |       Reserved1 (if C)        |
|     Key (if K)                                                        |
|     Sequence Number (if S)                                            |
+-----------------------------------------------------------------------+
"""

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IPPROTO_GRE = 47  # the protocol number of GRE in IPv4 and IPv6, RFC 2784 §3
UDP_PORT = 4754  # where GRE-in-UDP is received, RFC 8086 §3.2.1

# The first 16 bits of the header.
CHECKSUM_PRESENT = 0x8000  # C: Checksum and Reserved1 present, RFC 2784 §2.2
ROUTING_PRESENT = 0x4000  # R of RFC 1701; bit 1, to be refused: RFC 2784 §2.3
KEY_PRESENT = 0x2000  # K: Key field present, RFC 2890 §2
SEQUENCE_PRESENT = 0x1000  # S: Sequence Number field present, RFC 2890 §2
RESERVED_REFUSED = 0x0C00  # bits 4 and 5: discard when one is set, RFC 2784 §2.3
RESERVED_IGNORED = 0x03F8  # bits 6 to 12: sent zero, ignored on receipt, RFC 2784 §2.3
VERSION = 0x0007  # MUST be zero, RFC 2784 §2.3.1

# Protocol types: EtherTypes, RFC 2784 §2.4.
PROTOCOL_IPV4 = 0x0800  # RFC 2784 §3.1
PROTOCOL_IPV6 = 0x86DD  # RFC 7676 §3.1
PROTOCOL_ETHERNET = 0x6558  # transparent Ethernet bridging, RFC 1701

BASE_LENGTH = 4
LONGEST = 16  # C, K and S


def header_length(flags: int) -> int:
    """Return the header's length in bytes for its first 16 bits: 4, 8, 12 or 16."""
    return (
        BASE_LENGTH
        + 4 * bool(flags & CHECKSUM_PRESENT)
        + 4 * bool(flags & KEY_PRESENT)
        + 4 * bool(flags & SEQUENCE_PRESENT)
    )


PROTOCOL_PPP = 0x880B  # with version 1, RFC 2637 §4.1
PROTOCOL_EOIP = 0x6400  # with version 1: MikroTik's Ethernet over IP
PROTOCOL_KEEPALIVE = 0  # of Cisco's kind
PROTOCOL_HUAWEI = 0x0004  # of a keepalive, where others have that of IPv4
PROTOCOL_WCCP = 0x883E
WCCP_HEADER = 4  # bytes of the redirect header of WCCP version 2

# What GRE of version 1 carries, by protocol type.
VERSION_1 = {PROTOCOL_PPP: DropReason.PPTP, PROTOCOL_EOIP: DropReason.EOIP}

# Protocol types that tunnels of other kinds carry, by what a tunnel of ours says of them.
NAMED_PROTOCOLS = {
    PROTOCOL_KEEPALIVE: DropReason.KEEPALIVE,
    PROTOCOL_WCCP: DropReason.WCCP,
    0x8847: DropReason.MPLS,
    0x8848: DropReason.MPLS,
    0x88BE: DropReason.ERSPAN,
    0x22EB: DropReason.ERSPAN,
}


def refusal(flags: int, protocol_type: int) -> DropReason:
    """Return why a receiver discards a header with these two words; NONE: it does not."""
    if flags & VERSION:
        if flags & VERSION == 1:
            return VERSION_1.get(protocol_type, DropReason.BAD_VERSION)
        return DropReason.BAD_VERSION
    if flags & ROUTING_PRESENT:
        return DropReason.ROUTING
    if flags & RESERVED_REFUSED:
        return DropReason.RESERVED_BITS
    return DropReason.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class GreHeader:
    """One GRE header, version 0. ``None``: the field is absent."""

    protocol_type: int
    checksum: int | None = None
    key: int | None = None
    sequence: int | None = None

    @property
    def flags(self) -> int:
        """The first 16 bits: which fields are present."""
        return (
            (CHECKSUM_PRESENT if self.checksum is not None else 0)
            | (KEY_PRESENT if self.key is not None else 0)
            | (SEQUENCE_PRESENT if self.sequence is not None else 0)
        )

    @property
    def length(self) -> int:
        """Bytes of the header."""
        return header_length(self.flags)

    @classmethod
    def parse(cls, data: "ReadableBuffer") -> "GreHeader":
        """Return the header at the start of *data*; its ``length`` tells where the payload starts.

        Raise MalformedPacketError for what RFC 2784 §2.3 tells a receiver to discard. The checksum
        is read, not verified.
        """
        view = memoryview(data).cast("B")
        if len(view) < BASE_LENGTH:
            raise MalformedPacketError(DropReason.TRUNCATED, f"{len(view)} bytes, expected 4")
        flags, protocol_type = struct.unpack_from("!HH", view)
        reason = refusal(flags, protocol_type)
        if reason:
            raise MalformedPacketError(reason, f"first 16 bits are {flags:#06x}")
        length = header_length(flags)
        if len(view) < length:
            message = f"{len(view)} bytes, expected {length}"
            raise MalformedPacketError(DropReason.TRUNCATED, message)
        words = iter(struct.unpack_from(f"!{length // 4 - 1}I", view, BASE_LENGTH))
        return cls(
            protocol_type=protocol_type,
            checksum=next(words) >> 16 if flags & CHECKSUM_PRESENT else None,
            key=next(words) if flags & KEY_PRESENT else None,
            sequence=next(words) if flags & SEQUENCE_PRESENT else None,
        )

    def pack(self) -> bytes:
        """Return the bytes of the header, ``checksum`` as it stands."""
        words = [self.checksum << 16] if self.checksum is not None else []
        words += [word for word in (self.key, self.sequence) if word is not None]
        return struct.pack(f"!HH{len(words)}I", self.flags, self.protocol_type, *words)

    def build(self, payload: bytes) -> bytes:
        """Return header and *payload*, with the checksum computed when the header has one.

        It covers the header, with its own field as zero, and the payload: RFC 2784 §2.5. A computed
        zero is sent as zero.
        """
        if self.checksum is None:
            return self.pack() + payload
        unsummed = replace(self, checksum=0).pack() + payload
        return replace(self, checksum=checksum(unsummed)).pack() + payload
