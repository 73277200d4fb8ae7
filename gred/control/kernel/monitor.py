"""Notices that links, addresses, routes, rules, filters or IPsec changed. Says nothing about what.

Messages of netlink(7) are thrown away unread: whoever is told looks for itself, which is right
also when messages were lost. Of tables of iptables-legacy the kernel tells nothing: they are looked
at now and then. Nothing here waits or decides.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from gred.control.kernel.iptables import iptables_reasons
from gred.control.kernel.linux import (
    NETLINK_LISTEN_ALL_NSID,
    NETLINK_NETFILTER,
    NETLINK_NO_ENOBUFS,
    NETLINK_XFRM,
    SOL_NETLINK,
)

# Multicast groups of NETLINK_ROUTE by number, linux/rtnetlink.h.
_GROUPS = {
    "LINK": 1,
    "IPV4_IFADDR": 5,
    "IPV4_ROUTE": 7,
    "IPV4_RULE": 8,
    "IPV6_IFADDR": 9,
    "IPV6_ROUTE": 11,
    "IPV6_RULE": 19,
    "NEXTHOP": 32,
}
_MEMBERSHIP = sum(1 << number - 1 for number in _GROUPS.values())
# XFRMNLGRP_EXPIRE, _SA and _POLICY, linux/xfrm.h. Not those that ask for associations: the kernel
# takes whoever hears that for an IKE daemon.
_IPSEC = 1 << 2 - 1 | 1 << 3 - 1 | 1 << 4 - 1
_NFTABLES = 1 << 7 - 1  # NFNLGRP_NFTABLES, linux/netfilter/nfnetlink.h


_TABLES_EVERY = 2.0  # seconds: of tables of iptables-legacy nobody tells

_DRAIN_AT_MOST = 256  # messages in one wake-up: a storm of routes must not starve the tunnels


class LinkMonitor:
    """Calls *changed* on the loop, at most once in *delay* seconds, after anything changed.

    The delay counts from the first change and is not prolonged by more of them: a network that
    never rests is looked at all the same.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[], None],
        *,
        delay: float = 0.1,
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._delay = delay
        self._listeners: list[socket.socket] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tables: dict[int, str] = {}
        self._look: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to listen. Raises OSError."""
        self._listeners = open_listeners()
        try:
            for listener in self._listeners:
                self._loop.add_reader(listener, self._ready, listener)
        except BaseException:
            self.close()
            raise
        self._tables = iptables_reasons()
        self._look = self._loop.call_later(_TABLES_EVERY, self._look_at_tables)

    def listen_everywhere(self) -> None:
        """Listen to other network namespaces, too: all that have a number here (ip-netns(8)).

        One gets it with the first interface that is moved there (dev_change_net_namespace).

        A socket in there would keep a namespace that was deleted. Without CAP_NET_BROADCAST nothing
        is heard of them, and nothing said.
        """
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.setsockopt(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1)

    def close(self) -> None:
        """Stop listening; *changed* is not called again. Closing twice is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._look is not None:
            self._look.cancel()
            self._look = None
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners = []

    def _ready(self, listener: socket.socket) -> None:
        if drain(listener):
            self._note()

    def _look_at_tables(self) -> None:
        before, self._tables = self._tables, iptables_reasons()
        if self._tables != before:
            self._note()
        self._look = self._loop.call_later(_TABLES_EVERY, self._look_at_tables)

    def _note(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._changed()


def open_listeners() -> list[socket.socket]:
    """Open sockets that the kernel tells of every change. Raises OSError."""
    listeners = [_open(socket.NETLINK_ROUTE, _MEMBERSHIP)]
    # Without netfilter, or without the right to hear of it: see netfilter.py.
    with contextlib.suppress(OSError):
        listeners.append(_open(NETLINK_NETFILTER, _NFTABLES))
    with contextlib.suppress(OSError):
        listeners.append(_open(NETLINK_XFRM, _IPSEC))
    return listeners


def _open(protocol: int, membership: int) -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    listener = socket.socket(socket.AF_NETLINK, kind, protocol)
    try:
        # Of messages that it had no room for the kernel would tell by an error on the socket, upon
        # which libuv stops watching it. Those that it had room for are change enough. Sandboxes
        # may not know the option, and have no such error either.
        with contextlib.suppress(OSError):
            listener.setsockopt(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1)
        listener.bind((0, membership))
    except BaseException:
        listener.close()
        raise
    return listener


def drain(listener: socket.socket) -> bool:
    """Throw away what *listener* has, within bounds; return whether there was anything.

    Lost messages (ENOBUFS: the receive buffer was full) are a change like any other, and so is
    whatever else the kernel says once instead of a message.
    """
    scrap = bytearray(1)  # the rest of a datagram is cut off by the kernel
    something = False
    for _ in range(_DRAIN_AT_MOST):
        try:
            listener.recv_into(scrap)
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno == errno.EBADF:
                raise
        something = True
    return something
