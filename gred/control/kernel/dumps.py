"""What the kernel lists of many interfaces at once: bytes -> values, of those asked for. Pure.

Read with struct, not with pyroute2 as in messages.py: a list may have a thousand entries and more,
and those of others are passed over by their index. Nothing here knows what ought to be listed.
"""

import os
import re
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface

from gred.config.model import IPInterface
from gred.control.kernel.linux import (
    GRE_KEY,
    IFA_ADDRESS,
    IFA_F_SECONDARY,
    IFA_F_STABLE_PRIVACY,
    IFA_FLAGS,
    IFA_LOCAL,
    IFA_PROTO,
    IFAPROT_KERNEL_LL,
    IFF_UP,
    IFLA_ADDRESS,
    IFLA_GRE_IFLAGS,
    IFLA_GRE_IKEY,
    IFLA_GRE_LOCAL,
    IFLA_GRE_REMOTE,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINKINFO,
    IFLA_MTU,
    IFLA_TXQLEN,
    NLA_TYPE_MASK,
    RT_TABLE_MAIN,
    RTA_CACHEINFO,
    RTA_DST,
    RTA_METRICS,
    RTA_OIF,
    RTA_TABLE,
    RTAX_LOCK,
    RTAX_MTU,
    RTM_F_CLONED,
    RTN_UNICAST,
)
from gred.control.kernel.parts import Held, Prefix
from gred.control.kernel.routes import MtuRoute

_HEADER = 16  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, prefix, ..., table, ..., type, flags
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_NUMBER = struct.Struct("=I")

# Of linux/if_tunnel.h; flags, key and addresses are in network order.
# Kinds of ip-link(8), and whether they carry Ethernet.
GRE_KINDS = {"gre": False, "ip6gre": False, "gretap": True, "ip6gretap": True}
_LINK_LOCAL = b"\xfe\x80"  # RFC 4291 §2.5.6
_EXPIRES = struct.Struct("=8xi")  # struct rta_cacheinfo

_WIDTH = {2: 4, 10: 16}  # bytes of an address, by its family


def read_names(messages: Iterable[bytes]) -> dict[int, str]:
    """Read a dump of links: index -> name, in the bytes of the system (os.fsdecode)."""
    found = {}
    for message in messages:
        _family, _type, index, _flags, _change = _LINK.unpack_from(message, _HEADER)
        for kind, value in read_attributes(message, _HEADER + _LINK.size):
            if kind == IFLA_IFNAME:
                found[index] = os.fsdecode(value.rstrip(b"\0"))
                break
    return found


@dataclass(frozen=True, slots=True)
class Link:
    """An interface: *mtu* in bytes, *queue* in packets; *in_vrf*: it belongs to a VRF."""

    up: bool
    mtu: int
    mac_address: bytes = b""
    queue: int = 0
    in_vrf: bool = False


def read_links(messages: Iterable[bytes], indexes: Collection[int]) -> dict[int, Link]:
    """Read a dump of links, by index."""
    found = {}
    for message in messages:
        _family, _type, index, flags, _change = _LINK.unpack_from(message, _HEADER)
        if index not in indexes:
            continue
        attributes = dict(read_attributes(message, _HEADER + _LINK.size))
        if (mtu := attributes.get(IFLA_MTU)) is None:
            continue
        info = dict(read_attributes(attributes.get(IFLA_LINKINFO, b""), 0))
        found[index] = Link(
            up=bool(flags & IFF_UP),
            mtu=_NUMBER.unpack(mtu)[0],
            mac_address=attributes.get(IFLA_ADDRESS, b""),
            queue=_NUMBER.unpack(attributes.get(IFLA_TXQLEN, bytes(4)))[0],
            in_vrf=info.get(IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"vrf",
        )
    return found


@dataclass(slots=True)
class Addresses:
    """Those of one interface, see `gred.control.kernel.parts.Actual`."""

    own: set[Held] = field(default_factory=set)
    made: set[Held] = field(default_factory=set)
    secondary: set[Held] = field(default_factory=set)


def read_addresses(messages: Iterable[bytes], indexes: Collection[int]) -> dict[int, Addresses]:
    """Read a dump of addresses, by index.

    Those that the kernel made of a MAC address are told from others since Linux 5.18.
    """
    found: dict[int, Addresses] = {}
    for message in messages:
        _family, length, flags, scope, index = _ADDRESS.unpack_from(message, _HEADER)
        if index not in indexes:
            continue
        attributes = dict(read_attributes(message, _HEADER + _ADDRESS.size))
        own = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS)
        if not own:
            continue
        is_ipv4 = len(own) == _WIDTH[2]
        one = Held(own, length, scope if is_ipv4 else 0)
        addresses = found.setdefault(index, Addresses())
        addresses.own.add(one)
        if is_ipv4:
            if flags & IFA_F_SECONDARY:
                addresses.secondary.add(one)
        elif own.startswith(_LINK_LOCAL) and _is_made(attributes):
            addresses.made.add(one)
    return found


def _is_made(attributes: Mapping[int, bytes]) -> bool:
    flags = _NUMBER.unpack(attributes.get(IFA_FLAGS, bytes(4)))[0]
    protocol = attributes.get(IFA_PROTO, b"\0")[0]
    return protocol == IFAPROT_KERNEL_LL or bool(flags & IFA_F_STABLE_PRIVACY)


@dataclass(frozen=True, slots=True)
class GreLink:
    """An interface of the kernel's own GRE that is up. Addresses are packed; None is any."""

    name: str
    kind: str
    local: bytes | None
    remote: bytes | None
    key: int | None

    @property
    def version(self) -> int:
        """The IP version of its outer packets."""
        return 6 if self.kind.startswith("ip6") else 4


