"""Inner packets for tests, made by hand: scapy judges them, so it may not make all of them."""

import struct
from dataclasses import dataclass

from gred.wire.checksum import checksum, ones_complement_sum, pseudo_header_sum
from gred.wire.transport import ACK, IPPROTO_TCP, IPPROTO_UDP

SOURCE = bytes([10, 0, 0, 1])
DESTINATION = bytes([10, 0, 0, 2])
SOURCE6 = bytes.fromhex("fd000000000000000000000000000001")
DESTINATION6 = bytes.fromhex("fd000000000000000000000000000002")


@dataclass(frozen=True, kw_only=True)
class Packet:
    """An IPv4 or IPv6 packet. ``transport`` bytes follow the IP header as they are."""

    version: int = 4
    tos: int = 0
    ttl: int = 63
    identification: int = 1
    fragment: int = 0  # flags and offset
    flow_label: int = 0
    protocol: int = 253  # for experiments, RFC 3692
    source: bytes = b""
    destination: bytes = b""
    options: bytes = b""

    def addresses(self) -> tuple[bytes, bytes]:
        if self.version == 4:
            return self.source or SOURCE, self.destination or DESTINATION
        return self.source or SOURCE6, self.destination or DESTINATION6

    def ip(self, payload: bytes) -> bytes:
        """The packet, with right lengths and header checksum."""
        source, destination = self.addresses()
        if self.version == 6:
            first = 6 << 28 | self.tos << 20 | self.flow_label
            fixed = struct.pack("!IHBB", first, len(payload), self.protocol, self.ttl)
            return fixed + source + destination + payload
        header = struct.pack(
            "!BBHHHBBH4s4s",
            0x45 + len(self.options) // 4,
            self.tos,
            20 + len(self.options) + len(payload),
            self.identification,
            self.fragment,
            self.ttl,
            self.protocol,
            0,
            source,
            destination,
        )
        header += self.options
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload

    def finish(self, header: bytes, payload: bytes, field: int, *, partial: bool) -> bytes:
        """Put the transport checksum, or the pseudo-header sum, into *header*."""
        total = pseudo_header_sum(*self.addresses(), self.protocol, len(header) + len(payload))
        value = total
        if not partial:
            value = ~ones_complement_sum(header + payload, total) & 0xFFFF
            if value == 0 and self.protocol == IPPROTO_UDP:
                value = 0xFFFF
        return self.ip(header[:field] + struct.pack("!H", value) + header[field + 2 :] + payload)


@dataclass(frozen=True, kw_only=True)
class Tcp(Packet):
    """A TCP packet. ``partial``: the checksum is left to someone else."""

    protocol: int = IPPROTO_TCP
    ports: tuple[int, int] = (40000, 80)
    sequence: int = 1000
    acknowledgment: int = 2000
    flags: int = ACK
    window: int = 500
    tcp_options: bytes = b""
    payload: bytes = b""
    partial: bool = False

    def build(self) -> bytes:
        header = struct.pack(
            "!HHIIBBHHH",
            *self.ports,
            self.sequence & 0xFFFFFFFF,
            self.acknowledgment,
            (5 + len(self.tcp_options) // 4) << 4,
            self.flags,
            self.window,
            0,
            0,
        )
        return self.finish(header + self.tcp_options, self.payload, 16, partial=self.partial)


@dataclass(frozen=True, kw_only=True)
class Udp(Packet):
    """A UDP packet."""

    protocol: int = IPPROTO_UDP
    ports: tuple[int, int] = (40000, 53)
    payload: bytes = b""
    partial: bool = False

    def build(self) -> bytes:
        header = struct.pack("!HHHH", *self.ports, 8 + len(self.payload), 0)
        return self.finish(header, self.payload, 6, partial=self.partial)


_PATTERN = bytes((index * 7 + index // 256 * 13) & 0xFF for index in range(1 << 17))


def pattern(length: int, seed: int = 0) -> bytes:
    """Bytes of which no two stretches are equal by accident."""
    shifted = bytes((byte + seed) & 0xFF for byte in range(256))
    return _PATTERN[:length].translate(shifted)


def ethernet(packet: bytes, ethertype: int = 0x0800, tags: bytes = b"") -> bytes:
    """Return *packet* in an Ethernet frame; *tags* as on the wire, from the first TPID on."""
    macs = bytes.fromhex("020000000001020000000002")
    return macs + tags + struct.pack("!H", ethertype) + packet
