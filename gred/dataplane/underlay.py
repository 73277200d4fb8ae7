"""The sockets towards the underlay: one that receives IP protocol 47, pairs that send it.

Nothing here builds, parses or moves a packet.

The senders are plain protocol-47 sockets: the kernel builds the outer header. To policy routing,
netfilter and IPsec what they send is protocol 47; with IP_HDRINCL it would be routed as protocol
255 and pass an IPsec policy for GRE in clear text. They would also receive a clone of every GRE
packet, so they are bound and connected to the loopback address, from which no peer sends; source
and destination come with each datagram. Being connected, they also number outer packets one by one,
which receive offload needs to merge them. Where that cannot be (loopback down; IPv6, whose sockets
would send from the address they are bound to) a filter throws the clones away.

What the kernel takes with each datagram (addresses, device, TTL, TOS, flow label) is no matter of
the socket. What it does not take so, is: Don't Fragment makes two senders a pair, and each set of
``SendOptions`` that some tunnel uses has a pair of its own. A thousand tunnels without such
options share one. Beside each pair are a sender of scouts and a packet socket, for datagrams that
follow what the kernel has just shown the way of (native/scout.c). That sender is not connected, so
that its datagrams queue where the followers do; the packet socket receives nothing.

The receiver must not have IP_RECVERR: a pending error would raise EPOLLERR, on which libuv stops
watching a descriptor.
"""

import contextlib
import ctypes
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from gred.dataplane.descriptors import refuse_the_last
from gred.dataplane.groups import Family, Groups
from gred.dataplane.layout import SOCKET_TOS, SOCKET_TTL
from gred.dataplane.raw_socket import RawSocket

RECEIVE_BUFFER = 8 * 1024 * 1024  # the default of 208 KiB holds some 100 packets
SEND_BUFFER = 4 * 1024 * 1024

# <linux/in.h>, <linux/in6.h>, <asm-generic/socket.h>; not in the socket module.
IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
IPV6_FLOWINFO_SEND = 33
IPV6_AUTOFLOWLABEL = 70
IPV6_ADDR_PREFERENCES = 72
IPV6_PREFER_SRC_PUBLIC = 0x0002
IP_MULTICAST_ALL = 49
# What a socket does with path MTUs, <linux/in.h>; the same numbers for IPv6. DONT lets the kernel
# fragment, PROBE refuses what is longer than the device's MTU. INTERFACE is PROBE without Don't
# Fragment, and keeps ICMP errors about the socket's packets from teaching the kernel.
PMTUDISC_DONT = 0
PMTUDISC_PROBE = 3
PMTUDISC_INTERFACE = 4
SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_MARK = 36
SO_TIMESTAMPING = 37
SO_MEMINFO = 55
SO_BINDTOIFINDEX = 62

# <linux/sock_diag.h>: what SO_MEMINFO returns, 32 bits each.
SK_MEMINFO_DROPS = 8
SK_MEMINFO_VARS = 9

# <linux/net_tstamp.h>
SOF_TIMESTAMPING_SOFTWARE = 1 << 4
SOF_TIMESTAMPING_OPT_ID = 1 << 7
SOF_TIMESTAMPING_OPT_CMSG = 1 << 10

NO_SOCKET = -1

Watch = Callable[[socket.socket], object]


@dataclass(frozen=True, slots=True)
class SendOptions:
    """What outer packets have from the socket they are sent through.

    *mark*: for routing rules and netfilter; 0: none. The others are IPv6's. *encapsulation_limit*:
    sent in a destination option of 8 bytes, RFC 2473 section 4.1.1; None: not sent.
    *auto_flow_label*: label with a hash of the addresses what has no label of its own. *interface*:
    index of the device to leave through; beside a source address IPv6 takes that of a datagram for
    a wish, that of a socket for an order; 0: as routed.
    """

    mark: int = 0
    encapsulation_limit: int | None = None
    auto_flow_label: bool = True
    interface: int = 0


PLAIN = SendOptions()


