"""Messages as the kernel would write them, and what is read from them."""

import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest
from pyroute2.netlink.rtnl import RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from gred.control.kernel.linux import (
    IFF_MULTICAST,
    IFF_UP,
    IN6_ADDR_GEN_MODE_NONE,
    NLM_F_ACK,
    RTM_F_FIB_MATCH,
    RTN_UNICAST,
)
from gred.control.kernel.messages import (
    FAMILY,
    link,
    no_link_local,
    read_addresses,
    read_learned_mtu,
    read_route,
    route_query,
)
from gred.control.kernel.routes import RouteQuery
from gred.control.kernel.rtnetlink import Answer, encode

UNIVERSE, LINK, HOST = 0, 253, 254
SECONDARY, DADFAILED, DEPRECATED, TENTATIVE = 0x01, 0x08, 0x20, 0x40


def address(text: str, *, index: int = 2, scope: int = UNIVERSE, flags: int = 0) -> bytes:
    message = ifaddrmsg()
    message["family"] = socket.AF_INET if "." in text else socket.AF_INET6
    message["index"] = index
    message["scope"] = scope
    message["prefixlen"] = 24
    message["attrs"] = [("IFA_ADDRESS", text), ("IFA_FLAGS", flags)]
    if "." in text:
        message["attrs"].append(("IFA_LOCAL", text))
    return encode(message, RTM_NEWADDR, 0)


def read(*messages: bytes) -> dict[int, list[str]]:
    found = read_addresses(messages)
    return {index: [str(one) for one in addresses] for index, addresses in found.items()}


def texts(*expected: str) -> dict[int, Sequence[str]]:
    return {2: [str(ip_address(one)) for one in expected]}


def test_addresses_are_sorted_by_interface() -> None:
    found = read(address("192.0.2.1"), address("192.0.2.2", index=3), address("fd00::1"))
    assert found == {2: ["192.0.2.1", "fd00::1"], 3: ["192.0.2.2"]}


def test_the_first_primary_address_that_is_valid_everywhere_is_the_best() -> None:
    found = read(
        address("169.254.0.1", scope=LINK),
        address("192.0.2.9", flags=SECONDARY),
        address("192.0.2.1"),
        address("192.0.2.2"),
    )
    assert found == texts("192.0.2.1", "192.0.2.2", "192.0.2.9", "169.254.0.1")


def test_a_deprecated_address_comes_after_one_in_use() -> None:
    found = read(address("fd00::1", flags=DEPRECATED), address("fd00::2"))
    assert found == texts("fd00::2", "fd00::1")


def test_addresses_that_cannot_be_sent_from_are_left_out() -> None:
    found = read(
        address("127.0.0.1", scope=HOST),
        address("::1", scope=HOST),
        address("fd00::1", flags=TENTATIVE),
        address("fd00::2", flags=DADFAILED),
        address("fd00::3"),
    )
    assert found == texts("fd00::3")


@pytest.mark.parametrize(
    ("destination", "source"),
    [("192.0.2.2", None), ("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")],
)
@pytest.mark.parametrize(("device", "mark"), [(0, 0), (3, 0), (0, 7), (3, 7)])
@pytest.mark.parametrize("as_configured", [True, False])
def test_a_question_for_a_route_is_what_pyroute2_writes(
    destination: str, source: str | None, device: int, mark: int, as_configured: bool
) -> None:
    own = None if source is None else ip_address(source)
    query = RouteQuery(ip_address(destination), own, device, mark)
    message = rtmsg()
    message["flags"] = RTM_F_FIB_MATCH if as_configured else 0
    message["family"] = FAMILY[query.destination.version]
    message["dst_len"] = query.destination.max_prefixlen
    message["src_len"] = 0 if own is None else own.max_prefixlen
    message["attrs"] = [
        (name, value)
        for name, value in (
            ("RTA_DST", destination),
            ("RTA_SRC", source),
            ("RTA_OIF", device),
            ("RTA_MARK", mark),
        )
        if value
    ]
    expected = encode(message, RTM_GETROUTE, 0)
    assert route_query(query, as_configured=as_configured) == expected


@pytest.mark.parametrize("index", [1, 7, 0x01020304])
def test_orders_to_each_of_many_interfaces_are_what_pyroute2_writes(index: int) -> None:
    message = ifinfmsg()
    message["index"] = index
    message["flags"], message["change"] = IFF_UP, IFF_UP | IFF_MULTICAST
    message["attrs"] = [("IFLA_MTU", 1476)]
    expected = encode(message, RTM_NEWLINK, NLM_F_ACK)
    assert link(index, attributes=[("IFLA_MTU", 1476)], up=True, multicast=False) == expected
    message = ifinfmsg()
    message["index"] = index
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", IN6_ADDR_GEN_MODE_NONE)]}
    message["attrs"] = [("IFLA_AF_SPEC", {"attrs": [("AF_INET6", mode)]})]
    assert no_link_local(index) == encode(message, RTM_NEWLINK, NLM_F_ACK)


@pytest.mark.parametrize("prefsrc", [None, "192.0.2.1"])
@pytest.mark.parametrize("gateway", [None, "192.0.2.254"])
@pytest.mark.parametrize(
    ("mtu", "expires", "learned"), [(None, 0, False), (1400, 0, False), (1400, 500, True)]
)
def test_a_route_is_read_as_pyroute2_writes_it(
    prefsrc: str | None, gateway: str | None, mtu: int | None, expires: int, learned: bool
) -> None:
    message = rtmsg()
    message["family"], message["dst_len"], message["type"] = socket.AF_INET, 32, RTN_UNICAST
    metrics = {"attrs": [("RTAX_MTU", mtu)]}
    attributes: list[tuple[str, object]] = [("RTA_DST", "192.0.2.2"), ("RTA_OIF", 7)]
    attributes += [("RTA_PREFSRC", prefsrc)] if prefsrc else []
    attributes += [("RTA_GATEWAY", gateway)] if gateway else []
    attributes += [("RTA_METRICS", metrics)] if mtu else []
    attributes += [("RTA_CACHEINFO", {"rta_expires": expires})] if expires else []
    message["attrs"] = attributes
    answer = Answer(message=encode(message, RTM_NEWROUTE, 0))
    found = read_route(answer)
    assert found.oif == 7
    assert found.mtu == (None if learned else mtu)
    assert (found.has_learned, found.local) == (learned, False)
    assert found.prefsrc == (ip_address(prefsrc) if prefsrc else None)
    assert found.gateway == (ip_address(gateway) if gateway else None)
    assert read_learned_mtu(answer) == (mtu if learned else None)
