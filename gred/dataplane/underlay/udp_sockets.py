"""Sockets of GRE-in-UDP: one for each port that is received from, and those that send.

What sends must not receive: it is deaf. Its port is one of its own, of the range that RFC 8086
section 3.2.1 names, or that of a receiver. There the two form a group, of which a program has the
receiver get everything (SO_REUSEPORT); it is bound before anybody may join, so that another
program, or a second gred, is refused the port and not given a share. No packet passes through this
file.
"""

import errno
import random
import socket

from gred.dataplane.layout import SOCKET_TOS, SOCKET_TTL
from gred.dataplane.linux import (
    IP_PKTINFO,
    IP_RECVERR,
    IP_RECVTTL,
    IPV6_RECVERR,
    PMTUDISC_INTERFACE,
    PMTUDISC_PROBE,
    SO_ATTACH_REUSEPORT_CBPF,
    SO_NO_CHECK,
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    UDP_GRO,
    UDP_NO_CHECK6_RX,
    UDP_NO_CHECK6_TX,
)
from gred.dataplane.underlay.contract import Family, PortTakenError, SendOptions
from gred.dataplane.underlay.raw_senders import SEND_BUFFER, set_ipv6_options
from gred.dataplane.underlay.sockets import (
    UdpSocket,
    adopt_socket,
    attach_filter,
    discover,
    make_deaf,
    open_socket,
    resize,
    set_mark,
)

RECEIVE_BUFFER = 8 * 1024 * 1024  # the default of 208 KiB holds some 100 packets
SOURCE_PORTS = range(49152, 65536)  # RFC 8086 section 3.2.1
ATTEMPTS = 100  # ports of which all are taken are not the network's fault
_THE_FIRST = [(0x06, 0, 0, 0)]  # return 0: the index of the socket that was bound first
_ANY = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - the address comes with each datagram


def open_receiver(family: Family, port: int) -> UdpSocket:
    """Return a socket that receives from *port*. Raises OSError, PortTakenError."""
    receiver = open_socket(UdpSocket, family)
    try:
        if family == 6:
            receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            receiver.bind((_ANY[family], port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTakenError(port) from error
            raise
    except BaseException:
        receiver.close()
        raise
    return _prepare(receiver, family)


def adopt_receiver(family: Family, port: int, descriptor: int) -> UdpSocket:
    """Return the receiver that another process opened. Closes it and raises OSError if unfit."""
    receiver = adopt_socket(UdpSocket, family, descriptor)
    if receiver.getsockname()[1] != port:
        receiver.close()
        raise OSError(errno.EINVAL, "it is bound to another port")
    return _prepare(receiver, family)


def accept_no_checksum(receiver: UdpSocket) -> None:
    """Receive over IPv6 what has no checksum, too. RFC 6935, RFC 6936 section 4."""
    receiver.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_RX, 1)


def _prepare(receiver: UdpSocket, family: Family) -> UdpSocket:
    """Give *receiver* all it is to have, some of it again. Closes it and raises OSError."""
    try:
        resize(receiver, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        discover(receiver, family, PMTUDISC_INTERFACE)
        receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        # Who sends from this port joins; who is not of this user, or asks for it alone, cannot.
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == 4:
            for option in (IP_PKTINFO, socket.IP_RECVTOS, IP_RECVTTL):
                receiver.setsockopt(socket.IPPROTO_IP, option, 1)
        else:
            for option in (
                socket.IPV6_RECVPKTINFO,
                socket.IPV6_RECVTCLASS,
                socket.IPV6_RECVHOPLIMIT,
            ):
                receiver.setsockopt(socket.IPPROTO_IPV6, option, 1)
    except BaseException:
        receiver.close()
        raise
    return receiver


def open_sender(family: Family, options: SendOptions) -> UdpSocket:
    """Return a socket that sends from ``source_port``, or a port of its own. Raises OSError."""
    sender = open_socket(UdpSocket, family)
    try:
        make_deaf(sender)
        resize(sender, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        set_mark(sender, options)
        discover(sender, family, PMTUDISC_PROBE if family == 4 else PMTUDISC_INTERFACE)
        if family == 4:
            # Without it the kernel hides a full device queue (ENOBUFS).
            sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            # The I/O leaves out what the socket has already.
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, SOCKET_TTL)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, SOCKET_TOS)
            if not options.checksum:
                sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        else:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            set_ipv6_options(sender, options)
            if not options.checksum:
                sender.setsockopt(socket.IPPROTO_UDP, UDP_NO_CHECK6_TX, 1)
        if options.source_port:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sender.bind((_ANY[family], options.source_port))
            attach_filter(sender, _THE_FIRST, SO_ATTACH_REUSEPORT_CBPF)
        else:
            _bind_anywhere(sender, family)
    except BaseException:
        sender.close()
        raise
    return sender


def _bind_anywhere(sender: UdpSocket, family: Family) -> None:
    for attempt, port in enumerate(random.sample(SOURCE_PORTS, ATTEMPTS), 1):
        try:
            sender.bind((_ANY[family], port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == ATTEMPTS:
                raise
        else:
            return