class Senders:
    """A pair of sending sockets: with Don't Fragment and without. Raises OSError.

    *scouts* and *packet*: the sender of scouts and the packet socket of their followers; None where
    the kernel gives none, and *no_packet* says why.
    """

    def __init__(self, family: Family, options: SendOptions) -> None:
        self.options = options
        self.users = 0
        self.whole = _open_sender(family, options, dont_fragment=True)
        try:
            self.fragmenting = _open_sender(family, options, dont_fragment=False)
        except BaseException:
            self.whole.close()
            raise
        self.scouts: socket.socket | None = None
        self.packet: socket.socket | None = None
        self.no_packet = ""
        try:
            self.scouts, self.packet = _open_followers(family, options)
        except OSError as error:  # sandboxes have raw sockets and nothing else
            self.no_packet = os.strerror(error.errno or 0)

    def close(self) -> None:
        """Close all."""
        self.whole.close()
        self.fragmenting.close()
        for one in (self.scouts, self.packet):
            if one is not None:
                one.close()


class Underlay:
    """The sockets of one address family. Raises PermissionError without CAP_NET_RAW.

    *watch* is called with each socket that packets are to be read from, *unwatch* before it is
    closed.
    """

    def __init__(
        self,
        family: Family,
        *,
        watch: Watch = lambda _receiver: None,
        unwatch: Watch = lambda _receiver: None,
    ) -> None:
        self.family: Family = family
        self._senders: dict[SendOptions, Senders] = {}
        self._overrun: dict[socket.socket, int] = {}
        self._unwatch = unwatch
        self.receiver = _open_receiver(family)
        self.groups = Groups(
            family,
            self.receiver,
            open_receiver=lambda: _open_receiver(family),
            watch=watch,
            unwatch=unwatch,
        )
        try:
            # Held by the underlay itself: stays when the last tunnel goes.
            self.plain = self.take_senders(PLAIN)
            watch(self.receiver)
        except BaseException:
            self._close()
            raise

    @property
    def lacks(self) -> list[str]:
        """Return the names of the socket options that the kernel refused and tunnels do without."""
        plain = self.plain
        opened = self.receiver, plain.whole, plain.fragmenting
        return sorted({name for one in opened for name in one.lacks})

    @property
    def receive_buffer(self) -> int:
        """Bytes of the receive buffer, as the kernel counts them."""
        return self.receiver.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)

    @property
    def drops(self) -> int | None:
        """How many datagrams the receiver's kernel side threw away, modulo 2**32; None: not told.

        For want of room in the receive buffer, but for a few that an IPsec policy refused. The
        kernel counts them in any case; to ask costs a system call, and nothing on a packet's way.
        """
        return _drops(self.receiver)

    def overrun(self) -> int:
        """Return how many datagrams were thrown away since the last call."""
        before, self._overrun = self._overrun, {}
        for receiver in (self.receiver, *self.groups.receivers):
            drops = _drops(receiver)
            if drops is not None:
                self._overrun[receiver] = drops
        return sum(
            (drops - before.get(receiver, 0)) & 0xFFFFFFFF
            for receiver, drops in self._overrun.items()
        )

    def take_senders(self, options: SendOptions) -> Senders:
        """Return the pair for *options*, opened at its first use. Raises OSError.

        Each call is to be followed by one of ``leave_senders``.
        """
        senders = self._senders.get(options)
        if senders is None:
            senders = self._senders[options] = Senders(self.family, options)
        senders.users += 1
        return senders

    def leave_senders(self, senders: Senders) -> None:
        """Give a pair back; the last user's going closes it."""
        senders.users -= 1
        if not senders.users:
            del self._senders[senders.options]
            senders.close()

    def close(self) -> None:
        """Close all."""
        self._unwatch(self.receiver)
        self._close()

    def _close(self) -> None:
        self.groups.close()
        self.receiver.close()
        while self._senders:
            self._senders.popitem()[1].close()


def _drops(receiver: socket.socket) -> int | None:
    size = 4 * SK_MEMINFO_VARS
    try:
        told = receiver.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, size)
    except OSError:
        return None
    if len(told) <= 4 * SK_MEMINFO_DROPS:
        return None
    return int(struct.unpack_from("=I", told, 4 * SK_MEMINFO_DROPS)[0])


