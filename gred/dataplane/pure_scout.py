"""Datagrams that follow others through a packet socket: the readable twin of native/scout.c.

    scout     --raw socket--> the kernel decides --> device's queue, and back to us with its header
    followers --packet socket, the same header, device and next hop--> device's queue

What was encrypted, translated, dropped or held back shows no way to follow, and neither does what a
device below wrapped up once more. The raw socket must not be connected: the kernel then puts what
it sends into another queue than the followers. Nothing here decides
whether there may be followers at all, keeps state of its own, or knows more of a packet than its
delivery header.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gred.dataplane.layout import Datagram, Destination, Way
from gred.dataplane.raw_socket import IPPROTO_GRE
from gred.dataplane.underlay import (
    IP_PKTINFO,
    IP_RECVERR,
    IPV6_RECVERR,
    SO_TIMESTAMPING,
)
from gred.wire import ethernet
from gred.wire.checksum import checksum
from gred.wire.ip import DESTINATION_OPTIONS, DONT_FRAGMENT, IPV4_HEADER, IPV6_HEADER

WAY_LASTS = 1_000_000  # nanoseconds that a way is believed in
LOST_LASTS = 100_000_000  # nanoseconds until the next scout is sent, after one was lost
SHOWN = 160  # bytes of a scout that are looked at
COMPARED = 16  # bytes behind the delivery header that must be as they were given
LOOKS = 16  # messages in the error queue to pass by: ICMP errors lie there too
CONTROL_SPACE = 512

ADDRESS = 6  # length of an Ethernet address
OPTIONS_LENGTH = 8  # of the destination options that carry the encapsulation limit
ETHERTYPES = {4: 0x0800, 6: 0x86DD}

# Numbers of linux/errqueue.h, net_tstamp.h and sockios.h.
ORIGIN_TIMESTAMPING = 4
TSTAMP_SCHED = 1
TX_SCHED = 1 << 8
SIOCGIFNAME = 0x8910

Control = tuple[int, int, bytes]
REQUEST: Control = (socket.SOL_SOCKET, SO_TIMESTAMPING, struct.pack("=I", TX_SCHED))


class Shown(NamedTuple):
    """A scout as it entered the queue of device *interface*."""

    data: bytes
    interface: int
    number: int
    """Of the scout: several devices may show the same one."""


def size_of(datagram: Datagram) -> int:
    """Return the length of *datagram* without a delivery header."""
    return int(datagram.head_length + datagram.body_length)


def leads(way: Way, datagram: Datagram, destination: Destination, now: int) -> bool:
    """Tell whether *datagram* may follow on *way* to *destination* at the time *now*."""
    version, end = (6, IPV6_HEADER) if destination.family == 6 else (4, IPV4_HEADER)
    # The number of a destination may have come to mean another.
    remote = bytes(destination.remote)[: 16 if version == 6 else 4]
    return bool(
        now < way.until
        and way.header_length
        and way.destination == datagram.destination
        and size_of(datagram) <= way.size
        and (way.tos, way.ttl) == (datagram.tos, datagram.ttl)
        and way.header[0] >> 4 == version
        and bytes(way.header[end - len(remote) : end]) == remote
    )


def is_lost(way: Way, now: int) -> bool:
    """Tell whether it is known that *way* leads nowhere."""
    return now < way.until and not way.header_length


def send_scout(
    sender: socket.socket,
    data: Sequence[memoryview],
    control: Sequence[Control],
    address: tuple[str, int] | tuple[str, int, int, int],
    datagram: Datagram,
    destination: Destination,
    way: Way,
    now: int,
) -> None:
    """Send one datagram and see which way it goes. Raises OSError when it is not taken."""
    way.until = 0
    is_clear = _empty_queue(sender)
    sender.sendmsg(data, [*control, REQUEST], socket.MSG_DONTWAIT, address)
    way.scouts += 1
    way.header_length = 0
    way.destination = datagram.destination
    way.size = size_of(datagram)
    way.tos, way.ttl = datagram.tos, datagram.ttl
    # The way is that of the device it entered first; it must have passed those below unchanged.
    ways = list[tuple[int, Way]]()
    for shown in _looks(sender):
        if shown is not None:
            seen = Way.from_buffer_copy(way)
            _read_way(shown, bytes(data[0][:COMPARED]), datagram, destination, seen)
            ways.append((shown.number, seen))
    numbers = {number for number, _ in ways}
    if is_clear and len(numbers) == 1 and all(seen.header_length for _, seen in ways):
        first = ways[0][1]
        ctypes.memmove(ctypes.addressof(way), ctypes.addressof(first), ctypes.sizeof(Way))
    way.until = now + (WAY_LASTS if way.header_length else LOST_LASTS)
    way.lost += not way.header_length


def _looks(sender: socket.socket) -> Iterator[Shown | None]:
    """Take messages off the error queue, up to a bound; None for one that is no scout."""
    for _ in range(LOOKS):
        try:
            yield _look(sender)
        except OSError:
            return


def _empty_queue(sender: socket.socket) -> bool:
    """Take everything off the error queue: scouts whose sending failed lie there, and ICMP errors.

    False: there is no end to it.
    """
    return sum(1 for _ in _looks(sender)) < LOOKS


def _look(sender: socket.socket) -> Shown | None:
    """Take the next message off the error queue; None: it is no scout. Raises OSError: no more."""
    flags = socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
    data, control, _, _ = sender.recvmsg(SHOWN, CONTROL_SPACE, flags)
    interface, number, is_scout = 0, 0, False
    for level, kind, content in control:
        if (level, kind) in {
            (socket.IPPROTO_IP, IP_RECVERR),
            (socket.IPPROTO_IPV6, IPV6_RECVERR),
        }:
            # struct sock_extended_err
            _errno, origin, _, _, _, info, number = struct.unpack_from("=IBBBBII", content)
            is_scout = (origin, info) == (ORIGIN_TIMESTAMPING, TSTAMP_SCHED)
        elif (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            interface = struct.unpack_from("=i", content)[0]
        elif (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            interface = struct.unpack_from("=16si", content)[1]
    return Shown(data, interface, number) if is_scout and interface else None


def _read_way(
    shown: Shown, head: bytes, datagram: Datagram, destination: Destination, way: Way
) -> None:
    """Read the way of a scout; header_length is 0 then if others cannot follow."""
    packet, ethertype = shown.data, ETHERTYPES[6 if destination.family == 6 else 4]
    way.interface = shown.interface
    way.address_length = way.header_length = 0
    # The device has Ethernet headers, or none, as other tunnels. The loopback device has addresses
    # of zero: what enters there past the host's routing does not arrive.
    if packet[ethernet.TYPE : ethernet.HEADER] == ethertype.to_bytes(2, "big"):
        way.address_length = ADDRESS
        way.address[:ADDRESS] = packet[:ADDRESS]
        packet = packet[ethernet.HEADER :]
        if not any(way.address[:ADDRESS]):
            return
    expected = _expected_ipv6 if destination.family == 6 else _expected_ipv4
    length = expected(packet, datagram, destination)
    if length == 0 or not packet[length:].startswith(head):
        return
    ctypes.memmove(way.header, packet, length)
    way.header_length = length


def _is_source(destination: Destination, source: bytes) -> bool:
    local = bytes(destination.local)[: len(source)]
    return local == source or not any(local)


def _expected_ipv4(packet: bytes, datagram: Datagram, destination: Destination) -> int:
    """Return the length of the delivery header if it is what *datagram* was to get, else 0."""
    if len(packet) < IPV4_HEADER:
        return 0
    first, tos, length, _, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", packet)
    found = first, tos, length, fragment, ttl, protocol, packet[16:20]
    wanted = (
        *(0x45, datagram.tos, IPV4_HEADER + size_of(datagram)),
        *(DONT_FRAGMENT, datagram.ttl, IPPROTO_GRE),
        bytes(destination.remote)[:4],
    )
    return IPV4_HEADER if found == wanted and _is_source(destination, packet[12:16]) else 0


def _expected_ipv6(packet: bytes, datagram: Datagram, destination: Destination) -> int:
    if len(packet) < IPV6_HEADER + OPTIONS_LENGTH:
        return 0
    first, length, following, limit = struct.unpack_from("!IHBB", packet)
    options = 0
    behind = packet[IPV6_HEADER : IPV6_HEADER + 2]  # next header, length
    if following == DESTINATION_OPTIONS and behind == bytes((IPPROTO_GRE, 0)):
        options = OPTIONS_LENGTH  # the encapsulation limit
    elif following != IPPROTO_GRE:
        return 0
    found = first >> 20, length, limit, packet[24:40]
    wanted = (
        *(6 << 8 | datagram.tos, options + size_of(datagram), datagram.ttl),
        bytes(destination.remote),
    )
    is_expected = found == wanted and _is_source(destination, packet[8:24])
    return IPV6_HEADER + options if is_expected else 0


def follow(follower: socket.socket, data: Sequence[memoryview], way: Way, now: int) -> bool:
    """Send one datagram on *way*; False: it was not taken, and nobody can follow any more.

    Raises OSError when a queue is full, of the device or of the socket: a drop.
    """
    protocol = ETHERTYPES[way.header[0] >> 4]
    header = _next_header(way, sum(map(len, data)))
    try:
        # The socket module knows devices by name.
        request = fcntl.ioctl(follower, SIOCGIFNAME, struct.pack("=16xi20x", way.interface))
        name = os.fsdecode(request[:16].split(b"\0", 1)[0])
        address = name, protocol, 0, 0, bytes(way.address[: way.address_length])
        follower.sendmsg([header, *data], [], socket.MSG_DONTWAIT, address)
    except OSError as error:
        if error.errno in {errno.ENOBUFS, errno.EAGAIN}:
            raise
        # Whatever it was: the ordinary way tells what there is to tell.
        way.header_length = 0
        way.until = now + LOST_LASTS
        return False
    way.followed += 1
    return True


def _next_header(way: Way, size: int) -> bytes:
    header = bytearray(way.header[: way.header_length])
    if header[0] >> 4 == 6:
        struct.pack_into("!H", header, 4, len(header) - IPV6_HEADER + size)
    else:
        number = struct.unpack_from("!H", header, 4)[0] + 1
        # Consecutive numbers, which receive offload needs to merge packets.
        struct.pack_into("!HH", header, 2, IPV4_HEADER + size, number & 0xFFFF)
        struct.pack_into("!H", header, 10, 0)
        struct.pack_into("!H", header, 10, checksum(header))
    way.header[: len(header)] = header
    return bytes(header)
