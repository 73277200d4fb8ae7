"""ICMP errors (RFC 792, RFC 1191, RFC 4443) about outer packets: read, not built.

Pure: bytes in, values out. No socket, no clock, no rate limit; nothing read here is believed before
its quote was compared with what a tunnel sends.
"""

import struct
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING, Literal

from gred.wire import gre, ip
from gred.wire.checksum import ones_complement_sum
from gred.wire.malformed import MalformedPacketError
from gred.wire.transport import IPPROTO_UDP, UDP_HEADER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

IPPROTO_ICMP = 1
IPPROTO_ICMPV6 = 58
HEADER = 8  # type, code, checksum, and four bytes that belong to the type. RFC 792, RFC 4443 §2.1

# Types. RFC 792; RFC 4443 §3.
UNREACHABLE, SOURCE_QUENCH, REDIRECT, TIME_EXCEEDED, PARAMETER_PROBLEM = 3, 4, 5, 11, 12
UNREACHABLE6, TOO_BIG6, TIME_EXCEEDED6, PARAMETER_PROBLEM6, REDIRECT6 = 1, 2, 3, 4, 137
FRAGMENTATION_NEEDED = 4  # code of UNREACHABLE; the next-hop MTU is in bytes 6 and 7. RFC 1191 §4

_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS = 0, 43, 44, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION_OPTIONS})


@unique
class ErrorKind(StrEnum):
    """What an ICMP error says of a packet, for both versions alike."""

    TOO_BIG = "too big"
    NETWORK_UNREACHABLE = "network unreachable"
    HOST_UNREACHABLE = "host unreachable"
    PROTOCOL_UNREACHABLE = "protocol unreachable"
    PORT_UNREACHABLE = "port unreachable"
    PROHIBITED = "administratively prohibited"
    TIME_EXCEEDED = "time exceeded"
    PARAMETER_PROBLEM = "parameter problem"


# (type, code). Codes: RFC 792, RFC 1122 §3.2.2.1, RFC 1812 §5.2.7.1. A code that is missing says
# nothing that a tunnel could use (source route failed, reassembly time exceeded, precedence).
_KINDS = {
    (UNREACHABLE, 0): ErrorKind.NETWORK_UNREACHABLE,
    (UNREACHABLE, 1): ErrorKind.HOST_UNREACHABLE,
    (UNREACHABLE, 2): ErrorKind.PROTOCOL_UNREACHABLE,
    (UNREACHABLE, 3): ErrorKind.PORT_UNREACHABLE,
    (UNREACHABLE, FRAGMENTATION_NEEDED): ErrorKind.TOO_BIG,
    (UNREACHABLE, 6): ErrorKind.NETWORK_UNREACHABLE,
    (UNREACHABLE, 7): ErrorKind.HOST_UNREACHABLE,
    (UNREACHABLE, 9): ErrorKind.PROHIBITED,
    (UNREACHABLE, 10): ErrorKind.PROHIBITED,
    (UNREACHABLE, 11): ErrorKind.NETWORK_UNREACHABLE,
    (UNREACHABLE, 12): ErrorKind.HOST_UNREACHABLE,
    (UNREACHABLE, 13): ErrorKind.PROHIBITED,
    (TIME_EXCEEDED, 0): ErrorKind.TIME_EXCEEDED,
    (PARAMETER_PROBLEM, 0): ErrorKind.PARAMETER_PROBLEM,
    (PARAMETER_PROBLEM, 2): ErrorKind.PARAMETER_PROBLEM,
}
# RFC 4443 §3. A next header that nobody takes is a parameter problem there.
_KINDS6 = {
    (UNREACHABLE6, 0): ErrorKind.NETWORK_UNREACHABLE,
    (UNREACHABLE6, 1): ErrorKind.PROHIBITED,
    (UNREACHABLE6, 3): ErrorKind.HOST_UNREACHABLE,
    (UNREACHABLE6, 4): ErrorKind.PORT_UNREACHABLE,
    (UNREACHABLE6, 5): ErrorKind.PROHIBITED,
    (UNREACHABLE6, 6): ErrorKind.NETWORK_UNREACHABLE,
    (TOO_BIG6, 0): ErrorKind.TOO_BIG,
    (TIME_EXCEEDED6, 0): ErrorKind.TIME_EXCEEDED,
    (PARAMETER_PROBLEM6, 0): ErrorKind.PARAMETER_PROBLEM,
    (PARAMETER_PROBLEM6, 1): ErrorKind.PROTOCOL_UNREACHABLE,
    (PARAMETER_PROBLEM6, 2): ErrorKind.PARAMETER_PROBLEM,
}


