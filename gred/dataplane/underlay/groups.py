"""The multicast groups that packets are received from. Reads no packet.

A socket may join a few groups only: 20 of IPv4 (net.ipv4.igmp_max_memberships), and what fits in
net.core.optmem_max. Beyond that each group has a socket of its own. One of IPv4 is bound to the
group and receives only what is sent there; the first receiver does not get that, as it takes only
from groups of its own (IP_MULTICAST_ALL). Of IPv6, a raw socket receives from all groups that the
host is in: there the other socket only joins, and receives nothing.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from gred.dataplane.descriptors import refuse_the_last
from gred.dataplane.underlay.contract import Family, GroupError, Membership

_FULL = frozenset({errno.ENOBUFS, errno.ENOMEM})


def _option(membership: Membership, family: Family, *, join: bool) -> tuple[int, int, bytes]:
    """Return the arguments of the setsockopt call."""
    group, local, interface = membership.group, membership.local, membership.interface
    if family == 4:  # struct ip_mreqn
        request = struct.pack("=4s4si", group, local, interface)
        kind = socket.IP_ADD_MEMBERSHIP if join else socket.IP_DROP_MEMBERSHIP
        return socket.IPPROTO_IP, kind, request
    request = struct.pack("=16si", group, interface)  # struct ipv6_mreq
    kind = socket.IPV6_JOIN_GROUP if join else socket.IPV6_LEAVE_GROUP
    return socket.IPPROTO_IPV6, kind, request


@dataclass(slots=True)
class _Joined:
    """Which socket is in the group, and for how many tunnels."""

    by: socket.socket
    users: int = 1


class Groups:
    """The groups of one address family.

    *first*: the socket that receives anyway. *open_receiver* returns another like it; *watch* is
    called with each socket that packets are to be read from, *unwatch* before it is closed.
    """

    def __init__(
        self,
        family: Family,
        first: socket.socket,
        *,
        open_receiver: Callable[[], socket.socket],
        watch: Callable[[socket.socket], object],
        unwatch: Callable[[socket.socket], object],
    ) -> None:
        self._family: Family = family
        self._first = first
        self._open_receiver = open_receiver
        self._watch = watch
        self._unwatch = unwatch
        self._joined: dict[Membership, _Joined] = {}

    @property
    def receivers(self) -> list[socket.socket]:
        """Return what packets are read from beside the first."""
        if self._family == 6:
            return []
        return [joined.by for joined in self._joined.values() if joined.by is not self._first]

    def join(self, membership: Membership) -> None:
        """Receive what is sent to a group; to be followed by ``leave``. Raises GroupError."""
        joined = self._joined.get(membership)
        if joined is not None:
            joined.users += 1
            return
        try:
            self._joined[membership] = _Joined(self._join(membership))
        except OSError as error:
            raise GroupError(error, membership) from error

    def leave(self, membership: Membership) -> None:
        """Take one ``join`` back. A device that is gone has taken its memberships along."""
        joined = self._joined[membership]
        joined.users -= 1
        if joined.users:
            return
        del self._joined[membership]
        if joined.by is self._first:
            with contextlib.suppress(OSError):
                self._first.setsockopt(*_option(membership, self._family, join=False))
        else:
            self._close(joined.by)

    def close(self) -> None:
        """Leave all. The first socket stays open."""
        while self._joined:
            _membership, joined = self._joined.popitem()
            if joined.by is not self._first:
                self._close(joined.by)

    def _join(self, membership: Membership) -> socket.socket:
        option = _option(membership, self._family, join=True)
        try:
            self._first.setsockopt(*option)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # joined by the process before, which it outlived
                return self._first
            if error.errno not in _FULL:
                raise
        else:
            return self._first
        if self._family == 6:
            joiner = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        else:
            joiner = self._open_receiver()
        try:
            refuse_the_last(joiner.fileno())
            if self._family == 4:
                joiner.bind((socket.inet_ntoa(membership.group), 0))
                _empty(joiner)
            joiner.setsockopt(*option)
            if self._family == 4:
                self._watch(joiner)
        except BaseException:
            joiner.close()
            raise
        return joiner

    def _close(self, joiner: socket.socket) -> None:
        if self._family == 4:
            self._unwatch(joiner)
        joiner.close()


def _empty(receiver: socket.socket) -> None:
    """Throw away what arrived before the socket was bound: the first receiver has it."""
    with contextlib.suppress(BlockingIOError):
        while True:
            receiver.recv(1)
