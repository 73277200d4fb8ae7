"""The netlink messages that gred sends and reads: values -> bytes, bytes -> values. Pure.

pyroute2 builds and reads them, here and nowhere else. No socket is opened; what an answer means
for a tunnel is not known here.
"""

import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from ipaddress import ip_address
from typing import Any

from gred.config.model import IPAddress, IPInterface, IPNetwork
from gred.control.kernel.dumps import read_attributes
from gred.control.kernel.linux import (
    IFF_MULTICAST,
    IFF_UP,
    IFLA_AF_SPEC,
    IFLA_INET_CONF,
    IFLA_STATS_LINK_64,
    IN6_ADDR_GEN_MODE_NONE,
    IP6_RT_PRIO_ADDRCONF,
    IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN,
    NDA_DST,
    NF_DROP,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    RT_SCOPE_HOST,
    RT_SCOPE_LINK,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTA_CACHEINFO,
    RTA_DST,
    RTA_GATEWAY,
    RTA_MARK,
    RTA_METRICS,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_SRC,
    RTAX_MTU,
    RTEXT_FILTER_SKIP_STATS,
    RTM_F_CLONED,
    RTM_F_FIB_MATCH,
    RTM_GETNEIGH,
    RTM_GETSTATS,
    RTN_LOCAL,
    RTN_UNICAST,
    RTPROT_KERNEL,
    RTPROT_STATIC,
)
from gred.control.kernel.partial_import import without_init
from gred.control.kernel.parts import held
from gred.control.kernel.routes import RouteQuery
from gred.control.kernel.rtnetlink import Answer, encode
from gred.wire.gre import IPPROTO_GRE

# All of pyroute2 is 8 MB more, and a tenth of a second of the start.
with without_init("pyroute2"):
    from pyroute2.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES
    from pyroute2.netlink.nfnetlink.nftsocket import NFT_MSG_GETCHAIN, nft_chain_msg
    from pyroute2.netlink.rtnl import (
        RTM_DELADDR,
        RTM_DELLINK,
        RTM_DELROUTE,
        RTM_GETADDR,
        RTM_GETLINK,
        RTM_GETROUTE,
        RTM_GETRULE,
        RTM_NEWADDR,
        RTM_NEWLINK,
        RTM_NEWROUTE,
    )
    from pyroute2.netlink.rtnl.fibmsg import fibmsg
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

_IFINFOMSG_INDEX = 16 + 4  # behind struct nlmsghdr, in struct ifinfomsg: of ifi_index
# Behind struct nlmsghdr: family, type, flags of struct rtmsg.
_RTMSG = struct.Struct("=16xB6xBI")
_EXPIRES = struct.Struct("=8xi")  # of struct rta_cacheinfo
_NDMSG = struct.Struct("=B3xiHBB")  # family, interface, state, flags, type

FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# IFA_F_SECONDARY, DADFAILED, DEPRECATED and TENTATIVE, linux/if_addr.h: not to begin with.
_POOR_ADDRESS = 0x01 | 0x08 | 0x20 | 0x40
_UNUSABLE_ADDRESS = 0x08 | 0x40  # a duplicate, or not known yet not to be one

# NFPROTO_* and NF_INET_* of linux/netfilter.h: families of chains; hooks that what is sent passes.
_CHAIN_VERSIONS = {1: frozenset({4, 6}), 2: frozenset({4}), 10: frozenset({6})}

_OUTGOING = frozenset({NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING})
_CREATE = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL


# Orders. Each is acknowledged.


def link(
    index: int,
    *,
    attributes: Sequence[tuple[str, object]] = (),
    up: bool = False,
    multicast: bool | None = None,
) -> bytes:
    """Return the order to change interface *index*; *multicast*: whether it can, None: as it is."""
    return _to(index, _link(tuple(attributes), up=up, multicast=multicast))


