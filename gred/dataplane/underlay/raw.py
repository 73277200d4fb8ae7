"""The underlay of IP protocol 47: a raw socket that receives, pairs of them that send.

The receiver must not have IP_RECVERR: a pending error would raise EPOLLERR, on which libuv stops
watching a descriptor.

What the kernel takes with each datagram (addresses, device, TTL, TOS, flow label) is no matter of
the socket. What it does not take so, is: Don't Fragment makes two senders a pair, and each set of
``SendOptions`` that some tunnel uses has a pair of its own. A thousand tunnels without such options
share one. Nothing here builds a GRE header or reads one.
"""

import errno
import mmap
import socket
from typing import TYPE_CHECKING

from gred.dataplane import io
from gred.dataplane.batch import STRIDE, Arrivals, EgressBatch
from gred.dataplane.layout import Transport
from gred.dataplane.linux import (
    IP_MULTICAST_ALL,
    IPV6_FLOWINFO_SEND,
    PMTUDISC_INTERFACE,
    SO_RCVBUFFORCE,
)
from gred.dataplane.underlay.bypass import Bypass, BypassSender, open_bypass
from gred.dataplane.underlay.contract import (
    PLAIN,
    Family,
    Guard,
    Membership,
    Sender,
    SendOptions,
    Store,
    Unwatch,
    Watch,
)
from gred.dataplane.underlay.groups import Groups
from gred.dataplane.underlay.guarded import Guarded
from gred.dataplane.underlay.raw_senders import open_sender, overhead
from gred.dataplane.underlay.sockets import (
    RawSocket,
    adopt_socket,
    detach_filter,
    discover,
    drops,
    labels_are_refused,
    open_socket,
    resize,
    told_mtu,
)

if TYPE_CHECKING:
    from collections.abc import Callable

RECEIVE_BUFFER = 8 * 1024 * 1024  # the default of 208 KiB holds some 100 packets


class RawReceiver:
    """A raw socket of protocol 47 that packets are read from."""

    def __init__(self, receiver: socket.socket, family: Family, arrivals: Arrivals) -> None:
        self.arrivals = arrivals
        self._fd = receiver.fileno()
        self._family: Family = family

    def fileno(self) -> int:
        """See contract.Receiver."""
        return self._fd

    def receive(self, *, busy_poll: bool) -> tuple[int, int]:
        """See contract.Receiver."""
        arrivals = self.arrivals
        return io.receive_datagrams(
            self._fd,
            self._family,
            arrivals.arena,
            0,
            STRIDE,
            arrivals.received,
            arrivals.SLOTS,
            busy_poll,
        )


class Pair:
    """Two sockets for equal options, with Don't Fragment and without, and a bypass. Raises OSError.

    The bypass is opened when it is first asked for. *leave* is called with a pair that a sender
    gives back.
    """

    def __init__(
        self, family: Family, options: SendOptions, leave: "Callable[[Pair], None]"
    ) -> None:
        self.family: Family = family
        self.options = options
        self._leave = leave
        self.users = 0
        self._has_labels = family == 6 and options.auto_flow_label
        self._bypass: Bypass | str | None = None
        self.df = open_sender(family, options, dont_fragment=True)
        try:
            self.no_df = open_sender(family, options, dont_fragment=False)
        except BaseException:
            self.df.close()
            raise

    @property
    def bypass(self) -> Bypass | str:
        """The sockets past the host's routing, or why there are none."""
        if self._bypass is None:
            self._bypass = open_bypass(self.family, self.options)
        return self._bypass

    def forgo_labels(self, error: int) -> bool:
        """After a send failed with *error*: send without flow labels of our own from now on.

        Return whether that may help: they were the reason. Labels are the kernel's then.
        """
        if error != errno.EINVAL or not self._has_labels or not labels_are_refused():
            return False
        self._has_labels = False
        probe = (self._bypass.probe,) if isinstance(self._bypass, Bypass) else ()
        for sender in (self.df, self.no_df, *probe):
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 0)
        return True

    def leave(self) -> None:
        """Give it back."""
        self._leave(self)

    def close(self) -> None:
        """Close all."""
        self.df.close()
        self.no_df.close()
        if isinstance(self._bypass, Bypass):
            self._bypass.close()


class RawSender:
    """A tunnel's sender, all of whose packets go through the host's routing."""

    __slots__ = "_descriptors", "_pair", "no_bypass", "overhead"

    def __init__(self, pair: Pair, no_bypass: str) -> None:
        self.no_bypass = no_bypass
        self.overhead = overhead(pair.family, pair.options)
        self._pair = pair
        self._descriptors = pair.df.fileno(), pair.no_df.fileno()

    def transmit(
        self, batch: EgressBatch, first: int, end: int, destinations: mmap.mmap
    ) -> tuple[int, int]:
        """See contract.Sender."""
        sent, error = io.send_datagrams(
            *self._descriptors, batch.arena, batch.datagrams, first, end, destinations
        )
        if error and self._pair.forgo_labels(error):
            more, error = self.transmit(batch, first + sent, end, destinations)
            sent += more
        return sent, error

    def told_mtu(self) -> int:
        """See contract.Sender."""
        return told_mtu(self._pair.df)

    def close(self) -> None:
        """See contract.Sender."""
        self._pair.leave()


