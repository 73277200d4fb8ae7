"""The pure-Python I/O: the readable twin of the C I/O, with the same contract (_io.pyi).

One system call a packet, where the extension makes one for many. Nothing here looks into a packet
of its own accord (pure_scout.py does, at what the kernel shows), keeps state, or closes a
descriptor.
"""

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gred.dataplane.layout import (
    FRAME_HEADROOM,
    Datagram,
    Destination,
    Frame,
    Outgoing,
    Piece,
    Received,
    Way,
)
from gred.dataplane.pure_scout import follow, is_lost, leads, send_scout, size_of
from gred.dataplane.underlay import IP_PKTINFO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FRAME_LIMIT = 65535  # the largest frame a TUN hands out, vnet header aside
PIECE_LIMIT = 256  # pieces a written frame may have
PENDING_ERROR_LIMIT = 16  # ICMP errors skipped in one receive call
LEAST_RUN = 4  # datagrams that must leave alike for a scout to pay
TOS_OF_PRIORITY = 0x18  # bits of TOS that make the kernel give a queueing priority
CONTROL_SPACE = 256  # more than the ancillary data of one datagram

Row = TypeVar("Row", bound=ctypes.Structure)
Control = tuple[int, int, bytes]


class _Ancillary(NamedTuple):
    """What the kernel tells of an outer IPv6 header beside the data."""

    destination: bytes = bytes(16)
    tos: int = 0
    ttl: int = 0


