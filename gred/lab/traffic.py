"""Small traffic between two hosts of a laboratory: echo, multicast, one TCP transfer.

Own sockets inside the namespaces, so that no ping(8) or iperf3(1) is needed. Every wait has a
deadline. What did not arrive is a count in the result, not an exception.
"""

import contextlib
import hashlib
import itertools
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from gred.lab.hosts import Host

IPAddress = IPv4Address | IPv6Address

_ECHO = {4: (socket.AF_INET, socket.IPPROTO_ICMP, 8, 0), 6: (socket.AF_INET6, 58, 128, 129)}
_ECHO_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence: RFC 792
_IP_MTU_DISCOVER = 10  # linux/in.h; 0 is IP_PMTUDISC_DONT
_identifiers = itertools.count(os.getpid())


@dataclass(frozen=True, slots=True)
class EchoResult:
    """Echo requests sent, and the round trip of each intact reply in seconds."""

    sent: int
    round_trips: tuple[float, ...]

    @property
    def received(self) -> int:
        """How many came back."""
        return len(self.round_trips)


@dataclass(frozen=True, slots=True)
class DatagramsResult:
    """Datagrams sent to many, and how many of them the one that listened got intact."""

    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class TransferResult:
    """Bytes sent and received over TCP, both SHA-256 sums, and the seconds it took."""

    sent: int
    received: int
    sent_hash: str
    received_hash: str
    seconds: float = field(compare=False)

    @property
    def intact(self) -> bool:
        """Whether what arrived is what was sent."""
        return self.received == self.sent and self.received_hash == self.sent_hash


def ping(
    host: Host,
    destination: str,
    *,
    source: str | None = None,
    count: int = 3,
    size: int = 56,
    timeout: float = 1.0,
    fragmentable: bool = False,
) -> EchoResult:
    """Send *count* echo requests of *size* bytes from *host*, each after the answer to the last.

    A reply counts when its data is what was sent. *timeout*, in seconds, is per request. The path
    may refuse to take a request (no route, denied): it then counts as sent and lost.
    *fragmentable*: without Don't Fragment, IPv4 only.
    """
    address = ip_address(destination)
    family, protocol, _request, _reply = _ECHO[address.version]
    identifier = next(_identifiers) & 0xFFFF
    round_trips = []
    with host.socket(family, socket.SOCK_RAW, protocol) as raw:
        if source is not None:
            raw.bind((source, 0))
        if fragmentable:
            raw.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, 0)
        for sequence in range(count):
            data = secrets.token_bytes(size)
            started = time.perf_counter()
            try:
                raw.sendto(_echo_request(address, identifier, sequence, data), (destination, 0))
            except OSError:
                continue
            if _wait_for_reply(raw, address, (identifier, sequence), data, started + timeout):
                round_trips.append(time.perf_counter() - started)
    return EchoResult(count, tuple(round_trips))


def multicast(
    sender: Host,
    receiver: Host,
    interface: str,
    *,
    group: str = "239.47.0.1",
    count: int = 10,
    timeout: float = 1.0,
) -> DatagramsResult:
    """Join *group* on *interface* of *receiver* and send *count* datagrams from *sender*'s.

    *timeout*, in seconds, is for each datagram: the next is sent when the last was seen.
    """
    with _datagram_sockets(sender, receiver) as (source, member):
        membership = struct.pack("=4s4xi", socket.inet_aton(group), _index(receiver, interface))
        member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        outgoing = struct.pack("=8xi", _index(sender, interface))
        source.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, outgoing)
        source.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)
        return _send_datagrams(source, member, group, count, timeout)


def broadcast(
    sender: Host, receiver: Host, interface: str, *, count: int = 10, timeout: float = 1.0
) -> DatagramsResult:
    """Send *count* datagrams to 255.255.255.255 out of *interface* of *sender*."""
    with _datagram_sockets(sender, receiver) as (source, member):
        source.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        source.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        return _send_datagrams(source, member, "255.255.255.255", count, timeout)


