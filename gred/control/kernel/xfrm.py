"""What IPsec does to GRE between two addresses: policies and states, and what a socket is told.

Asks; changes nothing, and sends nothing. To connect a socket to where a policy wants IPsec and no
state is there yet would have the kernel ask the IKE daemon for one: whoever calls ``largest`` looks
at the policies first. Blocks: for threads only.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
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
    XFRMA_ALG_AEAD,
    XFRMA_ALG_CRYPT,
    XFRMA_IF_ID,
    XFRMA_MARK,
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
_STATE_AT, _STATE_SIZE = 56, 224
_EXPIRES_AT, _ADDED_AT = 136, 176  # hard_add_expires_seconds; add_time, seconds of the wall clock
_STATE_REST = struct.Struct("=IHB")  # reqid, family, mode
_STATE_REST_AT = 208
_TEMPLATE = struct.Struct("=16s4sB3xHxx16sIBBB")  # xfrm_user_tmpl, as far as "optional"
_TEMPLATE_SIZE = 64
_NAME_SIZE = 64  # of an algorithm, then the length of its key in bits
_FOREVER = 0xFFFFFFFFFFFFFFFF
_MODES = {0: "transport", 1: "tunnel", 4: "beet"}
_ESP = 50
# What the kernel calls algorithms, and how many bits of their keys are no key but a salt.
_CIPHERS = {
    "rfc4106(gcm(aes))": ("aes-gcm", 32),
    "rfc4309(ccm(aes))": ("aes-ccm", 24),
    "rfc7539esp(chacha20,poly1305)": ("chacha20-poly1305", 32),
    "cbc(aes)": ("aes-cbc", 0),
    "rfc3686(ctr(aes))": ("aes-ctr", 32),
}
# They authenticate and encrypt nothing.
_NO_CIPHERS = {"", "ecb(cipher_null)", "cipher_null", "rfc4543(gcm(aes))"}
_WIDTH = {socket.AF_INET: 4, socket.AF_INET6: 16}


@dataclass(frozen=True, slots=True)
class Template:
    """What a policy wants done to a packet, *packed* as the kernel has it.

    *end*: the other end, None: the packet's own destination. *optional*: only where there is a
    state for it.
    """

    end: IPAddress | None
    is_esp: bool = True
    mode: str = "transport"
    request: int = 0
    optional: bool = False
    packed: bytes = b""


@dataclass(frozen=True, slots=True)
class State:
    """A security association in use, to *destination*.

    *cipher*: in words, empty if it encrypts nothing. *until*: second of the wall clock at which it
    ends; None: never. *added*: when it was made. *request* leads from a template to it.
    """

    source: IPAddress
    destination: IPAddress
    is_esp: bool = True
    mode: str = "transport"
    request: int = 0
    cipher: str = ""
    added: int = 0
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy: *source* and *destination* are the networks it selects, *protocol* 0 is any.

    *blocks*: nothing passes. *ends*: the other ends that its IPsec has, empty if it wants none; one
    that is None is the packet's own destination. *mark* and *mask*: of packets it selects.
    *interface*: of the kernel's xfrm interfaces; none of its policies is for others.
    """

    outbound: bool
    priority: int
    source: IPNetwork
    destination: IPNetwork
    protocol: int
    device: int
    blocks: bool
    ends: tuple[IPAddress | None, ...] = ()
    templates: tuple[Template, ...] = ()
    mark: int = 0
    mask: int = 0
    interface: int = 0

    def selects(
        self, source: IPAddress | None, destination: IPAddress | None, mark: int = 0
    ) -> bool:
        """Tell whether GRE from *source* to *destination* is meant (None: not known)."""
        return (
            self.protocol in {0, IPPROTO_GRE}
            and (destination is None or destination in self.destination)
            and (source is None or source in self.source)
            and mark & self.mask == self.mark
            and not self.interface
        )

    @property
    def protects(self) -> bool:
        """Whether what passes was, or will be, in ESP."""
        return not self.blocks and any(one.is_esp and not one.optional for one in self.templates)


@dataclass(frozen=True, slots=True)
class Tables:
    """All policies, and the ends to which there are states in use; the states in full."""

    policies: tuple[Policy, ...] = ()
    states: frozenset[IPAddress] = frozenset()
    associations: tuple[State, ...] = ()

    def outbound(
        self, source: IPAddress | None, destination: IPAddress, *, mark: int = 0, device: int = 0
    ) -> Policy | None:
        """Return the policy for what is sent; None: there is none. The lowest priority counts.

        *device*: index of the one that it leaves through, 0: not known.
        """
        meant = [
            policy
            for policy in self.policies
            if policy.outbound
            and policy.selects(source, destination, mark)
            and (not device or policy.device in {0, device})
        ]
        return min(meant, key=lambda policy: policy.priority, default=None)

    def inbound(self, source: IPAddress, destination: IPAddress | None) -> Policy | None:
        """Return the policy for what is received from *source*."""
        meant = [
            policy
            for policy in self.policies
            if not policy.outbound and policy.selects(source, destination)
        ]
        return min(meant, key=lambda policy: policy.priority, default=None)

    def has_state(self, policy: Policy, destination: IPAddress) -> bool:
        """Tell whether each of the policy's ends has a state."""
        return all((end or destination) in self.states for end in policy.ends)

    def association(self, policy: Policy, destination: IPAddress) -> State | None:
        """Return the newest ESP state that the policy leads to; None: there is none."""
        wanted = [one for one in policy.templates if one.is_esp and not one.optional]
        fit = [
            state
            for state in self.associations
            for template in wanted[:1]
            if state.is_esp
            and state.destination == (template.end or destination)
            and (state.mode, state.request) == (template.mode, template.request)
        ]
        return max(fit, key=lambda state: state.added, default=None)