def _table(buffer: "WriteableBuffer", kind: type[Row]) -> "ctypes.Array[Row]":
    view = memoryview(buffer).cast("B")
    return (kind * (len(view) // ctypes.sizeof(kind))).from_buffer(view)


def _require(function: str, *, fits: bool) -> None:
    if not fits:
        raise ValueError(f"{function}: a buffer is smaller than its count")


@contextmanager
def _borrowed(fd: int, family: int) -> Iterator[socket.socket]:
    """Lend *fd* as a socket object; the caller still owns it."""
    # The calls made here depend on neither type nor protocol; given, they are not asked for.
    borrowed = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW, fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()


def read_frames(
    fd: int,
    arena: "WriteableBuffer",
    prefix: int,
    frames: "WriteableBuffer",
    first: int,
    limit: int,
    /,
) -> int:
    """See _io.pyi."""
    view = memoryview(arena).cast("B")
    table = _table(frames, Frame)
    _require(
        "read_frames", fits=0 <= first <= limit <= len(table) and 0 <= prefix <= FRAME_HEADROOM
    )
    places = [row.offset for row in table[first:limit]]
    last = len(view) - FRAME_LIMIT
    _require("read_frames", fits=all(FRAME_HEADROOM <= place <= last for place in places))
    for filled, offset in enumerate(places):
        try:
            got = os.readv(fd, [view[offset - prefix : offset + FRAME_LIMIT]])
        except BlockingIOError:
            return filled
        except OSError:
            if filled == 0:
                raise
            return filled
        table[first + filled] = Frame(offset=offset, length=max(got - prefix, 0))
    return len(places)


def write_frames(
    arena: "WriteableBuffer",
    outgoing: "WriteableBuffer",
    pieces: "WriteableBuffer",
    count: int,
    /,
) -> int:
    """See _io.pyi."""
    view = memoryview(arena).cast("B")
    table = _table(outgoing, Outgoing)
    _require("write_frames", fits=0 <= count <= len(table))
    chains = [list(_chain(view, frame, _table(pieces, Piece))) for frame in table[:count]]
    failed = 0
    for frame, chain in zip(table, chains, strict=False):
        frame.error = errno.EMSGSIZE if len(chain) > PIECE_LIMIT else _write(frame.fd, chain)
        failed += bool(frame.error)
    return failed


def _chain(
    view: memoryview, frame: Outgoing, pieces: "ctypes.Array[Piece]"
) -> Iterator[memoryview]:
    index = frame.first_piece
    for _ in range(frame.pieces):
        _require("write_frames", fits=index < len(pieces))
        piece = pieces[index]
        _require("write_frames", fits=piece.offset + piece.length <= len(view))
        yield view[piece.offset : piece.offset + piece.length]
        index = piece.next


def _write(fd: int, chain: list[memoryview]) -> int:
    try:
        os.writev(fd, chain)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def send_datagrams(
    fd: int,
    fragmenting_fd: int,
    packet_fd: int,
    way: "WriteableBuffer",
    arena: "WriteableBuffer",
    datagrams: "WriteableBuffer",
    first: int,
    count: int,
    destinations: "WriteableBuffer",
    /,
) -> tuple[int, int]:
    """See _io.pyi."""
    view = memoryview(arena).cast("B")
    table = _table(datagrams, Datagram)
    places = _table(destinations, Destination)
    ways = _table(way, Way)
    _require("send_datagrams", fits=0 <= first <= count <= len(table) and len(ways) > 0)
    _require("send_datagrams", fits=ways[0].header_length <= ctypes.sizeof(ways[0].header))
    for datagram in table[first:count]:
        fits = (
            datagram.head_offset + datagram.head_length <= len(view)
            and datagram.body_offset + datagram.body_length <= len(view)
            and datagram.destination < len(places)
        )
        _require("send_datagrams", fits=fits)
    now = time.monotonic_ns()
    for index in range(first, count):
        datagram = table[index]
        destination = places[datagram.destination]
        family = socket.AF_INET6 if destination.family == 6 else socket.AF_INET
        head, body = datagram.head_offset, datagram.body_offset
        data = [view[head : head + datagram.head_length]]
        if datagram.body_length:
            data.append(view[body : body + datagram.body_length])
        may_follow = packet_fd >= 0 and datagram.dont_fragment
        control, address = _control(destination, datagram), _address(destination)
        try:
            if may_follow and leads(ways[0], datagram, destination, now):
                with _borrowed(packet_fd, socket.AF_PACKET) as follower:
                    if follow(follower, data, ways[0], now):
                        continue
            with _borrowed(fd if datagram.dont_fragment else fragmenting_fd, family) as sender:
                if may_follow and _may_lead(table[index:count], destination, ways[0], now):
                    send_scout(sender, data, control, address, datagram, destination, ways[0], now)
                else:
                    sender.sendmsg(data, control, socket.MSG_DONTWAIT, address)
        except OSError as error:
            return index - first, error.errno or errno.EIO
    return count - first, 0


def _may_lead(row: Sequence[Datagram], destination: Destination, way: Way, now: int) -> bool:
    """Tell whether a scout pays: whether some datagrams behind the first could follow it.

    They are no longer, for what the path carries is asked for the scout. A packet socket gives no
    priority, and neither do most TOS.
    """
    scout = row[0]
    return (
        not is_lost(way, now)
        and (destination.family == 6 or not scout.tos & TOS_OF_PRIORITY)
        and len(row) >= LEAST_RUN
        and all(
            _leave_alike(scout, other) and other.dont_fragment and size_of(other) <= size_of(scout)
            for other in row[1:LEAST_RUN]
        )
    )


def _leave_alike(a: Datagram, b: Datagram) -> bool:
    return (a.destination, a.tos, a.ttl) == (b.destination, b.tos, b.ttl)


def _address(destination: Destination) -> tuple[str, int] | tuple[str, int, int, int]:
    remote = bytes(destination.remote)
    if destination.family == 6:
        scope = destination.interface
        return socket.inet_ntop(socket.AF_INET6, remote), 0, destination.flow_label, scope
    return socket.inet_ntop(socket.AF_INET, remote[:4]), 0


def _control(destination: Destination, datagram: Datagram) -> list[Control]:
    """TTL, TOS and source always.

    The sender is bound to an address that must not become the source, so that "as routed" has to
    be said.
    """
    ttl, tos = struct.pack("=i", datagram.ttl), struct.pack("=i", datagram.tos)
    local, interface = bytes(destination.local), destination.interface
    if destination.family == 6:
        return [
            (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT, ttl),
            (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos),
            # struct in6_pktinfo
            (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, struct.pack("=16sI", local, interface)),
        ]
    return [
        (socket.IPPROTO_IP, socket.IP_TTL, ttl),
        (socket.IPPROTO_IP, socket.IP_TOS, tos),
        # struct in_pktinfo
        (socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4x", interface, local[:4])),
    ]


def receive_datagrams(
    fd: int,
    family: int,
    arena: "WriteableBuffer",
    begin: int,
    stride: int,
    received: "WriteableBuffer",
    limit: int,
    _linger: bool,
    /,
) -> tuple[int, int]:
    """See _io.pyi. Never lingers: the interpreter is slow enough for a burst to gather."""
    view = memoryview(arena).cast("B")
    table = _table(received, Received)
    fits = 0 <= limit <= len(table) and stride > FRAME_HEADROOM and begin >= 0
    _require("receive_datagrams", fits=fits and begin + limit * stride <= len(view))
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    filled = pending = 0
    while filled < limit:
        start = begin + filled * stride
        slot = view[start + FRAME_HEADROOM : start + stride]
        try:
            with _borrowed(fd, kind) as receiver:
                length, control, flags, address = receiver.recvmsg_into(
                    [slot], CONTROL_SPACE, socket.MSG_DONTWAIT
                )
        except BlockingIOError:
            break
        except OSError as error:
            # An ICMP error about a packet sent earlier fails one call, whatever it is for.
            fatal = error.errno in {errno.EBADF, errno.ENOTSOCK}
            if fatal or pending == PENDING_ERROR_LIMIT:
                return filled, error.errno or errno.EIO
            pending += 1
            continue
        entry = Received(offset=start + FRAME_HEADROOM, length=length, family=family)
        entry.truncated = bool(flags & socket.MSG_TRUNC)
        if family == 6:
            told = _read_control(control)
            entry.tos, entry.ttl = told.tos, told.ttl
            entry.source[:] = socket.inet_pton(socket.AF_INET6, address[0])
            entry.destination[:] = told.destination
        table[filled] = entry
        filled += 1
    return filled, 0


def _read_control(control: list[Control]) -> _Ancillary:
    told = _Ancillary()
    for level, kind, data in control:
        if level != socket.IPPROTO_IPV6:
            continue
        if kind == socket.IPV6_PKTINFO:
            told = told._replace(destination=data[:16])
        elif kind == socket.IPV6_TCLASS:
            told = told._replace(tos=struct.unpack("=i", data)[0] & 0xFF)
        elif kind == socket.IPV6_HOPLIMIT:
            told = told._replace(ttl=struct.unpack("=i", data)[0] & 0xFF)
    return told