class RawUnderlay:
    """The sockets of one IP version. Raises PermissionError without CAP_NET_RAW."""

    transport = Transport.IP

    def __init__(
        self,
        family: Family,
        *,
        watch: Watch = lambda _receiver: None,
        unwatch: Unwatch = lambda _descriptor: None,
        store: Store | None = None,
    ) -> None:
        self.family: Family = family
        self.arrivals = Arrivals()
        self._pairs: dict[SendOptions, Pair] = {}
        self._overrun: dict[socket.socket, int] = {}
        self._unwatch = unwatch
        self.receiver = self._first_receiver(store)
        self.groups = Groups(
            family,
            self.receiver,
            open_receiver=lambda: _open_receiver(family),
            watch=lambda opened: watch(RawReceiver(opened, family, self.arrivals)),
            unwatch=lambda opened: unwatch(opened.fileno()),
        )
        self.guarded = Guarded(
            family,
            self.receiver,
            open_receiver=lambda: _open_receiver(family),
            watch=lambda opened: watch(RawReceiver(opened, family, self.arrivals)),
            unwatch=lambda opened: unwatch(opened.fileno()),
        )
        try:
            # Held by the underlay itself: stays when the last tunnel goes.
            self.plain = self._take(PLAIN)
            watch(RawReceiver(self.receiver, family, self.arrivals))
        except BaseException:
            self._close()
            raise

    def features(self) -> dict[str, str]:
        """See contract.Underlay."""
        found = {
            "receive_buffer": str(self.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))
        }
        if drops(self.receiver) is None:
            found["receive_drops"] = "not counted: the kernel does not tell"
        opened: tuple[RawSocket, ...] = self.receiver, self.plain.df, self.plain.no_df
        if lacks := sorted({name for one in opened for name in one.lacks}):
            found["socket_options"] = f"without {', '.join(lacks)}"
        return found

    def overrun(self) -> int:
        """See contract.Underlay."""
        before, self._overrun = self._overrun, {}
        for receiver in (self.receiver, *self.groups.receivers, *self.guarded.receivers):
            so_far = drops(receiver)
            if so_far is not None:
                self._overrun[receiver] = so_far
        return sum(
            (so_far - before.get(receiver, 0)) & 0xFFFFFFFF
            for receiver, so_far in self._overrun.items()
        )

    def take_sender(self, options: SendOptions, *, no_bypass: str) -> Sender:
        """See contract.Underlay."""
        pair = self._take(options)
        if no_bypass:
            return RawSender(pair, no_bypass)
        bypass = pair.bypass
        if isinstance(bypass, str):
            return RawSender(pair, bypass)
        return BypassSender(pair, bypass)

    def leave_stored(self) -> None:
        """See contract.Underlay: the receiver stays there as long as there is one."""

    def join(self, membership: Membership) -> None:
        """See contract.Underlay."""
        self.groups.join(membership)

    def leave(self, membership: Membership) -> None:
        """See contract.Underlay."""
        self.groups.leave(membership)

    def guard(self, guarded: Guard) -> None:
        """See contract.Underlay."""
        self.guarded.guard(guarded.remote, guarded.mode)

    def unguard(self, guarded: Guard) -> None:
        """See contract.Underlay."""
        self.guarded.leave(guarded.remote)

    def close(self) -> None:
        """See contract.Underlay."""
        self._unwatch(self.receiver.fileno())
        self._close()

    def _first_receiver(self, store: Store | None) -> RawSocket:
        """Return the socket that *store* keeps, with what has arrived meanwhile, or a new one.

        As long as it is open somewhere, no host is told that nobody takes protocol 47.
        """
        if store is None:
            return _open_receiver(self.family)
        name = f"gre{self.family}"
        kept = store.take(name)
        if kept is not None:
            try:
                receiver = _prepare(adopt_socket(RawSocket, self.family, kept), self.family)
                detach_filter(receiver)  # of the process before: who is guarded is known anew
            except OSError:
                store.remove(name)
            else:
                # What was lost before this process is not its to count.
                self._overrun[receiver] = drops(receiver) or 0
                return receiver
        receiver = _open_receiver(self.family)
        store.keep(name, receiver.fileno())
        return receiver

    def _take(self, options: SendOptions) -> Pair:
        """Return the pair for *options*, opened at its first use. Raises OSError."""
        pair = self._pairs.get(options)
        if pair is None:
            pair = self._pairs[options] = Pair(self.family, options, self._leave)
        pair.users += 1
        return pair

    def _leave(self, pair: Pair) -> None:
        """Give a pair back; the last user's going closes it."""
        pair.users -= 1
        if not pair.users:
            del self._pairs[pair.options]
            pair.close()

    def _close(self) -> None:
        self.guarded.close()
        self.groups.close()
        self.receiver.close()
        while self._pairs:
            self._pairs.popitem()[1].close()


def _open_receiver(family: Family) -> RawSocket:
    return _prepare(open_socket(RawSocket, family), family)


def _prepare(receiver: RawSocket, family: Family) -> RawSocket:
    """Give *receiver* all it is to have, some of it again. Closes it and raises OSError."""
    try:
        resize(receiver, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        discover(receiver, family, PMTUDISC_INTERFACE)
        if family == 4:
            # Groups that other programs have joined are none of ours.
            receiver.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
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