@lru_cache(64)
def _link(attributes: tuple[tuple[str, object], ...], *, up: bool, multicast: bool | None) -> bytes:
    """Return the order to change interface 0: what is ordered of thousands is written once."""
    message = ifinfmsg()
    flags = (IFF_UP if up else 0) | (IFF_MULTICAST if multicast else 0)
    if change := flags | (0 if multicast is None else IFF_MULTICAST):
        message["flags"], message["change"] = flags, change
    message["attrs"] = list(attributes)
    return encode(message, RTM_NEWLINK, NLM_F_ACK)


def _to(index: int, order: bytes) -> bytes:
    """Return *order*, which is to interface 0, as one to interface *index*."""
    return order[:_IFINFOMSG_INDEX] + struct.pack("=i", index) + order[_IFINFOMSG_INDEX + 4 :]


def move_link(index: int, name: str, namespace: int) -> bytes:
    """Return the order to move interface *index* to a namespace, given by a descriptor.

    It is called *name* there; EEXIST when another one is.
    """
    return link(index, attributes=[("IFLA_NET_NS_FD", namespace), ("IFLA_IFNAME", name)])


def no_link_local(index: int) -> bytes:
    """Return the order to give interface *index* no IPv6 address by itself."""
    return _to(index, _no_link_local())


@cache
def _no_link_local() -> bytes:
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE)]}
    message = ifinfmsg()
    message["attrs"] = [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]})]
    return encode(message, RTM_NEWLINK, NLM_F_ACK)


def follow_carrier(index: int) -> bytes:
    """Return the order to let IPv4 routes through interface *index* be dead without a carrier.

    Where /proc/sys is read-only netlink still works. IPv6 has no such attribute that can be set.
    """
    # pyroute2 reads these attributes and cannot write them.
    value = struct.pack("=I", 1)
    for kind in (
        IPV4_DEVCONF_IGNORE_ROUTES_WITH_LINKDOWN,
        IFLA_INET_CONF,
        socket.AF_INET,
        IFLA_AF_SPEC,
    ):
        value = struct.pack("=HH", 4 + len(value), kind) + value
    message = link(index) + value
    return struct.pack("=I", len(message)) + message[4:]


def delete_group(group: int) -> bytes:
    """Return the order to delete all interfaces of a link group."""
    message = ifinfmsg()
    message["attrs"] = [("IFLA_GROUP", group)]
    return encode(message, RTM_DELLINK, NLM_F_ACK)


def add_address(index: int, address: IPInterface) -> bytes:
    """Return the order to give interface *index* an address."""
    return encode(_address(index, address), RTM_NEWADDR, _CREATE)


def remove_address(index: int, address: IPInterface) -> bytes:
    """Return the order to take an address from interface *index*, whatever its scope."""
    return encode(_address(index, address), RTM_DELADDR, NLM_F_ACK)


def _address(index: int, address: IPInterface) -> ifaddrmsg:
    message = ifaddrmsg()
    message["family"] = FAMILY[address.version]
    message["prefixlen"] = address.network.prefixlen
    message["index"] = index
    message["scope"] = held(address).scope
    text = str(address.ip)
    message["attrs"] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    return message


def add_route(index: int, network: IPNetwork) -> bytes:
    """Return the order to route *network* into interface *index*.

    The interface alone is the next hop. A TUN device needs no more; on a TAP device the addresses
    in *network* must answer neighbour discovery for themselves.
    """
    return encode(_route(index, network, RTPROT_STATIC), RTM_NEWROUTE, _CREATE)


def remove_route(index: int, network: IPNetwork) -> bytes:
    """Return the order to remove what ``add_route`` has added."""
    return encode(_route(index, network, RTPROT_STATIC), RTM_DELROUTE, NLM_F_ACK)


