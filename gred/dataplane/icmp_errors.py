"""ICMP errors about outer packets: received beside the tunnels, believed when the quote fits.

Raw ICMP sockets of their own: an error queue on the receiving socket (IP_RECVERR) would stop the
loop from watching it. Filters in the kernel leave errors that quote GRE. What is received is
bounded in every turn, followed by a rest, and told upwards once a second for each tunnel and kind:
a flood of forged errors costs little and hides little. No packet passes through this file, and
nothing here decides what an error means for a tunnel.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, Protocol

from gred.dataplane.evidence import Proof
from gred.dataplane.tun import TunDevice
from gred.dataplane.underlay.sockets import Instructions, attach_filter
from gred.wire import icmp
from gred.wire.gre import IPPROTO_GRE
from gred.wire.icmp import ErrorKind, IcmpError, Quote
from gred.wire.transport import IPPROTO_UDP

IPAddress = IPv4Address | IPv6Address

RECEIVE_BUFFER = 64 * 1024  # some 80 errors; the kernel drops the rest of a flood
AT_ONCE = 32  # errors in one turn
REST = 0.05  # seconds between turns
AGAIN_AFTER = 1.0  # seconds until the same is told again
STEP_AFTER = 0.1  # of a path's MTU, which may be found step by step
PORTS = 200  # that are listened for: a jump is 255 instructions at the most

# <linux/icmp.h>, <linux/icmpv6.h>, not in the socket module.
SOL_RAW = 255
ICMP_FILTER = 1
ICMPV6_FILTER = 1

_IPV4_TYPES = (icmp.UNREACHABLE, icmp.TIME_EXCEEDED, icmp.PARAMETER_PROBLEM)
_IPV6_TYPES = (
    icmp.UNREACHABLE6,
    icmp.TOO_BIG6,
    icmp.TIME_EXCEEDED6,
    icmp.PARAMETER_PROBLEM6,
)

# Classic BPF, linux/filter.h: instructions by what they do, and what decides a packet.
_LOAD_LENGTH, _LOAD_BYTE, _LOAD_BYTE_BEHIND, _LOAD_HALF, _LOAD_HALF_BEHIND, _IF, _RETURN = (
    *(0xB1, 0x30, 0x50, 0x28, 0x48),
    *(0x15, 0x06),
)
_UNLESS = -1  # what refuses unless it is equal, where _IF accepts if it is
# Of a quote that lies behind the IPv4 header, whose length is X, and 8 bytes of ICMP; an ICMPv6
# socket begins with these. Our own IPv4 packets have no options.
_PROTOCOL4, _PORT4 = 8 + 9, 8 + 20 + 2
_PROTOCOL6, _PORT6 = 8 + 6, 8 + 40 + 2
# GRE may stand behind extension headers: hop by hop, routing, fragment, destination options.
_EXTENSIONS6 = 0, 43, 44, 60


def _filter(family: Literal[4, 6], ports: Collection[int]) -> Instructions:
    """Return a filter that lets errors pass which quote GRE, or UDP to one of *ports*."""
    if family == 4:
        load_protocol = [(_LOAD_LENGTH, 0), (_LOAD_BYTE_BEHIND, _PROTOCOL4)]
        load_port, accepted = (_LOAD_HALF_BEHIND, _PORT4), [IPPROTO_GRE]
    else:
        load_protocol = [(_LOAD_BYTE, _PROTOCOL6)]
        load_port, accepted = (_LOAD_HALF, _PORT6), [IPPROTO_GRE, *_EXTENSIONS6]
    steps = [*load_protocol, *((_IF, protocol) for protocol in accepted)]
    if ports:
        steps += [(_UNLESS, IPPROTO_UDP), load_port, *((_IF, port) for port in ports)]
    program = []
    for index, (kind, value) in enumerate(steps):
        left = len(steps) - index - 1  # until the last two: refuse, accept
        yes, no = (left + 1, 0) if kind == _IF else (0, left) if kind == _UNLESS else (0, 0)
        program.append((_IF if kind == _UNLESS else kind, yes, no, value))
    return [*program, (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFF)]


@dataclass(frozen=True, slots=True)
class UnderlayError:
    """The underlay, or the kernel when it sends, refuses packets of a tunnel.

    *tunnel*: the interface's name. *offender*: who says so; None: the kernel, of a packet that was
    not sent. Where *kind* is TOO_BIG, in bytes with the outer header: *mtu*: of the path, 0 when it
    is not told; *length*: of the packet, 0 when it is not known. *is_proven*: whether it shows more
    than anybody could have made up. *remote*: where the packet was to go; *port*: in UDP.
    """

    tunnel: str
    kind: ErrorKind
    offender: IPAddress | None
    mtu: int = 0
    length: int = 0
    is_proven: bool = False
    remote: IPAddress | None = None
    port: int = 0


@dataclass(frozen=True, slots=True)
class ErrorIgnored:
    """Errors that were not believed. *count*: how many so far for the same reason, *why*."""

    offender: IPAddress
    kind: ErrorKind
    why: str
    count: int


class Named(Protocol):
    """What must be known of a tunnel to tell of it."""

    device: TunDevice

    def note_error(self, now: float) -> None:
        """Note that one of its packets was refused at *now*."""

    def weigh(self, quote: Quote) -> Proof:
        """Return what *quote*, which fits its addresses, flags and key, proves."""
        ...

    def longest_sent(self, remote: bytes) -> int:
        """Return the longest outer packet to *remote* that left lately; 0: none."""
        ...


class IcmpErrors:
    """Listens for one address family. Calls *report* from the loop. Raises OSError.

    *find* returns the tunnels that a quote fits, two at the most.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        family: Literal[4, 6],
        find: Callable[[Quote], Sequence[Named]],
        report: Callable[[UnderlayError | ErrorIgnored], None],
    ) -> None:
        self._loop = loop
        self._family: Literal[4, 6] = family
        self._find = find
        self._report = report
        self._told: dict[tuple[object, ...], float] = {}  # the oldest first
        self._ignored = Counter[str]()
        self._rest: asyncio.TimerHandle | None = None
        self._ports = frozenset[int]()
        self._socket = _open(family)
        self._loop.add_reader(self._socket, self._ready)

    def listen_for(self, port: int) -> None:
        """Hear of UDP packets to *port* of another host, too, from now on."""
        if port not in self._ports:
            self._ports |= {port}
            attach_filter(self._socket, _filter(self._family, sorted(self._ports)[:PORTS]))

    def close(self) -> None:
        """Stop listening. Harmless twice."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()

    def _ready(self) -> None:
        self._loop.remove_reader(self._socket)
        self._rest = self._loop.call_later(REST, self._watch_again)
        for _ in range(AT_ONCE):
            try:
                message, sender = self._socket.recvfrom(2048)
            except OSError:
                return  # nothing more; or an error that says nothing of a tunnel
            if self._family == 4:
                message = message[(message[0] & 0x0F) * 4 :]
            error = icmp.parse(message, self._family)
            if error is None:
                continue
            self._take(error, ip_address(sender[0].partition("%")[0]))

    def _take(self, error: IcmpError, offender: IPAddress) -> None:
        attachments = self._find(error.quote)
        if len(attachments) != 1:
            if attachments:
                self._ignore(error, offender, "it quotes too little to tell which tunnel it is of")
            return
        (attachment,) = attachments
        proof = attachment.weigh(error.quote)
        is_too_big = error.kind is ErrorKind.TOO_BIG
        if proof is Proof.NOT_OURS or (is_too_big and error.quote.may_fragment):
            self._ignore(error, offender, "it quotes a packet that was not sent")
            return
        length = error.quote.length
        if is_too_big:
            # It is caused by nothing but a packet longer than it tells, RFC 5927 §7.2. Routers that
            # tell none may quote a length greater than the packet's, RFC 1191 §5.
            length = min(length, attachment.longest_sent(error.quote.destination))
            if length <= error.mtu:
                self._ignore(error, offender, "no packet longer than it tells was sent lately")
                return
        else:
            attachment.note_error(self._loop.time())
        told = UnderlayError(
            attachment.device.name,
            error.kind,
            offender,
            error.mtu,
            length if is_too_big else 0,
            is_proven=proof is Proof.SECRET,
            remote=ip_address(error.quote.destination),
            port=0 if error.quote.ports is None else error.quote.ports[1],
        )
        self._tell(told)

    def _ignore(self, error: IcmpError, offender: IPAddress, why: str) -> None:
        """Count an error that is not believed, and tell of the first, the tenth and so on."""
        self._ignored[why] += 1
        count = self._ignored[why]
        if str(count).strip("0") == "1":
            self._report(ErrorIgnored(offender, error.kind, why, count))

    def _watch_again(self) -> None:
        self._rest = None
        self._loop.add_reader(self._socket, self._ready)

    def _tell(self, error: UnderlayError) -> None:
        now = self._loop.time()
        while self._told and now - self._told[oldest := next(iter(self._told))] >= AGAIN_AFTER:
            del self._told[oldest]
        what = (error.tunnel, error.kind, error.remote, error.mtu, error.length)
        again_after = STEP_AFTER if error.kind is ErrorKind.TOO_BIG else AGAIN_AFTER
        if now - self._told.get(what, -AGAIN_AFTER) < again_after:
            return
        self._told.pop(what, None)  # so that the oldest stays first
        self._told[what] = now
        self._report(error)


def _open(family: Literal[4, 6]) -> socket.socket:
    opened = socket.socket(
        socket.AF_INET if family == 4 else socket.AF_INET6,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        icmp.IPPROTO_ICMP if family == 4 else icmp.IPPROTO_ICMPV6,
    )
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        # A set bit refuses its type, here as there.
        if family == 4:
            refused = ~sum(1 << kind for kind in _IPV4_TYPES) & 0xFFFFFFFF
            opened.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", refused))
        else:
            refused = ~sum(1 << kind for kind in _IPV6_TYPES) & 0xFFFFFFFF
            words = struct.pack("=8I", refused, *[0xFFFFFFFF] * 7)
            opened.setsockopt(icmp.IPPROTO_ICMPV6, ICMPV6_FILTER, words)
        attach_filter(opened, _filter(family, ()))
    except BaseException:
        opened.close()
        raise
    return opened