def _open_receiver(family: Family) -> RawSocket:
    receiver = _open(family)
    try:
        _size(receiver, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _discover(receiver, family, PMTUDISC_INTERFACE)
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


def _open(family: Family) -> RawSocket:
    opened = RawSocket(socket.AF_INET if family == 4 else socket.AF_INET6)
    try:
        refuse_the_last(opened.fileno())
    except BaseException:
        opened.close()
        raise
    return opened


def _open_sender(
    family: Family, options: SendOptions, *, dont_fragment: bool, connected: bool = True
) -> RawSocket:
    sender = _open(family)
    try:
        _size(sender, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        _mark(sender, options)
        if not dont_fragment:
            discover = PMTUDISC_DONT
        else:
            discover = PMTUDISC_PROBE if family == 4 else PMTUDISC_INTERFACE
        _discover(sender, family, discover)
        if family == 4:
            try:
                sender.bind(("127.0.0.1", 0))
                if connected:
                    sender.connect(("127.0.0.1", 0))
                else:
                    make_deaf(sender)
            except OSError:
                make_deaf(sender)
            # Without it the kernel hides a full device queue (ENOBUFS) from raw sockets.
            sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            # The I/O leaves out what the socket has already.
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, SOCKET_TTL)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, SOCKET_TTL)
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, SOCKET_TOS)
            # What a tunnel sends to a group is not for this host.
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        else:
            make_deaf(sender)
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            # A source that the kernel chooses should be one that the peer knows tomorrow, no
            # temporary one. RFC 5014 §3; Linux 2.6.26, elsewhere it may be unknown.
            with contextlib.suppress(OSError):
                public = IPV6_PREFER_SRC_PUBLIC
                sender.setsockopt(socket.IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, public)
            # No lease of a label is asked for: since Linux 5.3 none is needed, unless somebody in
            # this network namespace holds an exclusive one; then sends fail with EINVAL.
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
            if not options.auto_flow_label:
                sender.setsockopt(socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0)
            if options.interface:
                # Linux 5.0. An index that no device has is taken too: then the sends fail.
                sender.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, options.interface)
            if options.encapsulation_limit is not None:
                header = _limit_header(options.encapsulation_limit)
                sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, header)
    except BaseException:
        sender.close()
        raise
    return sender


def _open_followers(family: Family, options: SendOptions) -> tuple[socket.socket, socket.socket]:
    """Open a sender whose datagrams the kernel shows as they leave, and a packet socket."""
    with contextlib.ExitStack() as undo:
        # Protocol 0: nothing is received.
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        packet = undo.enter_context(socket.socket(socket.AF_PACKET, kind, 0))
        _size(packet, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        _mark(packet, options)
        scouts = undo.enter_context(
            _open_sender(family, options, dont_fragment=True, connected=False)
        )
        for refused in scouts.lacks.values():
            raise refused  # what went ahead could not be told
        # Which datagrams are shown is said with each; with it comes the device that it left by.
        wanted = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_CMSG
        scouts.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, wanted)
        if family == 4:
            scouts.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            scouts.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        undo.pop_all()
        return scouts, packet


def _discover(opened: socket.socket, family: Family, how: int) -> None:
    if family == 4:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, how)
    else:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, how)


def _mark(opened: socket.socket, options: SendOptions) -> None:
    if options.mark:
        opened.setsockopt(socket.SOL_SOCKET, SO_MARK, struct.pack("=I", options.mark))


def _limit_header(limit: int) -> bytes:
    """Return the destination options header with a tunnel encapsulation limit, and PadN.

    RFC 2473 section 4.1.1, RFC 8200 section 4.2. The kernel fills the next header in.
    """
    return bytes((0, 0, 4, 1, limit, 1, 1, 0))


def make_deaf(sender: socket.socket) -> None:
    """Attach a filter that drops whatever arrives: one instruction, "return 0"."""
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    sender.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def _size(opened: socket.socket, force: int, plain: int, size: int) -> None:
    """Give a socket a large buffer: beyond the sysctl limit where CAP_NET_ADMIN allows."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, force, size)
    except OSError:
        opened.setsockopt(socket.SOL_SOCKET, plain, size)
