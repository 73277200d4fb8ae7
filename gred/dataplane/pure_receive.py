"""The pure-Python I/O that receives datagrams: the twin of receive.c. Contract: _io.pyi.

One system call a datagram, where the extension makes one for many. Nothing here looks behind the
outer header, keeps state, or closes a descriptor.
"""

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gred.dataplane import linux
from gred.dataplane.layout import FRAME_HEADROOM, Received, Transport
from gred.dataplane.pure_buffers import Control, borrowed, require, table
from gred.wire.drop import DropReason
from gred.wire.ip import IPv4Header
from gred.wire.malformed import MalformedPacketError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PENDING_ERROR_LIMIT = 16  # ICMP errors skipped in one receive call
CONTROL_SPACE = 256  # more than the ancillary data of one datagram
MERGED_LIMIT = 128  # datagrams that the kernel merges, at most: UDP_MAX_SEGMENTS


class _Ancillary(NamedTuple):
    """What the kernel tells of an outer header beside the data.

    *segment*: the length of each datagram but the last, where it merged several.
    """

    destination: bytes = bytes(16)
    tos: int = 0
    ttl: int = 0
    segment: int = 0


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
    rows = table(received, Received)
    fits = 0 <= limit <= len(rows) and stride > FRAME_HEADROOM and begin >= 0
    require("receive_datagrams", fits=fits and begin + limit * stride <= len(view))
    filled = 0
    slots = (
        view[start + FRAME_HEADROOM : start + stride]
        for start in range(begin, begin + limit * stride, stride)
    )
    try:
        for slot, control, flags, address in _receive(fd, family, slots):
            entry = Received(
                offset=begin + filled * stride + FRAME_HEADROOM,
                length=len(slot),
                family=family,
                transport=Transport.IP,
            )
            if family == 4:
                read_header(slot, entry)
            else:
                told = _read_control(control)
                entry.tos, entry.ttl = told.tos, told.ttl
                entry.source[:] = socket.inet_pton(socket.AF_INET6, address[0])
                entry.destination[:] = told.destination
            if flags & socket.MSG_TRUNC:
                entry.verdict = DropReason.TRUNCATED  # the slot was too small
            rows[filled] = entry
            filled += 1
    except OSError as error:
        return filled, error.errno or errno.EIO
    return filled, 0


def receive_udp(
    fd: int,
    family: int,
    arena: "WriteableBuffer",
    slots: int,
    stride: int,
    received: "WriteableBuffer",
    limit: int,
    _busy_poll: bool,
    /,
) -> tuple[int, int]:
    """See _io.pyi. Never polls, as receive_datagrams."""
    view = memoryview(arena).cast("B")
    rows = table(received, Received)
    fits = 0 <= limit <= len(rows) and stride > FRAME_HEADROOM and slots >= 0
    require("receive_udp", fits=fits and slots * stride <= len(view))
    filled = 0
    places = iter(range(0, slots * stride, stride))

    def free() -> Iterator[memoryview]:
        for start in places:
            if limit - filled < MERGED_LIMIT:
                return
            yield view[start + FRAME_HEADROOM : start + stride]

    offset = FRAME_HEADROOM
    try:
        for slot, control, flags, address in _receive(fd, family, free()):
            told = _read_control(control)
            entry = Received(family=family, transport=Transport.UDP, tos=told.tos, ttl=told.ttl)
            kind, length = (socket.AF_INET6, 16) if family == 6 else (socket.AF_INET, 4)
            entry.source[:length] = socket.inet_pton(kind, address[0].partition("%")[0])
            entry.destination[:] = told.destination
            if flags & socket.MSG_TRUNC:
                entry.verdict = DropReason.TRUNCATED  # the slot was too small
            for done, size in _parts(len(slot), told.segment):
                entry.offset, entry.length = offset + done, size
                rows[filled] = entry
                filled += 1
            if len(slot) > MERGED_LIMIT * told.segment > 0:
                rows[filled - 1].verdict = DropReason.TRUNCATED  # the kernel merges no more
            offset += stride
    except OSError as error:
        return filled, error.errno or errno.EIO
    return filled, 0


def _parts(length: int, segment: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each datagram of those that were received as one."""
    size = segment or length
    last = min(MERGED_LIMIT, -(-length // size) if size else 1) - 1
    for index in range(last):
        yield index * size, size
    yield last * size, length - last * size


def _receive(
    fd: int, family: int, slots: Iterator[memoryview]
) -> Iterator[tuple[memoryview, list[Control], int, tuple[str, int]]]:
    """Receive into each of *slots* as long as there is something. Raises OSError.

    An ICMP error about a packet sent earlier fails one call, whatever it is for.
    """
    kind = socket.AF_INET6 if family == 6 else socket.AF_INET
    pending = 0
    for slot in slots:
        while True:
            try:
                with borrowed(fd, kind) as receiver:
                    length, control, flags, address = receiver.recvmsg_into(
                        [slot], CONTROL_SPACE, socket.MSG_DONTWAIT
                    )
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in {errno.EBADF, errno.ENOTSOCK} or pending == PENDING_ERROR_LIMIT:
                    raise
                pending += 1
            else:
                break
        yield slot[:length], control, flags, address


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
        match level, kind:
            case socket.IPPROTO_IPV6, socket.IPV6_PKTINFO:
                told = told._replace(destination=data[:16])
            case socket.IPPROTO_IP, linux.IP_PKTINFO:
                told = told._replace(destination=data[8:12].ljust(16, b"\0"))
            case (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) | (socket.IPPROTO_IP, socket.IP_TOS):
                told = told._replace(tos=int.from_bytes(data, sys.byteorder) & 0xFF)
            case (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT) | (socket.IPPROTO_IP, socket.IP_TTL):
                told = told._replace(ttl=struct.unpack("=i", data)[0] & 0xFF)
            case socket.IPPROTO_UDP, linux.UDP_GRO:
                told = told._replace(segment=struct.unpack("=i", data)[0])
    return told
