"""The pure-Python I/O: the readable twin of the C I/O, with the same contract (_io.pyi).

One system call a packet, where the extension makes one for many; nothing goes past the host's
routing. Nothing here looks behind the outer header, keeps state, or closes a descriptor.
"""

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from gred.dataplane.layout import (
    FRAME_HEADROOM,
    SENT_INTERVAL,
    Datagram,
    Destination,
    Frame,
    Piece,
    Received,
    Transport,
    TunWrite,
)
from gred.dataplane.linux import IP_PKTINFO
from gred.wire.drop import DropReason
from gred.wire.ip import IPv4Header
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FRAME_LIMIT = 65535  # the largest frame a TUN hands out, vnet header aside
PIECE_LIMIT = 256  # pieces a written frame may have
PENDING_ERROR_LIMIT = 16  # ICMP errors skipped in one receive call
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
    headers: "WriteableBuffer",
    tun_writes: "WriteableBuffer",
    pieces: "WriteableBuffer",
    count: int,
    /,
) -> int:
    """See _io.pyi."""
    memories = memoryview(arena).cast("B"), memoryview(headers).cast("B")
    table = _table(tun_writes, TunWrite)
    _require("write_frames", fits=0 <= count <= len(table))
    chains = [list(_chain(memories, frame, _table(pieces, Piece))) for frame in table[:count]]
    failed = 0
    for frame, chain in zip(table, chains, strict=False):
        frame.error = errno.EMSGSIZE if len(chain) > PIECE_LIMIT else _write(frame.fd, chain)
        failed += bool(frame.error)
    return failed


def _chain(
    memories: tuple[memoryview, memoryview], frame: TunWrite, pieces: "ctypes.Array[Piece]"
) -> Iterator[memoryview]:
    index = frame.first_piece
    for _ in range(frame.pieces):
        _require("write_frames", fits=index < len(pieces))
        piece = pieces[index]
        view = memories[bool(piece.is_header)]
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
    df_fd: int,
    no_df_fd: int,
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
    _require("send_datagrams", fits=0 <= first <= count <= len(table))
    for datagram in table[first:count]:
        fits = (
            datagram.head_offset + datagram.head_length <= len(view)
            and datagram.body_offset + datagram.body_length <= len(view)
            and datagram.destination < len(places)
        )
        _require("send_datagrams", fits=fits)
    interval = int(time.monotonic()) // SENT_INTERVAL & 0xFFFFFFFF
    for index in range(first, count):
        datagram = table[index]
        destination = places[datagram.destination]
        family = socket.AF_INET6 if destination.family == 6 else socket.AF_INET
        head, body = datagram.head_offset, datagram.body_offset
        data = [view[head : head + datagram.head_length]]
        if datagram.body_length:
            data.append(view[body : body + datagram.body_length])
        control, address = _control(destination, datagram), _address(destination)
        try:
            with _borrowed(df_fd if datagram.dont_fragment else no_df_fd, family) as sender:
                sender.sendmsg(data, control, socket.MSG_DONTWAIT, address)
        except OSError as error:
            return index - first, error.errno or errno.EIO
        _note_sent(datagram, destination, interval)
    return count - first, 0


def _note_sent(datagram: Datagram, destination: Destination, interval: int) -> None:
    """Let *destination* keep the longest that was sent.

    What has no Don't Fragment is never too long for a router, but over IPv6.
    """
    if not datagram.dont_fragment and destination.family == 4:
        return
    if destination.sent_interval != interval:
        is_next = (destination.sent_interval + 1) & 0xFFFFFFFF == interval
        destination.sent_before = destination.sent_longest if is_next else 0
        destination.sent_longest = 0
        destination.sent_interval = interval
    size = min(datagram.head_length + datagram.body_length, 0xFFFF)
    destination.sent_longest = max(destination.sent_longest, size)


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
    _busy_poll: bool,
    /,
) -> tuple[int, int]:
    """See _io.pyi. Never polls: the interpreter is slow enough for a burst to gather."""
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
        entry = Received(
            offset=start + FRAME_HEADROOM, length=length, family=family, transport=Transport.IP
        )
        if family == 4:
            read_header(slot[:length], entry)
        else:
            told = _read_control(control)
            entry.tos, entry.ttl = told.tos, told.ttl
            entry.source[:] = socket.inet_pton(socket.AF_INET6, address[0])
            entry.destination[:] = told.destination
        if flags & socket.MSG_TRUNC:
            entry.verdict = DropReason.TRUNCATED  # the slot was too small
        table[filled] = entry
        filled += 1
    return filled, 0


def read_header(packet: memoryview, entry: Received) -> None:
    """Fill *entry* from an IPv4 packet: the kernel leaves the outer header where it is."""
    try:
        header = IPv4Header.parse(packet)
    except MalformedPacketError:
        entry.verdict = DropReason.TRUNCATED
        return
    if header.length > len(packet):
        entry.verdict = DropReason.TRUNCATED
        return
    entry.outer_length, entry.tos, entry.ttl = header.length, header.tos, header.ttl
    entry.source[:4] = header.source
    entry.destination[:4] = header.destination


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
