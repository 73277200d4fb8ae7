"""The underlay of GRE-in-UDP, RFC 8086: a socket for each port that is received from, and senders.

Tunnels share ports: which one a datagram is for its addresses and key tell, as with protocol 47. A
port is open as long as some tunnel receives from it or sends from it: what a NAT lets in comes to
where was sent from. A tunnel sends from sixteen ports, the flow chooses which, so that the routers
and the network cards on the way see many flows; or from one. Nothing here builds a GRE header or
reads one.
"""

import array
import errno
import mmap
import os
import socket
from collections.abc import Sequence
from dataclasses import replace

from gred.dataplane import io
from gred.dataplane.batch import STRIDE, Arrivals, EgressBatch
from gred.dataplane.layout import Transport
from gred.dataplane.underlay.contract import (
    Family,
    GroupError,
    Guard,
    Membership,
    Sender,
    SendOptions,
    Store,
    Unwatch,
    Watch,
)
from gred.dataplane.underlay.raw_senders import overhead
from gred.dataplane.underlay.sockets import UdpSocket, drops, told_mtu
from gred.dataplane.underlay.udp_sockets import (
    accept_no_checksum,
    adopt_receiver,
    open_receiver,
    open_sender,
)

UDP_LENGTH = 8  # RFC 768
FLOWS = 16  # ports that a tunnel sends from
_NEVER = 0xFFFFFFFFFFFFFFFF


class UdpReceiver:
    """A socket that is bound to one port. *users*: how many senders have taken it."""

    def __init__(self, opened: UdpSocket, family: Family, port: int, arrivals: Arrivals) -> None:
        self.arrivals = arrivals
        self.socket = opened
        self.port = port
        self.users = 0
        self._fd = opened.fileno()
        self._family: Family = family

    def fileno(self) -> int:
        """See contract.Receiver."""
        return self._fd

    def receive(self, *, busy_poll: bool) -> tuple[int, int]:
        """See contract.Receiver."""
        arrivals = self.arrivals
        return io.receive_udp(
            self._fd,
            self._family,
            arrivals.arena,
            arrivals.SLOTS,
            STRIDE,
            arrivals.received,
            arrivals.limit,
            busy_poll,
        )


class Senders:
    """The sockets that send with equal options. Raises OSError. *users*: how many took them."""

    def __init__(self, family: Family, options: SendOptions) -> None:
        self.options = options
        self.users = 0
        self.sockets = list[UdpSocket]()
        # The kernel cuts nothing that it is to give no checksum.
        self.plain_until = array.array("Q", [0 if options.checksum else _NEVER])
        try:
            for _ in range(1 if options.source_port else FLOWS):
                self.sockets.append(open_sender(family, options))
        except BaseException:
            self.close()
            raise
        self.descriptors = array.array("i", [opened.fileno() for opened in self.sockets])

    def close(self) -> None:
        """Close all."""
        for opened in self.sockets:
            opened.close()


class UdpSender:
    """What a tunnel sends through. Opened and given back by its underlay."""

    __slots__ = "_receivers", "_senders", "_underlay", "no_bypass", "overhead"

    def __init__(
        self,
        underlay: "UdpUnderlay",
        senders: Senders,
        receivers: tuple[UdpReceiver, ...],
        no_bypass: str,
    ) -> None:
        self.no_bypass = no_bypass
        self.overhead = overhead(underlay.family, senders.options) + UDP_LENGTH
        self._underlay = underlay
        self._senders = senders
        self._receivers = receivers

    def transmit(
        self, batch: EgressBatch, first: int, end: int, destinations: mmap.mmap
    ) -> tuple[int, int]:
        """See contract.Sender."""
        senders = self._senders
        return io.send_udp(
            senders.descriptors,
            senders.plain_until,
            batch.arena,
            batch.datagrams,
            first,
            end,
            destinations,
        )

    def told_mtu(self) -> int:
        """See contract.Sender."""
        return next((mtu for one in self._senders.sockets if (mtu := told_mtu(one))), 0)

    def close(self) -> None:
        """See contract.Sender."""
        self._underlay.give_back(self._senders, self._receivers)


