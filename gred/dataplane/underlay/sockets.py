"""Sockets of the underlay: how they are opened and asked, on kernels that do not know every option.

No packet passes through this file.

Sandboxes with a network stack of their own, and filters of system calls, refuse options that Linux
has had for twenty years. Some are worth less than a tunnel.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from typing import TypeVar

from gred.dataplane.descriptors import refuse_elsewhere, refuse_the_last
from gred.dataplane.linux import (
    IP_MTU_DISCOVER,
    IP_MULTICAST_ALL,
    IP_RECVERR,
    IPPROTO_GRE,
    IPV6_AUTOFLOWLABEL,
    IPV6_FLOWINFO_SEND,
    IPV6_MTU_DISCOVER,
    IPV6_RECVERR,
    SK_MEMINFO_DROPS,
    SK_MEMINFO_VARS,
    SO_ATTACH_FILTER,
    SO_DETACH_FILTER,
    SO_EE_ORIGIN_LOCAL,
    SO_MARK,
    SO_MEMINFO,
    UDP_GRO,
)
from gred.dataplane.underlay.contract import Family, SendOptions

_SIOCGSKNS = 0x894C  # linux/sockios.h
QUEUED_ERRORS = 512  # more than the default receive buffer holds
_EXTENDED_ERROR = struct.Struct("=IB3xI")  # struct sock_extended_err: errno, origin, info

# What a tunnel works without, with less.
_DISPENSABLE = {
    # Don't Fragment is then as the kernel has it.
    (socket.IPPROTO_IP, IP_MTU_DISCOVER): "IP_MTU_DISCOVER",
    (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER): "IPV6_MTU_DISCOVER",
    # A full queue below is then lost without a word.
    (socket.IPPROTO_IP, IP_RECVERR): "IP_RECVERR",
    (socket.IPPROTO_IPV6, IPV6_RECVERR): "IPV6_RECVERR",
    # Groups that others joined are then received, too; a tunnel that takes them drops them.
    (socket.IPPROTO_IP, IP_MULTICAST_ALL): "IP_MULTICAST_ALL",
    # Flow labels are then the kernel's.
    (socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND): "IPV6_FLOWINFO_SEND",
    (socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL): "IPV6_AUTOFLOWLABEL",
    # A batch then has fewer packets.
    (socket.IPPROTO_UDP, UDP_GRO): "UDP_GRO",
    # A sender then has what it received thrown away when its buffer is full.
    (socket.SOL_SOCKET, SO_ATTACH_FILTER): "SO_ATTACH_FILTER",
}


class UnderlaySocket(socket.socket):
    """A non-blocking socket that outer packets come or go through. Raises OSError.

    *kind*, *protocol*: what it is. *descriptor*: of such a socket that is there already. *lacks*:
    the names of the options that it was to have and the kernel refused.
    """

    def __init__(
        self,
        family: socket.AddressFamily,
        kind: int,
        protocol: int,
        descriptor: int | None = None,
    ) -> None:
        if descriptor is None:
            super().__init__(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        else:
            super().__init__(fileno=descriptor)
            self.setblocking(False)
        self.lacks = dict[str, OSError]()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:  # type: ignore[override]
        """Set an option. Raises OSError unless it is one that a tunnel works without."""
        try:
            super().setsockopt(level, option, value)
        except OSError as error:
            name = _DISPENSABLE.get((level, option))
            if name is None:
                raise
            self.lacks[name] = error


class RawSocket(UnderlaySocket):
    """A raw socket of protocol 47. Raises PermissionError without CAP_NET_RAW."""

    def __init__(self, family: socket.AddressFamily, descriptor: int | None = None) -> None:
        super().__init__(family, socket.SOCK_RAW, IPPROTO_GRE, descriptor)


class UdpSocket(UnderlaySocket):
    """A socket of GRE-in-UDP."""

    def __init__(self, family: socket.AddressFamily, descriptor: int | None = None) -> None:
        super().__init__(family, socket.SOCK_DGRAM, socket.IPPROTO_UDP, descriptor)


def labels_are_refused() -> bool:
    """Return whether the kernel lets nobody choose a flow label without a lease.

    So until Linux 5.3, and as long as somebody in this network namespace, whoever it is, holds an
    exclusive lease of any label.
    """
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            asking.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
            asking.connect(("::1", 9, 1, 0))
        except OSError as error:
            return error.errno == errno.EINVAL
    return False


Instructions = Sequence[tuple[int, int, int, int]]
Opened = TypeVar("Opened", RawSocket, UdpSocket)


def open_socket(kind: type[Opened], family: Family) -> Opened:
    """Return an open socket, unless it would be one of the last descriptors. Raises OSError."""
    opened = kind(socket.AF_INET if family == 4 else socket.AF_INET6)
    try:
        refuse_the_last(opened.fileno())
    except BaseException:
        opened.close()
        raise
    return opened


def adopt_socket(kind: type[Opened], family: Family, descriptor: int) -> Opened:
    """Return the socket that another process has opened. Closes it and raises OSError if unfit."""
    domain = socket.AF_INET if family == 4 else socket.AF_INET6
    try:
        opened = kind(domain, descriptor)
    except OSError:  # no socket
        os.close(descriptor)
        raise
    wanted = {
        RawSocket: (domain, socket.SOCK_RAW, IPPROTO_GRE),
        UdpSocket: (domain, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    }[kind]
    try:
        refuse_elsewhere(fcntl.ioctl(opened, _SIOCGSKNS))
    except BaseException:
        opened.close()
        raise
    if (opened.family, opened.type, opened.proto) != wanted:
        opened.close()
        raise OSError(errno.EINVAL, "it is another socket")
    return opened


def discover(opened: socket.socket, family: Family, how: int) -> None:
    """Say what the socket does with path MTUs: one of PMTUDISC_*."""
    if family == 4:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)


def set_mark(opened: socket.socket, options: SendOptions) -> None:
    """Give what the socket sends its mark, if it is to have one."""
    if options.mark:
        opened.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", options.mark))


def make_deaf(sender: socket.socket) -> None:
    """Attach a filter that drops whatever arrives: one instruction, "return 0"."""
    attach_filter(sender, [(0x06, 0, 0, 0)])


def attach_filter(
    opened: socket.socket, instructions: Instructions, option: int = SO_ATTACH_FILTER
) -> None:
    """Attach a classic BPF filter: (code, jump if true, jump if false, value), linux/filter.h.

    *option*: what it is to decide.
    """
    packed = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    memory = ctypes.create_string_buffer(packed, len(packed))
    program = struct.pack("HL", len(instructions), ctypes.addressof(memory))
    opened.setsockopt(socket.SOL_SOCKET, option, program)


def detach_filter(opened: socket.socket) -> None:
    """Take the filter away, if there is one. Raises OSError."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def resize(opened: socket.socket, force: int, plain: int, size: int) -> None:
    """Give a socket a large buffer: beyond the sysctl limit where CAP_NET_ADMIN allows."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, plain, size)


def drops(receiver: socket.socket) -> int | None:
    """Return how many datagrams the socket threw away so far, modulo 2**32; None: not told.

    For want of room in the receive buffer, but for a few that an IPsec policy refused. The kernel
    counts them in any case; to ask costs a system call, and nothing on a packet's way.
    """
    size = 4 * SK_MEMINFO_VARS
    try:
        told = receiver.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, size)
    except OSError:
        return None
    if len(told) <= 4 * SK_MEMINFO_DROPS:
        return None
    return int(struct.unpack_from("=I", told, 4 * SK_MEMINFO_DROPS)[0])


def told_mtu(sender: socket.socket) -> int:
    """Empty the error queue of *sender*; return the MTU that the kernel itself put there, or 0.

    That is the MTU a packet met that was not sent for its size (EMSGSIZE). Errors that came from
    the network leave with it: nobody needs them, and they take room in the queue. (A pending one
    fails no send on these sockets: only those with IP_HDRINCL look.)
    """
    mtu = 0
    for _ in range(QUEUED_ERRORS):
        try:
            _data, control, _flags, _address = sender.recvmsg(
                0, 256, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT
            )
        except OSError:
            break
        for level, kind, data in control:
            is_error = (level, kind) in {
                (socket.IPPROTO_IP, IP_RECVERR),
                (socket.IPPROTO_IPV6, IPV6_RECVERR),
            }
            if is_error and len(data) >= _EXTENDED_ERROR.size:
                number, origin, info = _EXTENDED_ERROR.unpack_from(data)
                if number == errno.EMSGSIZE and origin == SO_EE_ORIGIN_LOCAL:
                    mtu = info
    return mtu
