"""What the kernel lists of many interfaces at once: bytes -> values, of those asked for. Pure.

Read with struct, not with pyroute2 as in messages.py: a list may have a thousand entries and more,
and those of others are passed over by their index. Nothing here knows what ought to be listed.
"""

import os
import struct
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface

from gred.config.model import IPInterface
from gred.control.kernel.parts import Prefix

_HEADER = 16  # struct nlmsghdr
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, prefix, ..., table, ..., type, flags
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_NUMBER = struct.Struct("=I")

_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 3, 4, 18
_INFO_KIND, _INFO_DATA = 1, 2
# Of linux/if_tunnel.h; flags, key and addresses are in network order.
_GRE_IFLAGS, _GRE_IKEY, _GRE_LOCAL, _GRE_REMOTE = 2, 4, 6, 7
_GRE_KEY = 0x2000
# Kinds of ip-link(8), and whether they carry Ethernet.
GRE_KINDS = {"gre": False, "ip6gre": False, "gretap": True, "ip6gretap": True}
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_TABLE = 1, 4, 15
_TABLE_MAIN = 254
_UNICAST = 1
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK

_WIDTH = {2: 4, 10: 16}  # bytes of an address, by its family


def read_names(messages: Iterable[bytes]) -> dict[int, str]:
    """Read a dump of links: index -> name, in the bytes of the system (os.fsdecode)."""
    found = {}
    for message in messages:
        _family, _type, index, _flags, _change = _LINK.unpack_from(message, _HEADER)
        for kind, value in _attributes(message, _HEADER + _LINK.size):
            if kind == _IFLA_IFNAME:
                found[index] = os.fsdecode(value.rstrip(b"\0"))
                break
    return found


def read_links(messages: Iterable[bytes], indexes: Collection[int]) -> dict[int, tuple[bool, int]]:
    """Read a dump of links: index -> whether it is up, and its MTU."""
    found = {}
    for message in messages:
        _family, _type, index, flags, _change = _LINK.unpack_from(message, _HEADER)
        if index not in indexes:
            continue
        for kind, value in _attributes(message, _HEADER + _LINK.size):
            if kind == _IFLA_MTU:
                found[index] = (bool(flags & _IFF_UP), _NUMBER.unpack(value)[0])
                break
    return found


def read_addresses(
    messages: Iterable[bytes], indexes: Collection[int]
) -> dict[int, frozenset[Prefix]]:
    """Read a dump of addresses: index -> the interface's own addresses."""
    found: dict[int, set[Prefix]] = {}
    for message in messages:
        _family, length, _flags, _scope, index = _ADDRESS.unpack_from(message, _HEADER)
        if index not in indexes:
            continue
        attributes = dict(_attributes(message, _HEADER + _ADDRESS.size))
        own = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
        if own:
            found.setdefault(index, set()).add((own, length))
    return {index: frozenset(own) for index, own in found.items()}


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
        if b"gre" not in message or not flags & _IFF_UP:
            continue  # most have no attribute looked at
        attributes = dict(_attributes(message, _HEADER + _LINK.size))
        info = dict(_attributes(attributes.get(_IFLA_LINKINFO, b""), 0))
        kind = info.get(_INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
        if kind not in GRE_KINDS:
            continue
        data = dict(_attributes(info.get(_INFO_DATA, b""), 0))
        keyed = int.from_bytes(data.get(_GRE_IFLAGS, b"")) & _GRE_KEY
        local, remote = (data.get(end, b"") for end in (_GRE_LOCAL, _GRE_REMOTE))
        found.append(
            GreLink(
                name=attributes.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
                kind=kind,
                local=local if any(local) else None,
                remote=remote if any(remote) else None,
                key=int.from_bytes(data.get(_GRE_IKEY, b"")) if keyed else None,
            )
        )
    return found


def read_networks(messages: Iterable[bytes]) -> dict[int, list[IPInterface]]:
    """Read a dump of addresses: index -> every address of the interface, with its prefix."""
    found: dict[int, list[IPInterface]] = {}
    for message in messages:
        _family, length, _flags, _scope, index = _ADDRESS.unpack_from(message, _HEADER)
        attributes = dict(_attributes(message, _HEADER + _ADDRESS.size))
        if own := attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS):
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


def leads_to(message: bytes, index: int, destination: Prefix) -> bool:
    """Tell whether one route is for *destination*, exactly, and leads to interface *index*."""
    return (index, destination) in _destinations(message)


def _destinations(message: bytes) -> Iterator[tuple[int, Prefix]]:
    family, length, _source, _tos, table, _protocol, _scope, kind, _flags = _ROUTE.unpack_from(
        message, _HEADER
    )
    if kind != _UNICAST or family not in _WIDTH:
        return
    attributes = dict(_attributes(message, _HEADER + _ROUTE.size))
    if _RTA_TABLE in attributes:
        (table,) = _NUMBER.unpack(attributes[_RTA_TABLE])
    if table != _TABLE_MAIN or _RTA_OIF not in attributes:
        return
    destination = attributes.get(_RTA_DST, bytes(_WIDTH[family]))
    yield _NUMBER.unpack(attributes[_RTA_OIF])[0], (destination, length)


def _attributes(message: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the value of each attribute; one that is cut off ends them."""
    while len(message) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(message, offset)
        if length < _ATTRIBUTE.size or length > len(message) - offset:
            return
        yield kind & _TYPE_MASK, message[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
