"""What IPsec does to GRE between two addresses: policies and states, and what a socket is told.

Asks; changes nothing, and sends nothing. To connect a socket to where a policy wants IPsec and no
state is there yet would have the kernel ask the IKE daemon for one: whoever calls ``largest`` looks
at the policies first. Blocks: for threads only.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gred.config.model import IPAddress, IPNetwork
from gred.control.kernel.linux import (
    NETLINK_XFRM,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    XFRM_MSG_GETPOLICY,
    XFRM_MSG_GETSA,
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
    XFRMA_TMPL,
)
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.dataplane.linux import (
    IP_MTU,
    IPPROTO_GRE,
    IPV6_MTU,
    SO_BINDTOIFINDEX,
    SO_MARK,
)
from gred.dataplane.underlay.sockets import make_deaf

_STATISTICS = Path("/proc/thread-self/net/xfrm_stat")
NO_STATE = 65536  # what IP_MTU is where a policy wants IPsec and no state is there

_HEADER = 16
# linux/xfrm.h. xfrm_selector: daddr, saddr, ports and masks, family, lengths of prefixes, protocol.
_SELECTOR = struct.Struct("=16s16s8xHBBB3xiI")
_POLICY = struct.Struct("=IIBB")  # xfrm_userpolicy_info behind the lifetimes
_POLICY_AT, _POLICY_SIZE = 152, 168
_STATE = struct.Struct("=16s4sB3x16s")  # xfrm_usersa_info: xfrm_id, saddr
_STATE_AT, _STATE_FAMILY_AT = 56, 212
_TEMPLATE = struct.Struct("=16s4sB3xHxx16s")  # xfrm_user_tmpl: xfrm_id, family, saddr
_WIDTH = {socket.AF_INET: 4, socket.AF_INET6: 16}


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: *source* and *destination* are the networks it selects, *protocol* 0 is any.

    *blocks*: nothing passes. *ends*: the other ends that its IPsec has, empty if it wants none; one
    that is None is the packet's own destination.
    """

    outbound: bool
    priority: int
    source: IPNetwork
    destination: IPNetwork
    protocol: int
    device: int
    blocks: bool
    ends: tuple[IPAddress | None, ...] = ()

    def selects(self, source: IPAddress | None, destination: IPAddress) -> bool:
        """Tell whether GRE from *source* (None: not known) to *destination* is meant."""
        return (
            self.protocol in {0, IPPROTO_GRE}
            and destination in self.destination
            and (source is None or source in self.source)
        )


@dataclass(frozen=True, slots=True)
class Tables:
    """All policies, and the ends to which there are states in use."""

    policies: tuple[Policy, ...] = ()
    states: frozenset[IPAddress] = frozenset()

    def outbound(self, source: IPAddress | None, destination: IPAddress) -> Policy | None:
        """Return the policy for what is sent; None: there is none. The lowest priority counts."""
        meant = [p for p in self.policies if p.outbound and p.selects(source, destination)]
        return min(meant, key=lambda policy: policy.priority, default=None)

    def inbound(self, source: IPAddress, destination: IPAddress | None) -> Policy | None:
        """Return the policy for what is received from *source*."""
        meant = [
            policy
            for policy in self.policies
            if not policy.outbound
            and policy.protocol in {0, IPPROTO_GRE}
            and source in policy.source
            and (destination is None or destination in policy.destination)
        ]
        return min(meant, key=lambda policy: policy.priority, default=None)

    def has_state(self, policy: Policy, destination: IPAddress) -> bool:
        """Tell whether each of the policy's ends has a state."""
        return all((end or destination) in self.states for end in policy.ends)


def tables() -> Tables:
    """Return policies and states. Raises OSError: EPERM without CAP_NET_ADMIN."""
    with Rtnetlink(protocol=NETLINK_XFRM) as kernel:
        policies = kernel.dump(_dump(XFRM_MSG_GETPOLICY, _POLICY_SIZE))
        states = kernel.dump(_dump(XFRM_MSG_GETSA, 224))
    return Tables(tuple(read_policies(policies)), frozenset(read_states(states)))


