"""TCP and UDP headers (RFC 9293, RFC 768): where their fields are. Values only."""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IPPROTO_TCP = 6
IPPROTO_UDP = 17

TCP_HEADER = 20  # bytes without options, RFC 9293 §3.1
UDP_HEADER = 8  # RFC 768

# Offsets of the fields that are patched.
TCP_SEQUENCE = 4
TCP_FLAGS = 13
TCP_CHECKSUM = 16
UDP_LENGTH = 4
UDP_CHECKSUM = 6

# Control bits, RFC 9293 §3.1; CWR and ECE: RFC 3168 §6.1.
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))

HEADER = {IPPROTO_TCP: TCP_HEADER, IPPROTO_UDP: UDP_HEADER}  # shortest header, by protocol
CHECKSUM = {IPPROTO_TCP: TCP_CHECKSUM, IPPROTO_UDP: UDP_CHECKSUM}  # offset of the field


@dataclass(frozen=True, slots=True)
class TcpHeader:
    """A TCP header without its options."""

    sequence: int
    acknowledgment: int
    offset_byte: int  # data offset in the high half, reserved bits in the low
    flags: int
    window: int

    @classmethod
    def parse(cls, data: "ReadableBuffer") -> "TcpHeader":
        """Return the header at the start of *data*, which holds at least 20 bytes."""
        return cls(*struct.unpack_from("!4xIIBBH", data))

    @property
    def length(self) -> int:
        """Bytes of the header, options included; less than 20 is malformed."""
        return (self.offset_byte >> 4) * 4
