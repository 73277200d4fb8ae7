"""Datagrams with marks and numbers, and what they look like on the wire.

Adds to ``gred.lab.traffic`` what only these tests need. Headers are read here by hand:
gred's own readers must not judge gred.
"""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from gred.lab.hosts import Host

_ETH_P_ALL = 0x0003
_IP_RECVTTL = 12  # linux/in.h; not in the socket module
_WAIT_S = 3.0


@dataclass(frozen=True, slots=True)
class Arrived:
    """The inner header of a datagram as its receiver saw it."""

    tos: int
    ttl: int


@dataclass(frozen=True, slots=True)
class Outer:
    """An outer header that was seen on the wire. IPv6 has no DF, and no fragments here."""

    tos: int
    ttl: int
    dont_fragment: bool = False
    fragment: bool = False


class Sniffer:
    """Sees what arrives at *device* of *host* from outer address *source*."""

    def __init__(self, host: Host, device: str, source: str) -> None:
        self._source = ip_address(source).packed
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._socket.bind((device, _ETH_P_ALL))

    def outer(self) -> list[Outer]:
        """Return the GRE packets seen since the last call."""
        found = []
        while select.select([self._socket], [], [], 0)[0]:
            packet, where = self._socket.recvfrom(65535)
            if where[2] != socket.PACKET_OUTGOING:
                outer = _read_4(packet) if len(self._source) == 4 else _read_6(packet)
                if outer is not None and outer[0] == self._source:
                    found.append(outer[1])
        return found

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def _read_4(packet: bytes) -> tuple[bytes, Outer] | None:
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_GRE:
        return None
    (flags,) = struct.unpack_from("!H", packet, 6)
    outer = Outer(packet[1], packet[8], bool(flags & 0x4000), bool(flags & 0x3FFF))
    return packet[12:16], outer


def _read_6(packet: bytes) -> tuple[bytes, Outer] | None:
    if len(packet) < 40 or packet[0] >> 4 != 6 or packet[6] != socket.IPPROTO_GRE:
        return None
    (first_half,) = struct.unpack_from("!H", packet)
    return packet[8:24], Outer(first_half >> 4 & 0xFF, packet[7])


@contextlib.contextmanager
def sniffing(host: Host, device: str, source: str) -> Iterator[Sniffer]:
    """Sniff for as long as the block lasts."""
    sniffer = Sniffer(host, device, source)
    try:
        yield sniffer
    finally:
        sniffer.close()


def datagram(
    sender: Host,
    receiver: Host,
    destination: str,
    *,
    tos: int = 0,
    ttl: int = 64,
    dont_fragment: bool = True,
    wait: float = _WAIT_S,
) -> Arrived | None:
    """Send one UDP datagram; return how it arrived, or ``None`` if not in *wait* seconds."""
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with (
        receiver.socket(family, socket.SOCK_DGRAM) as server,
        sender.socket(family, socket.SOCK_DGRAM) as client,
    ):
        if family == socket.AF_INET:
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
            client.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            client.setsockopt(socket.IPPROTO_IP, 10, 2 if dont_fragment else 0)  # IP_MTU_DISCOVER
            server.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
            server.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        else:
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
            client.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        server.bind((destination, 0))
        client.sendto(b"marked", server.getsockname())
        if not select.select([server], [], [], wait)[0]:
            return None
        _data, ancillary, _flags, _address = server.recvmsg(2048, 256)
    values = {kind: data[0] for _level, kind, data in ancillary}  # both machines are little-endian
    if family == socket.AF_INET:
        return Arrived(values[socket.IP_TOS], values[socket.IP_TTL])
    return Arrived(values[socket.IPV6_TCLASS], values[socket.IPV6_HOPLIMIT])


def numbered(sender: Host, receiver: Host, destination: str, count: int) -> list[int]:
    """Send *count* numbered datagrams at a steady pace; return the numbers in order of arrival."""
    arrived: list[int] = []
    with (
        receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind((destination, 0))
        address = server.getsockname()

        def collect(wait: float) -> bool:
            if not select.select([server], [], [], wait)[0]:
                return False
            arrived.append(struct.unpack("!I", server.recv(2048))[0])
            return True

        for number in range(count):
            client.sendto(struct.pack("!I", number), address)
            collect(0.002)
        deadline = time.monotonic() + 2 * _WAIT_S
        while collect(1.0) and time.monotonic() < deadline:
            pass
    return arrived


def multicast6(sender: Host, receiver: Host, interface: str, *, count: int) -> int:
    """Send *count* datagrams to a group the receiver joined; return how many it got."""
    group = "ff05::4747"
    received = 0
    with (
        receiver.socket(socket.AF_INET6, socket.SOCK_DGRAM) as member,
        sender.socket(socket.AF_INET6, socket.SOCK_DGRAM) as source,
    ):
        there = receiver.inside(lambda: socket.if_nametoindex(interface))
        here = sender.inside(lambda: socket.if_nametoindex(interface))
        member.bind(("::", 0))
        joined = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@I", there)
        member.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, joined)
        source.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, here)
        source.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        for number in range(count):
            data = f"to many {number}".encode()
            source.sendto(data, (group, member.getsockname()[1]))
            if select.select([member], [], [], _WAIT_S)[0]:
                received += member.recv(2048) == data
    return received