def read_gre_links(messages: Iterable[bytes]) -> list[GreLink]:
    """Read a dump of links: those of the kernel's GRE that are up."""
    found = []
    for message in messages:
        _family, _type, _index, flags, _change = _LINK.unpack_from(message, _HEADER)
        if b"gre" not in message or not flags & IFF_UP:
            continue  # most have no attribute looked at
        attributes = dict(read_attributes(message, _HEADER + _LINK.size))
        info = dict(read_attributes(attributes.get(IFLA_LINKINFO, b""), 0))
        kind = info.get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
        if kind not in GRE_KINDS:
            continue
        data = dict(read_attributes(info.get(IFLA_INFO_DATA, b""), 0))
        keyed = int.from_bytes(data.get(IFLA_GRE_IFLAGS, b"")) & GRE_KEY
        local, remote = (data.get(end, b"") for end in (IFLA_GRE_LOCAL, IFLA_GRE_REMOTE))
        found.append(
            GreLink(
                name=attributes.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
                kind=kind,
                local=local if any(local) else None,
                remote=remote if any(remote) else None,
                key=int.from_bytes(data.get(IFLA_GRE_IKEY, b"")) if keyed else None,
            )
        )
    return found


def read_networks(messages: Iterable[bytes]) -> dict[int, list[IPInterface]]:
    """Read a dump of addresses: index -> every address of the interface, with its prefix."""
    found: dict[int, list[IPInterface]] = {}
    for message in messages:
        _family, length, _flags, _scope, index = _ADDRESS.unpack_from(message, _HEADER)
        attributes = dict(read_attributes(message, _HEADER + _ADDRESS.size))
        if own := attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS):
            found.setdefault(index, []).append(ip_interface((own, length)))
    return found


def read_routes(
    messages: Iterable[bytes], indexes: Collection[int]
) -> dict[int, frozenset[Prefix]]:
    """Read a dump of routes: index -> destinations that the main table leads to the interface."""
    found: dict[int, set[Prefix]] = {}
    for message in messages:
        for index, destination in _destinations(message):
            if index in indexes:
                found.setdefault(index, set()).add(destination)
    return {index: frozenset(routes) for index, routes in found.items()}


def _metric(kind: int) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + _NUMBER.size, kind)


HAS_MTU = re.compile(
    struct.pack("=H", RTA_METRICS)
    + b"(?:%b.{4})?" % re.escape(_metric(RTAX_LOCK))
    + re.escape(_metric(RTAX_MTU)),
    re.DOTALL,
)
"""What bytes have in which the kernel lists a route with an MTU: others need no look.

The kernel lists metrics by their numbers, and one that is not set not at all.
"""


def read_mtu_routes(messages: Iterable[bytes]) -> list[MtuRoute]:
    """Read a dump of routes: those that were given an MTU, locked or not."""
    found = []
    for message in messages:
        if not HAS_MTU.search(message):
            continue
        family, length, *_rest, flags = _ROUTE.unpack_from(message, _HEADER)
        attributes = dict(read_attributes(message, _HEADER + _ROUTE.size))
        mtu = _mtu_metric(attributes)
        if mtu and family in _WIDTH and not flags & RTM_F_CLONED:
            network = attributes.get(RTA_DST, bytes(_WIDTH[family]))
            found.append(MtuRoute(network, length, mtu))
    return found


def read_route_mtu(message: bytes) -> int | None:
    """Read the answer to a question for a route: the MTU that it was given; None: none.

    A kernel that was not able to tell the route as it stands in the table tells what it has learned
    in its place: that is none either.
    """
    family, *_rest, flags = _ROUTE.unpack_from(message, _HEADER)
    attributes = dict(read_attributes(message, _HEADER + _ROUTE.size))
    cache = attributes.get(RTA_CACHEINFO, b"")
    expires = _EXPIRES.unpack_from(cache)[0] if len(cache) >= _EXPIRES.size else 0
    is_ipv6 = family == socket.AF_INET6  # whose other routes may expire as well
    if flags & RTM_F_CLONED if is_ipv6 else expires > 0:
        return None
    return _mtu_metric(attributes) or None


def _mtu_metric(attributes: Mapping[int, bytes]) -> int:
    value = dict(read_attributes(attributes.get(RTA_METRICS, b""), 0)).get(RTAX_MTU, b"")
    return int(_NUMBER.unpack(value)[0]) if len(value) == _NUMBER.size else 0


def leads_to(message: bytes, index: int, destination: Prefix) -> bool:
    """Tell whether one route is for *destination*, exactly, and leads to interface *index*."""
    return (index, destination) in _destinations(message)


def _destinations(message: bytes) -> Iterator[tuple[int, Prefix]]:
    family, length, _source, _tos, table, _protocol, _scope, kind, _flags = _ROUTE.unpack_from(
        message, _HEADER
    )
    if kind != RTN_UNICAST or family not in _WIDTH:
        return
    attributes = dict(read_attributes(message, _HEADER + _ROUTE.size))
    if RTA_TABLE in attributes:
        (table,) = _NUMBER.unpack(attributes[RTA_TABLE])
    if table != RT_TABLE_MAIN or RTA_OIF not in attributes:
        return
    destination = attributes.get(RTA_DST, bytes(_WIDTH[family]))
    yield _NUMBER.unpack(attributes[RTA_OIF])[0], (destination, length)


def read_attributes(message: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the value of each attribute; one that is cut off ends them."""
    while len(message) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size or length > len(message) - offset:
            return
        yield kind & NLA_TYPE_MASK, message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
