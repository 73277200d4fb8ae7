"""Block policies of IPsec: GRE between this host and a remote passes in neither direction.

They are below all other policies, so that what protects GRE goes before them; when it goes away,
because the IKE daemon stops or somebody takes its policies away, they are what is left. They select
by the remote alone, from and to any address of this host: another selector than an IKE daemon's, as
the kernel has one policy for each. They stay when this process ends, however it ends. Blocks: for
threads only.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterable

from gred.config.model import IPAddress
from gred.control.kernel.linux import (
    NETLINK_XFRM,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    XFRM_MSG_DELPOLICY,
    XFRM_MSG_NEWPOLICY,
    XFRM_POLICY_BLOCK,
    XFRM_POLICY_IN,
    XFRM_POLICY_OUT,
)
from gred.control.kernel.rtnetlink import Answer, Rtnetlink
from gred.control.kernel.xfrm import Policy, Tables
from gred.dataplane.linux import IPPROTO_GRE

# The kernel takes the policy with the lowest number. An IKE daemon's are some 100,000s. "gr", and
# which gred it is, so that two on one host do not take away each other's.
_PRIORITY = 0x6772_0000
_OWNERS = 0xFFFF
_FOREVER = 0xFFFFFFFFFFFFFFFF
_SELECTOR = struct.Struct("=16s16s8xHBBB3xiI")
_LIFETIME = struct.pack("=8Q", *[_FOREVER] * 4, *[0] * 4) + bytes(32)
_POLICY = struct.Struct("=IIBBBB4x")
_IDENTIFIER = struct.Struct("=IB3x")
_DIRECTIONS = (XFRM_POLICY_OUT, XFRM_POLICY_IN)


def is_shield(policy: Policy) -> bool:
    """Tell whether *policy* is one of these, of this gred or another."""
    return policy.priority & ~_OWNERS == _PRIORITY and policy.blocks and _remote(policy) is not None


def shielded(tables: Tables, owner: int | None = None) -> dict[IPAddress, int]:
    """Return which remotes have shields, and how many of two; those of one *owner* alone."""
    found: dict[IPAddress, int] = {}
    for policy in tables.policies:
        remote = _remote(policy)
        if remote is None or not is_shield(policy):
            continue
        if owner is None or policy.priority == _PRIORITY | owner & _OWNERS:
            found[remote] = found.get(remote, 0) + 1
    return found


def put(remotes: Iterable[IPAddress], owner: int) -> dict[IPAddress, OSError]:
    """Shield *remotes*; return which were refused, and why. Harmless where it is so already.

    Raises OSError where the kernel cannot be asked at all.
    """
    wanted = [(remote, direction) for remote in remotes for direction in _DIRECTIONS]
    flags = NLM_F_CREATE | NLM_F_EXCL
    with Rtnetlink(protocol=NETLINK_XFRM) as kernel:
        answers = kernel.exchange(
            [
                _message(XFRM_MSG_NEWPOLICY, flags, _new(remote, direction, owner))
                for remote, direction in wanted
            ]
        )
    return _refusals(wanted, answers, errno.EEXIST)


def take(remotes: Collection[IPAddress]) -> dict[IPAddress, OSError]:
    """Take the shields of *remotes* away; return which were refused, and why. Raises OSError."""
    wanted = [(remote, direction) for remote in remotes for direction in _DIRECTIONS]
    with Rtnetlink(protocol=NETLINK_XFRM) as kernel:
        answers = kernel.exchange(
            [
                _message(
                    XFRM_MSG_DELPOLICY,
                    0,
                    _selector(remote, direction) + _IDENTIFIER.pack(0, direction),
                )
                for remote, direction in wanted
            ]
        )
    return _refusals(wanted, answers, errno.ENOENT)


def _remote(policy: Policy) -> IPAddress | None:
    """Return whom a policy of the form of these is about; None: it has another form."""
    here, there = policy.source, policy.destination
    if not policy.outbound:
        here, there = there, here
    is_one = there.prefixlen == there.max_prefixlen and not here.prefixlen
    return there.network_address if is_one and policy.protocol == IPPROTO_GRE else None


def _refusals(
    wanted: Iterable[tuple[IPAddress, int]], answers: Iterable[Answer], harmless: int
) -> dict[IPAddress, OSError]:
    return {
        remote: OSError(answer.error, answer.finding)
        for (remote, _direction), answer in zip(wanted, answers, strict=True)
        if answer.error not in {0, harmless}
    }


def _message(kind: int, flags: int, body: bytes) -> bytes:
    flags |= NLM_F_REQUEST | NLM_F_ACK
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 0, 0) + body


def _new(remote: IPAddress, direction: int, owner: int) -> bytes:
    policy = _POLICY.pack(_PRIORITY | owner & _OWNERS, 0, direction, XFRM_POLICY_BLOCK, 0, 0)
    return _selector(remote, direction) + _LIFETIME + policy


def _selector(remote: IPAddress, direction: int) -> bytes:
    """Return xfrm_selector: destination, source, ports, family, prefixes, protocol."""
    family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
    one, length = remote.packed, remote.max_prefixlen
    if direction == XFRM_POLICY_IN:
        return _SELECTOR.pack(b"", one, family, 0, length, IPPROTO_GRE, 0, 0)
    return _SELECTOR.pack(one, b"", family, length, 0, IPPROTO_GRE, 0, 0)
