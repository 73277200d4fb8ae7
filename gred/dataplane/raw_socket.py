"""Raw sockets of GRE on kernels that do not know every option. No packet passes through this file.

Sandboxes with a network stack of their own, and filters of system calls, refuse options that Linux
has had for twenty years. Some are worth less than a tunnel.
"""

import socket

IPPROTO_GRE = 47

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>: what a tunnel works without, with less.
_DISPENSABLE = {
    # Don't Fragment is then as the kernel has it.
    (socket.IPPROTO_IP, 10): "IP_MTU_DISCOVER",
    (socket.IPPROTO_IPV6, 23): "IPV6_MTU_DISCOVER",
    # A full queue below is then lost without a word.
    (socket.IPPROTO_IP, 11): "IP_RECVERR",
    (socket.IPPROTO_IPV6, 25): "IPV6_RECVERR",
    # Groups that others joined are then received, too; a tunnel that takes them drops them.
    (socket.IPPROTO_IP, 49): "IP_MULTICAST_ALL",
    # Flow labels are then the kernel's.
    (socket.IPPROTO_IPV6, 33): "IPV6_FLOWINFO_SEND",
    (socket.IPPROTO_IPV6, 70): "IPV6_AUTOFLOWLABEL",
    # A sender then has what it received thrown away when its buffer is full.
    (socket.SOL_SOCKET, 26): "SO_ATTACH_FILTER",
}


class RawSocket(socket.socket):
    """A non-blocking raw socket of protocol 47. Raises PermissionError without CAP_NET_RAW.

    *lacks*: the names of the options that it was to have and the kernel refused.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        super().__init__(family, kind, IPPROTO_GRE)
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