def add_connected(index: int, address: IPInterface) -> bytes:
    """Return the order for the route to the network of an *address* that interface *index* has.

    As the kernel makes it (fib_add_ifaddr, addrconf_prefix_route): it goes with the address. Beside
    another interface's route to the same network, as there.
    """
    message = _route(index, address.network, RTPROT_KERNEL)
    if address.version == 4:
        message["attrs"].append(("RTA_PREFSRC", str(address.ip)))
    else:
        message["attrs"].append(("RTA_PRIORITY", IP6_RT_PRIO_ADDRCONF))
    return encode(message, RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND)


def _route(index: int, network: IPNetwork, protocol: int) -> rtmsg:
    message = rtmsg()
    message["family"] = FAMILY[network.version]
    message["dst_len"] = network.prefixlen
    message["table"] = RT_TABLE_MAIN
    message["proto"] = protocol
    message["scope"] = RT_SCOPE_LINK if network.version == 4 else RT_SCOPE_UNIVERSE
    message["type"] = RTN_UNICAST
    message["attrs"] = [("RTA_DST", str(network.network_address)), ("RTA_OIF", index)]
    return message


# Questions. Each but a dump is answered by one message.


def route_query(query: RouteQuery, *, as_configured: bool = False) -> bytes:
    """Return the question for a route; *as_configured*: as it stands in the table (Linux 4.13).

    It is asked for thousands at once, and pyroute2 takes 50 times as long to write it.
    """
    version, bits = query.destination.version, query.destination.max_prefixlen
    attributes = [(RTA_DST, query.destination.packed)]
    if query.source is not None:
        attributes.append((RTA_SRC, query.source.packed))
    if query.device:
        attributes.append((RTA_OIF, struct.pack("=I", query.device)))
    if query.mark:
        attributes.append((RTA_MARK, struct.pack("=I", query.mark)))
    flags = RTM_F_FIB_MATCH if as_configured else 0
    source_bits = 0 if query.source is None else bits
    body = struct.pack("=BBB5xI", FAMILY[version], bits, source_bits, flags)
    for kind, value in attributes:
        body += struct.pack("=HH", 4 + len(value), kind) + value  # each a multiple of four long
    return struct.pack("=IHHII", 16 + len(body), RTM_GETROUTE, NLM_F_REQUEST, 0, 0) + body


def arrival_query(index: int, source: IPAddress, destination: IPAddress) -> bytes:
    """Return the question what becomes of a packet that comes in by interface *index*."""
    message = rtmsg()
    message["family"] = FAMILY[destination.version]
    message["dst_len"] = message["src_len"] = destination.max_prefixlen
    message["attrs"] = [
        ("RTA_DST", str(destination)),
        ("RTA_SRC", str(source)),
        ("RTA_IIF", index),
    ]
    return encode(message, RTM_GETROUTE, 0)


def mtu_routes_query(version: int) -> bytes:
    """Return the request to dump all routes of an IP version, and what it has learned not."""
    message = rtmsg()
    message["family"] = FAMILY[version]
    return encode(message, RTM_GETROUTE, NLM_F_DUMP)


def link_query(index: int) -> bytes:
    """Return the question for interface *index*."""
    message = ifinfmsg()
    message["index"] = index
    return encode(message, RTM_GETLINK, 0)


def neighbour_query(index: int, address: IPAddress) -> bytes:
    """Return the question for the neighbour *address* at interface *index*; from Linux 5.0 on."""
    content = _NDMSG.pack(FAMILY[address.version], index, 0, 0, 0)
    attribute = struct.pack("=HH", 4 + len(address.packed), NDA_DST) + address.packed
    length = 16 + len(content) + len(attribute)
    return struct.pack("=IHHII", length, RTM_GETNEIGH, NLM_F_REQUEST, 0, 0) + content + attribute


def read_neighbour(answer: Answer) -> int:
    """Return the state of a neighbour, as bits ``NUD_``."""
    _family, _index, state, _flags, _type = _NDMSG.unpack_from(answer.message, 16)
    return int(state)


def rules_query(version: int) -> bytes:
    """Return the request to dump the routing rules of an IP version."""
    message = fibmsg()
    message["family"] = FAMILY[version]
    return encode(message, RTM_GETRULE, NLM_F_DUMP)