class UdpUnderlay:
    """The sockets of one IP version; none is open until a sender is taken."""

    transport = Transport.UDP

    def __init__(
        self,
        family: Family,
        *,
        watch: Watch = lambda _receiver: None,
        unwatch: Unwatch = lambda _descriptor: None,
        store: Store | None = None,
    ) -> None:
        self.family: Family = family
        self.arrivals = Arrivals(Arrivals.MOST)
        self.receivers: dict[int, UdpReceiver] = {}
        """Those that are open, by port."""
        self._senders: dict[SendOptions, Senders] = {}
        self._overrun: dict[UdpReceiver, int] = {}
        self._watch = watch
        self._unwatch = unwatch
        self._store = store

    def take_sender(self, options: SendOptions, *, no_bypass: str) -> Sender:
        """See contract.Underlay; raises PortTakenError, too. Its port is received from."""
        ports = dict.fromkeys(filter(None, (options.port, options.source_port)))
        receivers = list[UdpReceiver]()
        try:
            for port in ports:
                receivers.append(self._take_receiver(port))
                if not options.checksum and self.family == 6:
                    accept_no_checksum(receivers[-1].socket)
            senders = self._take_senders(options)
        except BaseException:
            self._leave_receivers(receivers)
            raise
        return UdpSender(self, senders, tuple(receivers), no_bypass)

    def give_back(self, senders: Senders, receivers: tuple[UdpReceiver, ...]) -> None:
        """Take one ``take_sender`` back; what nobody uses any more is closed."""
        senders.users -= 1
        if not senders.users:
            del self._senders[senders.options]
            senders.close()
        self._leave_receivers(receivers)

    def leave_stored(self) -> None:
        """See contract.Underlay."""
        self._store = None

    def join(self, membership: Membership) -> None:
        """See contract.Underlay: nobody sends GRE-in-UDP to a group."""
        raise GroupError(OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP)), membership)

    def leave(self, membership: Membership) -> None:
        """See contract.Underlay."""

    def guard(self, guarded: Guard) -> None:
        """See contract.Underlay: of UDP no remote is guarded so far."""
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), guarded)

    def unguard(self, guarded: Guard) -> None:
        """See contract.Underlay."""

    def overrun(self) -> int:
        """See contract.Underlay."""
        before, self._overrun = self._overrun, {}
        for receiver in self.receivers.values():
            so_far = drops(receiver.socket)
            if so_far is not None:
                self._overrun[receiver] = so_far
        return sum(
            (so_far - before.get(receiver, 0)) & 0xFFFFFFFF
            for receiver, so_far in self._overrun.items()
        )

    def features(self) -> dict[str, str]:
        """See contract.Underlay."""
        found = {}
        for receiver in self.receivers.values():
            size = receiver.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            found["receive_buffer"] = str(size)
            if receiver.socket.lacks:
                found["socket_options"] = f"without {', '.join(sorted(receiver.socket.lacks))}"
        return found

    def close(self) -> None:
        """See contract.Underlay."""
        while self._senders:
            self._senders.popitem()[1].close()
        while self.receivers:
            _port, receiver = self.receivers.popitem()
            self._unwatch(receiver.fileno())
            receiver.socket.close()

    def _take_receiver(self, port: int) -> UdpReceiver:
        receiver = self.receivers.get(port)
        if receiver is None:
            opened = self._open_receiver(port)
            receiver = UdpReceiver(opened, self.family, port, self.arrivals)
            # What was lost before is not this process's to count.
            self._overrun[receiver] = drops(opened) or 0
            self._watch(receiver)
            self.receivers[port] = receiver
        receiver.users += 1
        return receiver

    def _open_receiver(self, port: int) -> UdpSocket:
        """Return the socket that the store keeps, with what has arrived meanwhile, or a new one."""
        if self._store is None:
            return open_receiver(self.family, port)
        name = self._stored_as(port)
        kept = self._store.take(name)
        if kept is not None:
            try:
                return adopt_receiver(self.family, port, kept)
            except OSError:
                self._store.remove(name)
        opened = open_receiver(self.family, port)
        self._store.keep(name, opened.fileno())
        return opened

    def _leave_receivers(self, receivers: Sequence[UdpReceiver]) -> None:
        for receiver in receivers:
            receiver.users -= 1
            if receiver.users:
                continue
            del self.receivers[receiver.port]
            self._unwatch(receiver.fileno())
            receiver.socket.close()
            if self._store is not None:
                self._store.remove(self._stored_as(receiver.port))

    def _take_senders(self, options: SendOptions) -> Senders:
        # Where it is received says nothing of what sends.
        options = replace(options, port=0)
        senders = self._senders.get(options)
        if senders is None:
            senders = self._senders[options] = Senders(self.family, options)
        senders.users += 1
        return senders

    def _stored_as(self, port: int) -> str:
        return f"udp{self.family}-{port}"