@dataclass(frozen=True, slots=True)
class Quote:
    """The outer GRE packet that an ICMP error is about, as far as it was quoted.

    Addresses are wire bytes. *gre* begins with the GRE header; at least eight bytes by RFC 792.
    *length*: of the whole packet, as its header says. *may_fragment*: it had no Don't Fragment.
    *ports*: of GRE-in-UDP, source and destination, and *gre* is what follows the UDP header; it may
    be empty, for by RFC 792 no more than that header is quoted.
    """

    source: bytes
    destination: bytes
    gre: bytes
    length: int = 0
    may_fragment: bool = False
    ports: tuple[int, int] | None = None

    @property
    def flags(self) -> int | None:
        """The first 16 bits of the GRE header; None when not even these were quoted."""
        return int.from_bytes(self.gre[:2]) if len(self.gre) >= 2 else None

    @property
    def key(self) -> int | None:
        """The key; None when the packet had none or it was cut off."""
        flags = self.flags or 0
        start = gre.BASE_LENGTH + 4 * bool(flags & gre.CHECKSUM_PRESENT)
        if not flags & gre.KEY_PRESENT or len(self.gre) < start + 4:
            return None
        return int.from_bytes(self.gre[start : start + 4])

    @property
    def sequence(self) -> int | None:
        """The sequence number; None when the packet had none or it was cut off."""
        flags = self.flags or 0
        before = bool(flags & gre.CHECKSUM_PRESENT) + bool(flags & gre.KEY_PRESENT)
        start = gre.BASE_LENGTH + 4 * before
        if not flags & gre.SEQUENCE_PRESENT or len(self.gre) < start + 4:
            return None
        return int.from_bytes(self.gre[start : start + 4])

    @property
    def protocol_type(self) -> int | None:
        """What the packet carried; None when that was cut off."""
        return int.from_bytes(self.gre[2:4]) if len(self.gre) >= 4 else None


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a GRE packet. *mtu*: what TOO_BIG tells, 0 when it does not."""

    kind: ErrorKind
    mtu: int
    quote: Quote


def parse(message: "ReadableBuffer", version: Literal[4, 6]) -> IcmpError | None:
    """Return the error in *message*, which begins with the ICMP header; None for anything else.

    Anything else: other ICMP, a code that tells nothing, a quote of another protocol or of a part
    of a packet without its GRE header, damage. The checksum is verified for IPv4; that of ICMPv6
    covers addresses that are not here, and the kernel verifies it.
    """
    view = memoryview(message).cast("B")
    if len(view) < HEADER or (version == 4 and ones_complement_sum(view) != 0xFFFF):
        return None
    kind = (_KINDS if version == 4 else _KINDS6).get((view[0], view[1]))
    if kind is None:
        return None
    quote = _quote4(view[HEADER:]) if version == 4 else _quote6(view[HEADER:])
    if quote is None:
        return None
    mtu = 0
    if kind is ErrorKind.TOO_BIG:
        (mtu,) = struct.unpack_from("!6xH" if version == 4 else "!4xI", view)
    return IcmpError(kind, mtu, quote)


def _quote4(view: memoryview) -> Quote | None:
    try:
        header = ip.IPv4Header.parse(view)
    except MalformedPacketError:
        return None
    if header.fragment & ip.FRAGMENT_OFFSET:
        return None
    carried = _carried(header.protocol, view[header.length :])
    if carried is None:
        return None
    return Quote(
        header.source,
        header.destination,
        carried[0],
        header.total_length,
        may_fragment=not header.fragment & ip.DONT_FRAGMENT,
        ports=carried[1],
    )


def _carried(protocol: int | None, view: memoryview) -> tuple[bytes, tuple[int, int] | None] | None:
    """Return GRE and the ports before it, if it is in UDP; None where it is something else."""
    if protocol == gre.IPPROTO_GRE:
        return bytes(view[: gre.LONGEST]), None
    if protocol != IPPROTO_UDP or len(view) < UDP_HEADER:
        return None
    source, destination = struct.unpack_from("!HH", view)
    return bytes(view[UDP_HEADER:][: gre.LONGEST]), (source, destination)


def _quote6(view: memoryview) -> Quote | None:
    try:
        header = ip.IPv6Header.parse(view)
    except MalformedPacketError:
        return None
    protocol, offset = upper_layer(view)
    carried = _carried(protocol, view[offset:])
    if carried is None:
        return None
    return Quote(
        header.source,
        header.destination,
        carried[0],
        ip.IPV6_HEADER + header.payload_length,
        ports=carried[1],
    )


def upper_layer(packet: memoryview) -> tuple[int | None, int]:
    """Return protocol and offset of what follows the extension headers of an IPv6 packet.

    The protocol is None where that cannot be seen: a later fragment, or headers cut off.
    """
    protocol, offset = packet[6], ip.IPV6_HEADER
    while protocol in _EXTENSIONS:
        if len(packet) - offset < 8:
            return None, offset
        if protocol == _FRAGMENT:
            if struct.unpack_from("!H", packet, offset + 2)[0] & 0xFFF8:
                return None, offset
            length = 8
        else:
            length = 8 * (packet[offset + 1] + 1)
        protocol = packet[offset]
        offset += length
    return protocol, offset