def addresses_query() -> bytes:
    """Return the request to dump the addresses of all interfaces."""
    return encode(ifaddrmsg(), RTM_GETADDR, NLM_F_DUMP)


def links_query() -> bytes:
    """Return the request to dump all interfaces, without their counters."""
    message = ifinfmsg()
    message["attrs"] = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]
    return encode(message, RTM_GETLINK, NLM_F_DUMP)


def own_routes_query(version: int, *, connected: bool = False) -> bytes:
    """Return the request to dump the main table's routes of gred's own kind.

    *connected*: those that came with addresses instead. An older kernel, or one that was not asked
    to be strict, lists others too.
    """
    message = rtmsg()
    message["family"] = FAMILY[version]
    message["table"] = RT_TABLE_MAIN
    message["proto"] = RTPROT_KERNEL if connected else RTPROT_STATIC
    message["type"] = RTN_UNICAST
    return encode(message, RTM_GETROUTE, NLM_F_DUMP)


def fib_query(network: IPNetwork) -> bytes:
    """Return the question for the route that the first address of *network* has in the tables."""
    message = rtmsg()
    message["family"] = FAMILY[network.version]
    message["dst_len"] = network.max_prefixlen
    message["flags"] = RTM_F_FIB_MATCH
    message["attrs"] = [("RTA_DST", str(network.network_address))]
    return encode(message, RTM_GETROUTE, 0)