def largest(
    source: IPAddress | None, destination: IPAddress, *, device: int = 0, mark: int = 0
) -> int | OSError:
    """Return the longest outer packet that the kernel would take, or why it takes none.

    The error is EPERM for a policy that blocks. Needs CAP_NET_RAW, else raises PermissionError:
    EPERM of the socket and not of the connection.
    """
    is_ipv6 = destination.version == 6
    level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if is_ipv6 else (socket.IPPROTO_IP, IP_MTU)
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(family, kind, IPPROTO_GRE) as asked:
        try:
            make_deaf(asked)
            if mark:
                asked.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if device:
                asked.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, device)
            if source is not None:
                asked.bind((str(source), 0))
            asked.connect((str(destination), 0))
            return asked.getsockopt(level, option)
        except OSError as error:
            return error


def refused() -> int:
    """Return how many packets IPsec has refused that arrived, of any protocol; 0: not known."""
    return _count("XfrmInNoPols", "XfrmInTmplMismatch", "XfrmInPolBlock", "XfrmInPolError")


def unsent() -> int:
    """Return how many packets IPsec has held back as there was no state; 0: not known."""
    return _count("XfrmOutNoStates")


def _count(*names: str) -> int:
    """Return the sum of counters of this network namespace."""
    try:
        lines = _STATISTICS.read_text().splitlines()
    except OSError:
        return 0  # a kernel without them
    counts = dict(line.split() for line in lines if len(line.split()) == 2)
    return sum(int(counts.get(name, 0)) for name in names)


def read_policies(messages: Sequence[bytes]) -> Iterator[Policy]:
    """Read a dump of policies; those of forwarding and of sockets are left out."""
    for message in messages:
        if len(message) < _HEADER + _POLICY_SIZE:
            continue
        there, here, family, there_bits, here_bits, protocol, device, _user = _SELECTOR.unpack_from(
            message, _HEADER
        )
        priority, _index, direction, action = _POLICY.unpack_from(message, _HEADER + _POLICY_AT)
        if direction not in {XFRM_POLICY_IN, XFRM_POLICY_OUT} or family not in _WIDTH:
            continue
        width = _WIDTH[family]
        yield Policy(
            outbound=direction == XFRM_POLICY_OUT,
            priority=priority,
            source=ipaddress.ip_network((here[:width], here_bits), strict=False),
            destination=ipaddress.ip_network((there[:width], there_bits), strict=False),
            protocol=protocol,
            device=device,
            blocks=action == XFRM_POLICY_BLOCK,
            ends=tuple(_ends(message)),
        )


def read_states(messages: Sequence[bytes]) -> Iterator[IPAddress]:
    """Read a dump of states: the ends of those in use. One that is asked for has no SPI yet."""
    for message in messages:
        if len(message) < _HEADER + _STATE_FAMILY_AT + 2:
            continue
        end, index, _protocol, _source = _STATE.unpack_from(message, _HEADER + _STATE_AT)
        (family,) = struct.unpack_from("=H", message, _HEADER + _STATE_FAMILY_AT)
        if any(index) and family in _WIDTH:
            yield ipaddress.ip_address(end[: _WIDTH[family]])


def _ends(message: bytes) -> Iterator[IPAddress | None]:
    """Yield the other end of each template of a policy."""
    offset = _HEADER + _POLICY_SIZE
    while len(message) - offset >= 4:
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4 or length > len(message) - offset:
            return
        if kind == XFRMA_TMPL:
            for start in range(offset + 4, offset + length - 63, 64):
                end, _index, _protocol, family, _source = _TEMPLATE.unpack_from(message, start)
                width = _WIDTH.get(family, 4)
                yield ipaddress.ip_address(end[:width]) if any(end) else None
        offset += (length + 3) & ~3


def _dump(kind: int, size: int) -> bytes:
    return struct.pack("=IHHII", _HEADER + size, kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + bytes(
        size
    )