def tables() -> Tables:
    """Return policies and states. Raises OSError: EPERM without CAP_NET_ADMIN."""
    with Rtnetlink(protocol=NETLINK_XFRM) as kernel:
        policies = kernel.dump(_dump(XFRM_MSG_GETPOLICY, _POLICY_SIZE))
        # Without a policy no state is of use.
        states = kernel.dump(_dump(XFRM_MSG_GETSA, _STATE_SIZE)) if policies else []
    associations = tuple(read_associations(states))
    ends = frozenset(state.destination for state in associations)
    return Tables(tuple(read_policies(policies)), ends, associations)


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
        attributes = dict(_attributes(message, _HEADER + _POLICY_SIZE))
        templates = tuple(_templates(attributes.get(XFRMA_TMPL, b"")))
        mark, mask = _pair(attributes.get(XFRMA_MARK, b""))
        yield Policy(
            outbound=direction == XFRM_POLICY_OUT,
            priority=priority,
            source=ipaddress.ip_network((here[:width], here_bits), strict=False),
            destination=ipaddress.ip_network((there[:width], there_bits), strict=False),
            protocol=protocol,
            device=device,
            blocks=action == XFRM_POLICY_BLOCK,
            ends=tuple(one.end for one in templates),
            templates=templates,
            mark=mark,
            mask=mask,
            interface=_pair(attributes.get(XFRMA_IF_ID, b""))[0],
        )


def read_states(messages: Sequence[bytes]) -> Iterator[IPAddress]:
    """Read a dump of states: the ends of those in use. One that is asked for has no SPI yet."""
    for state in read_associations(messages):
        yield state.destination


def read_associations(messages: Sequence[bytes]) -> Iterator[State]:
    """Read a dump of states: those in use."""
    for message in messages:
        if len(message) < _HEADER + _STATE_REST_AT + _STATE_REST.size:
            continue
        end, index, protocol, source = _STATE.unpack_from(message, _HEADER + _STATE_AT)
        request, family, mode = _STATE_REST.unpack_from(message, _HEADER + _STATE_REST_AT)
        if not any(index) or family not in _WIDTH:
            continue
        (expires,) = struct.unpack_from("=Q", message, _HEADER + _EXPIRES_AT)
        (added,) = struct.unpack_from("=Q", message, _HEADER + _ADDED_AT)
        width = _WIDTH[family]
        yield State(
            source=ipaddress.ip_address(source[:width]),
            destination=ipaddress.ip_address(end[:width]),
            is_esp=protocol == _ESP,
            mode=_MODES.get(mode, str(mode)),
            request=request,
            cipher=_cipher(dict(_attributes(message, _HEADER + _STATE_SIZE))),
            added=added,
            until=None if expires in {0, _FOREVER} else added + expires,
        )


def _cipher(attributes: Mapping[int, bytes]) -> str:
    """Return how a state encrypts, in words; empty: not at all."""
    algorithm = attributes.get(XFRMA_ALG_AEAD) or attributes.get(XFRMA_ALG_CRYPT) or b""
    if len(algorithm) < _NAME_SIZE + 4:
        return ""
    name = algorithm[:_NAME_SIZE].rstrip(b"\0").decode(errors="replace")
    (bits,) = struct.unpack_from("=I", algorithm, _NAME_SIZE)
    if name in _NO_CIPHERS:
        return ""
    if name not in _CIPHERS:
        return name
    word, salt = _CIPHERS[name]
    return f"{word}-{bits - salt}"


def _templates(packed: bytes) -> Iterator[Template]:
    for start in range(0, len(packed) - _TEMPLATE_SIZE + 1, _TEMPLATE_SIZE):
        one = packed[start : start + _TEMPLATE_SIZE]
        end, _index, protocol, family, _source, request, mode, _share, optional = (
            _TEMPLATE.unpack_from(one)
        )
        width = _WIDTH.get(family, 4)
        yield Template(
            end=ipaddress.ip_address(end[:width]) if any(end) else None,
            is_esp=protocol == _ESP,
            mode=_MODES.get(mode, str(mode)),
            request=request,
            optional=bool(optional),
            packed=one,
        )


def _attributes(message: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute from *offset* on."""
    while len(message) - offset >= 4:
        length, kind = struct.unpack_from("=HH", message, offset)
        if length < 4 or length > len(message) - offset:
            return
        yield kind, message[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def _pair(value: bytes) -> tuple[int, int]:
    """Return a mark and its mask, or another number alone."""
    first, second = struct.unpack("=II", value[:8].ljust(8, b"\0"))
    return first, second


def _dump(kind: int, size: int) -> bytes:
    return struct.pack("=IHHII", _HEADER + size, kind, NLM_F_REQUEST | NLM_F_DUMP, 0, 0) + bytes(
        size
    )