def statistics_query() -> bytes:
    """Return the request to dump the counters of all interfaces.

    pyroute2 reads such answers attribute by attribute, 50 times slower than is good for thousands.
    """
    header = struct.pack("=IHHII", 28, RTM_GETSTATS, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    return header + struct.pack("=B3xII", socket.AF_UNSPEC, 0, 1 << (IFLA_STATS_LINK_64 - 1))


# Answers.


@dataclass(frozen=True, slots=True)
class FoundRoute:
    """A route as the kernel tells it; *mtu* is its own metric, not that of a device.

    *has_learned*: what the kernel has learned of the path hides the metric.
    """

    oif: int
    mtu: int | None
    prefsrc: IPAddress | None
    gateway: IPAddress | None
    local: bool
    has_learned: bool


def read_route(answer: Answer) -> FoundRoute:
    """Read the answer to ``route_query``."""
    family, kind, flags = _RTMSG.unpack_from(answer.message)
    found = dict(read_attributes(answer.message, _RTMSG.size))
    mtu = _number(dict(read_attributes(found.get(RTA_METRICS, b""), 0)).get(RTAX_MTU))
    expires = _EXPIRES.unpack_from(found.get(RTA_CACHEINFO, bytes(_EXPIRES.size)))[0]
    # What was learned stands in the place of what the route was given.
    is_ipv6 = family == socket.AF_INET6  # whose other routes may expire as well
    learned = mtu is not None and bool(flags & RTM_F_CLONED if is_ipv6 else expires > 0)
    prefsrc, gateway = found.get(RTA_PREFSRC), found.get(RTA_GATEWAY)
    return FoundRoute(
        oif=_number(found.get(RTA_OIF)) or 0,
        mtu=None if learned else mtu,
        prefsrc=ip_address(prefsrc) if prefsrc else None,
        gateway=ip_address(gateway) if gateway else None,
        local=kind == RTN_LOCAL,
        has_learned=learned,
    )


def _number(value: bytes | None) -> int | None:
    return None if value is None or len(value) < 4 else int(struct.unpack_from("=I", value)[0])


def read_learned_mtu(answer: Answer) -> int | None:
    """Read from the answer to ``route_query`` what the kernel has learned of the path's MTU."""
    if not read_route(answer).has_learned:
        return None
    metrics = dict(read_attributes(answer.message, _RTMSG.size)).get(RTA_METRICS, b"")
    return _number(dict(read_attributes(metrics, 0)).get(RTAX_MTU))


def read_prefix_length(answer: Answer) -> int:
    """Read from the answer to ``route_query``, as configured, how specific the route is."""
    length: int = _read(rtmsg, answer.message)["dst_len"]
    return length


def read_mtu(answer: Answer) -> int | None:
    """Read the MTU from the answer to ``link_query``."""
    mtu: int | None = _read(ifinfmsg, answer.message).get_attr("IFLA_MTU")
    return mtu


def read_transmit_drops(message: bytes) -> tuple[int, int]:
    """Read one answer to ``statistics_query``: interface index, packets that it could not queue."""
    # nlmsghdr, struct if_stats_msg, nlattr, and in struct rtnl_link_stats64 the eighth number.
    index, drops = struct.unpack_from("=16x4xI4x4x56xQ", message)
    return index, drops


def selects_gre(rule: bytes) -> bool:
    """Tell whether a dumped routing rule is for GRE alone."""
    return bool(_read(fibmsg, rule).get_attr("FRA_IP_PROTO") == IPPROTO_GRE)


def chains_query() -> bytes:
    """Ask for all chains of nftables, of all families."""
    return encode(nft_chain_msg(), NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN, NLM_F_DUMP)


def versions_looked_at(chain: bytes) -> frozenset[int]:
    """Return the IP versions whose outgoing packets a dumped chain looks at one by one.

    Address translation looks at the first packet of a connection; an empty chain that accepts, at
    none.
    """
    message = _read(nft_chain_msg, chain)
    hook = message.get_attr("NFTA_CHAIN_HOOK")
    if hook is None or hook.get_attr("NFTA_HOOK_HOOKNUM") not in {
        NF_INET_LOCAL_OUT,
        NF_INET_POST_ROUTING,
    }:
        return frozenset()
    has_rules = bool(message.get_attr("NFTA_CHAIN_USE"))
    drops = message.get_attr("NFTA_CHAIN_POLICY") == NF_DROP
    if message.get_attr("NFTA_CHAIN_TYPE") == "nat" or not (has_rules or drops):
        return frozenset()
    return _CHAIN_VERSIONS.get(message["nfgen_family"], frozenset())


def versions_translated(chain: bytes) -> frozenset[int]:
    """Return the IP versions of which a dumped chain may give what arrives another destination."""
    message = _read(nft_chain_msg, chain)
    hook = message.get_attr("NFTA_CHAIN_HOOK")
    if hook is None or hook.get_attr("NFTA_HOOK_HOOKNUM") != NF_INET_PRE_ROUTING:
        return frozenset()
    if message.get_attr("NFTA_CHAIN_TYPE") != "nat" or not message.get_attr("NFTA_CHAIN_USE"):
        return frozenset()
    return _CHAIN_VERSIONS.get(message["nfgen_family"], frozenset())


def read_addresses(messages: Iterable[bytes]) -> dict[int, list[IPAddress]]:
    """Read the answer to ``addresses_query``: interface index -> addresses, the best first.

    Best is what the kernel itself would send from: valid everywhere before valid on the link,
    primary and in use before secondary and deprecated. Those of the host's own use (127.0.0.1) and
    duplicates are left out.
    """
    found: dict[int, list[tuple[int, bool, IPAddress]]] = {}
    for data in messages:
        message = _read(ifaddrmsg, data)
        flags = message.get_attr("IFA_FLAGS") or message["flags"]
        text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        if not text or message["scope"] >= RT_SCOPE_HOST or flags & _UNUSABLE_ADDRESS:
            continue
        entry = (message["scope"], bool(flags & _POOR_ADDRESS), ip_address(text))
        found.setdefault(message["index"], []).append(entry)
    return {
        index: [address for _scope, _poor, address in sorted(entries, key=lambda e: e[:2])]
        for index, entries in found.items()
    }


def _read(message_class: Callable[[bytes], Any], data: bytes) -> Any:
    message = message_class(data)
    message.decode()
    return message
