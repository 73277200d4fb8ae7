"""The pure-Python I/O that sends datagrams: the twin of send.c and udp.c. Contract: _io.pyi.

One system call a datagram, where the extension makes one for many; nothing goes past the host's
routing, and the kernel cuts nothing. Nothing here looks into a datagram, keeps state, or closes a
descriptor.
"""

import errno
import socket
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from gred.dataplane.layout import SENT_INTERVAL, Datagram, Destination
from gred.dataplane.linux import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IPV6_MTU_DISCOVER,
    PMTUDISC_DONT,
    PMTUDISC_INTERFACE,
    PMTUDISC_PROBE,
)
from gred.dataplane.pure_buffers import Control, borrowed, require, table

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SEND_ERROR_LIMIT = 3  # calls that ICMP errors fail before one is taken for the kernel's
COMES_OF_ICMP = frozenset(
    {
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPROTO,
        errno.EMSGSIZE,
        errno.EACCES,
        errno.ENOPROTOOPT,
    }
)

Address = tuple[str, int] | tuple[str, int, int, int]


class _Outgoing(NamedTuple):
    """A datagram about to be sent. *message*: what sendmsg() takes."""

    family: int
    flow: int
    dont_fragment: bool
    message: tuple[list[memoryview], list[Control], int, Address]


class _Outbox:
    """Datagrams first..count of one call. Raises ValueError where they do not fit their buffers."""

    def __init__(
        self,
        function: str,
        arena: "WriteableBuffer",
        datagrams: "WriteableBuffer",
        first: int,
        count: int,
        destinations: "WriteableBuffer",
    ) -> None:
        self._view = memoryview(arena).cast("B")
        self._rows = table(datagrams, Datagram)
        self._places = table(destinations, Destination)
        self._first, self._count = first, count
        require(function, fits=0 <= first <= count <= len(self._rows))
        for datagram in self._rows[first:count]:
            fits = (
                datagram.head_offset + datagram.head_length <= len(self._view)
                and datagram.body_offset + datagram.body_length <= len(self._view)
                and datagram.destination < len(self._places)
            )
            require(function, fits=fits)

    def send(self, send: Callable[[_Outgoing], None]) -> tuple[int, int]:
        """Have them sent, until one is refused; return how many were not, and its errno or 0."""
        interval = int(time.monotonic()) // SENT_INTERVAL & 0xFFFFFFFF
        for index in range(self._first, self._count):
            datagram = self._rows[index]
            destination = self._places[datagram.destination]
            try:
                send(self._outgoing(datagram, destination))
            except OSError as error:
                return index - self._first, error.errno or errno.EIO
            _note_sent(datagram, destination, interval)
        return self._count - self._first, 0

    def _outgoing(self, datagram: Datagram, destination: Destination) -> _Outgoing:
        head, body = datagram.head_offset, datagram.body_offset
        data = [self._view[head : head + datagram.head_length]]
        if datagram.body_length:
            data.append(self._view[body : body + datagram.body_length])
        control, address = _control(destination, datagram), _address(destination, datagram)
        return _Outgoing(
            socket.AF_INET6 if destination.family == 6 else socket.AF_INET,
            datagram.flow,
            bool(datagram.dont_fragment),
            (data, control, socket.MSG_DONTWAIT, address),
        )


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
    outbox = _Outbox("send_datagrams", arena, datagrams, first, count, destinations)

    def send(outgoing: _Outgoing) -> None:
        with borrowed(df_fd if outgoing.dont_fragment else no_df_fd, outgoing.family) as sender:
            sender.sendmsg(*outgoing.message)

    return outbox.send(send)


def send_udp(
    sockets: "WriteableBuffer",
    plain_until: "WriteableBuffer",
    arena: "WriteableBuffer",
    datagrams: "WriteableBuffer",
    first: int,
    count: int,
    destinations: "WriteableBuffer",
    /,
) -> tuple[int, int]:
    """See _io.pyi. The kernel cuts nothing: one by one they go in any case."""
    descriptors = memoryview(sockets).cast("B").cast("i")
    fits = bool(descriptors) and len(memoryview(plain_until).cast("B")) >= 8
    require("send_udp", fits=fits)
    outbox = _Outbox("send_udp", arena, datagrams, first, count, destinations)

    def send(outgoing: _Outgoing) -> None:
        place = (outgoing.flow * 0x9E3779B1 & 0xFFFFFFFF) * len(descriptors) >> 32
        with borrowed(descriptors[place], outgoing.family) as sender:
            if not outgoing.dont_fragment:
                _set_dont_fragment(sender, to=False)
            try:
                _send_past_icmp(sender, outgoing)
            finally:
                if not outgoing.dont_fragment:
                    _set_dont_fragment(sender, to=True)

    return outbox.send(send)


def _send_past_icmp(sender: socket.socket, outgoing: _Outgoing) -> None:
    """Send; an ICMP error about a datagram sent earlier fails one call, whatever it is for."""
    for _ in range(SEND_ERROR_LIMIT):
        try:
            sender.sendmsg(*outgoing.message)
        except OSError as error:
            if error.errno not in COMES_OF_ICMP:
                raise
        else:
            return
    sender.sendmsg(*outgoing.message)


def _set_dont_fragment(sender: socket.socket, *, to: bool) -> None:
    if sender.family == socket.AF_INET6:
        how = PMTUDISC_INTERFACE if to else PMTUDISC_DONT
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)
    else:
        how = PMTUDISC_PROBE if to else PMTUDISC_DONT
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)


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


def _address(destination: Destination, datagram: Datagram) -> Address:
    remote, port = bytes(destination.remote), destination.port
    if destination.family == 6:
        scope = destination.interface
        return socket.inet_ntop(socket.AF_INET6, remote), port, datagram.flow_label, scope
    return socket.inet_ntop(socket.AF_INET, remote[:4]), port


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
