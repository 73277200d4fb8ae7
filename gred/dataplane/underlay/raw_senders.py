"""Raw sockets that send: the kernel builds the outer header of what goes through them.

They are plain protocol-47 sockets: to policy routing, netfilter and IPsec what they send is
protocol 47; with IP_HDRINCL it would be routed as protocol 255 and pass an IPsec policy for GRE in
clear text. They would also receive a clone of every GRE packet, so they are bound and connected to
the loopback address, from which no peer sends; source and destination come with each datagram.
Being connected, they also number outer packets one by one, which receive offload needs to merge
them. Sockets of IPv6 would send from the address they are bound to, unless it is a group's: theirs
is one that nobody may send to. Where that cannot be (loopback down; other groups) a filter throws
the clones away; and where the kernel is to fragment over IPv6, for it learns of a path's MTU by a
socket that an ICMP error would come to. Nothing here sends.
"""

import contextlib
import socket

from gred.dataplane.layout import SOCKET_TOS, SOCKET_TTL
from gred.dataplane.linux import (
    IP_RECVERR,
    IPV6_ADDR_PREFERENCES,
    IPV6_AUTOFLOWLABEL,
    IPV6_FLOWINFO_SEND,
    IPV6_PREFER_SRC_PUBLIC,
    IPV6_RECVERR,
    PMTUDISC_DONT,
    PMTUDISC_INTERFACE,
    PMTUDISC_PROBE,
    SO_BINDTOIFINDEX,
    SO_SNDBUFFORCE,
)
from gred.dataplane.underlay.contract import Family, SendOptions
from gred.dataplane.underlay.ipsec import sends, set_policy
from gred.dataplane.underlay.sockets import (
    RawSocket,
    UnderlaySocket,
    discover,
    make_deaf,
    open_socket,
    resize,
    set_mark,
)

SEND_BUFFER = 4 * 1024 * 1024
OUTER_LENGTH = {4: 20, 6: 40}  # bytes of the header that the kernel builds
_NOBODY = "ff00::"  # of the reserved scope 0: whatever is sent there is dropped, RFC 4291 §2.7
LIMIT_LENGTH = 8  # of the encapsulation limit's option and its extension header, RFC 2473 §4.1.1


def overhead(family: Family, options: SendOptions) -> int:
    """Return how many bytes stand before GRE in what such a socket sends."""
    has_limit = family == 6 and options.encapsulation_limit is not None
    return OUTER_LENGTH[family] + LIMIT_LENGTH * has_limit


def open_sender(
    family: Family, options: SendOptions, *, dont_fragment: bool, connected: bool = True
) -> RawSocket:
    """Return a socket that sends and receives nothing. Raises OSError."""
    sender = open_socket(RawSocket, family)
    try:
        resize(sender, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        set_mark(sender, options)
        if not dont_fragment:
            how = PMTUDISC_DONT
        else:
            how = PMTUDISC_PROBE if family == 4 else PMTUDISC_INTERFACE
        discover(sender, family, how)
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
            if dont_fragment:
                with contextlib.suppress(OSError):
                    sender.bind((_NOBODY, 0))
            sender.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            set_ipv6_options(sender, options)
        if options.protection is not None:
            # Last: what it is connected to is no matter of IPsec.
            set_policy(sender, family, sends(family, options.protection))
    except BaseException:
        sender.close()
        raise
    return sender


def set_ipv6_options(sender: UnderlaySocket, options: SendOptions) -> None:
    """Give what *sender* sends over IPv6 what is a matter of the socket. Raises OSError."""
    # A source that the kernel chooses should be one that the peer knows tomorrow, no
    # temporary one. RFC 5014 §3; Linux 2.6.26, elsewhere it may be unknown.
    with contextlib.suppress(OSError):
        public = IPV6_PREFER_SRC_PUBLIC
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, public)
    # No lease of a label is asked for: sends fail with EINVAL where one is needed.
    sender.setsockopt(socket.IPPROTO_IPV6, IPV6_FLOWINFO_SEND, 1)
    if not options.auto_flow_label:
        sender.setsockopt(socket.IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, 0)
    if options.interface:
        # Linux 5.0. An index that no device has is taken too: then the sends fail.
        sender.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, options.interface)
    if options.encapsulation_limit is not None:
        header = _limit_header(options.encapsulation_limit)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, header)


def _limit_header(limit: int) -> bytes:
    """Return the destination options header with a tunnel encapsulation limit, and PadN.

    RFC 2473 section 4.1.1, RFC 8200 section 4.2. The kernel fills the next header in.
    """
    return bytes((0, 0, 4, 1, limit, 1, 1, 0))