def transfer(
    sender: Host,
    receiver: Host,
    destination: str,
    *,
    size: int,
    source: str | None = None,
    timeout: float = 60.0,
) -> TransferResult:
    """Move *size* random bytes from *sender* to *destination* on *receiver* over TCP.

    *timeout*, in seconds, is for the whole.
    """
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    deadline = time.monotonic() + timeout
    started = time.perf_counter()
    sent = received = 0
    sums = hashlib.sha256(), hashlib.sha256()
    with (
        receiver.socket(family, socket.SOCK_STREAM) as listener,
        sender.socket(family, socket.SOCK_STREAM) as client,
    ):
        listener.bind((destination, 0))
        listener.listen(1)
        listener.settimeout(timeout)
        client.settimeout(timeout)
        if source is not None:
            client.bind((source, 0))
        try:
            client.connect(listener.getsockname())
            server, _ = listener.accept()
        except OSError:
            return TransferResult(0, 0, "", "-", time.perf_counter() - started)
        with server:
            client.setblocking(False)
            server.setblocking(False)
            chunk = b""
            while received < size and (left := deadline - time.monotonic()) > 0:
                writers = [client] if sent < size else []
                readable, writable, _ = select.select([server], writers, [], left)
                if writable:
                    chunk = chunk or secrets.token_bytes(min(65536, size - sent))
                    taken = client.send(chunk)
                    sums[0].update(chunk[:taken])
                    chunk = chunk[taken:]
                    sent += taken
                if readable:
                    data = server.recv(1 << 18)
                    if not data:
                        break
                    sums[1].update(data)
                    received += len(data)
    seconds = time.perf_counter() - started
    return TransferResult(sent, received, sums[0].hexdigest(), sums[1].hexdigest(), seconds)


@contextlib.contextmanager
def _datagram_sockets(
    sender: Host, receiver: Host
) -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        sender.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
        receiver.socket(socket.AF_INET, socket.SOCK_DGRAM) as member,
    ):
        member.bind(("", 0))
        yield source, member


def _send_datagrams(
    source: socket.socket, member: socket.socket, destination: str, count: int, timeout: float
) -> DatagramsResult:
    port = member.getsockname()[1]
    received = 0
    for number in range(count):
        datagram = f"gred {destination} {number} ".encode() + secrets.token_bytes(32)
        source.sendto(datagram, (destination, port))
        if select.select([member], [], [], timeout)[0]:
            received += member.recv(2048) == datagram
    return DatagramsResult(count, received)


def _index(host: Host, interface: str) -> int:
    return host.inside(lambda: socket.if_nametoindex(interface))


def _echo_request(address: IPAddress, identifier: int, sequence: int, data: bytes) -> bytes:
    kind = _ECHO[address.version][2]
    header = _ECHO_HEADER.pack(kind, 0, 0, identifier, sequence)
    # ICMPv6 sums a pseudo header too: the kernel does that on raw sockets (RFC 3542 §3.1).
    checksum = _internet_checksum(header + data) if address.version == 4 else 0
    return _ECHO_HEADER.pack(kind, 0, checksum, identifier, sequence) + data


def _wait_for_reply(
    raw: socket.socket,
    address: IPAddress,
    numbers: tuple[int, int],
    data: bytes,
    deadline: float,
) -> bool:
    expected = _ECHO[address.version][3], 0, *numbers
    while (left := deadline - time.perf_counter()) > 0:
        if not select.select([raw], [], [], left)[0]:
            return False
        try:
            packet, sender = raw.recvfrom(65535)
        except (
            OSError
        ):  # an ICMP error about this path: the request is lost, a later one may not be
            continue
        if address.version == 4:
            packet = packet[(packet[0] & 0x0F) * 4 :]  # a raw IPv4 socket gives the IP header too
        if len(packet) < _ECHO_HEADER.size or ip_address(sender[0].partition("%")[0]) != address:
            continue
        kind, code, _checksum, *echoed = _ECHO_HEADER.unpack_from(packet)
        if (kind, code, *echoed) == expected:
            return packet[_ECHO_HEADER.size :] == data
    return False


def _internet_checksum(data: bytes) -> int:
    """RFC 1071. The laboratory's own: what it measures must not judge itself."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
