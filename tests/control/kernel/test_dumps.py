"""Lists of the kernel, as pyroute2 writes them, read without it."""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from gred.control.kernel import dumps
from gred.control.kernel.messages import FAMILY
from gred.control.kernel.parts import Held, held, prefix
from gred.control.kernel.rtnetlink import encode


def link(index: int, mtu: int, *, up: bool, master: str = "") -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"] = index, 0x1000 | up
    message["attrs"] = [("IFLA_IFNAME", "t1"), ("IFLA_TXQLEN", 5), ("IFLA_MTU", mtu)]
    message["attrs"] += [("IFLA_ADDRESS", "02:00:00:00:00:07")]
    if master:
        message["attrs"] += [("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_SLAVE_KIND", master)]})]
    return encode(message, 16, 0)


def address(
    index: int, text: str, *, local: bool = True, scope: int = 0, flags: int = 0, protocol: int = 0
) -> bytes:
    own = ip_interface(text)
    message = ifaddrmsg()
    message["family"], message["index"] = FAMILY[own.version], index
    message["prefixlen"], message["scope"] = own.network.prefixlen, scope
    message["flags"] = flags & 0xFF
    message["attrs"] = [("IFA_ADDRESS", str(own.ip) if not local else str(own.ip + 1))]
    message["attrs"] += [("IFA_LOCAL", str(own.ip))] if local else []
    message["attrs"] += [("IFA_FLAGS", flags)] if flags else []
    message["attrs"] += [("IFA_PROTO", protocol)] if protocol else []
    return encode(message, 20, 0)


def route(index: int, text: str, *, table: int = 254, kind: int = 1, big: bool = False) -> bytes:
    network = ip_network(text)
    message: Any = rtmsg()
    message["family"], message["dst_len"] = FAMILY[network.version], network.prefixlen
    message["table"], message["type"] = 0 if big else table, kind
    message["attrs"] = [("RTA_OIF", index)]
    message["attrs"] += [("RTA_TABLE", table)] if big else []
    if network.prefixlen:
        message["attrs"] += [("RTA_DST", str(network.network_address))]
    return encode(message, 24, 0)


def test_links_are_up_or_down_with_an_mtu() -> None:
    messages = [link(3, 1400, up=True), link(4, 1300, up=False), link(5, 1, up=True)]
    assert dumps.read_links(messages, {3, 4}) == {
        3: dumps.Link(up=True, mtu=1400, mac_address=b"\2\0\0\0\0\7", queue=5),
        4: dumps.Link(up=False, mtu=1300, mac_address=b"\2\0\0\0\0\7", queue=5),
    }


def test_an_interface_in_a_vrf_is_told_from_one_in_a_bridge() -> None:
    for kind in ("vrf", "bridge"):
        message = link(3, 1400, up=True, master=kind)
        assert dumps.read_links([message], {3})[3].in_vrf == (kind == "vrf")


def test_links_have_names() -> None:
    messages = [link(3, 1400, up=True), link(9, 1300, up=False)]
    assert dumps.read_names(messages) == {3: "t1", 9: "t1"}


@pytest.mark.parametrize(("text", "local"), [("10.0.0.1/24", True), ("2001:db8::1/64", False)])
def test_an_address_is_the_interfaces_own_not_its_peers(text: str, local: bool) -> None:
    messages = [address(3, text, local=local), address(4, text, local=local)]
    assert dumps.read_addresses(messages, {3}) == {
        3: dumps.Addresses(own={held(ip_interface(text))}),
    }


def test_addresses_have_a_scope_an_order_and_a_maker() -> None:
    messages = [
        address(3, "10.0.0.1/24", scope=254),
        address(3, "10.0.0.2/24", flags=0x81),
        address(3, "fe80::1/64", local=False, scope=253, flags=0x80),
        address(3, "fe80::2/64", local=False, scope=253, flags=0x880),
        address(3, "fe80::3/64", local=False, scope=253, flags=0x80, protocol=2),
        address(3, "2001:db8::3/64", local=False, flags=0x880),
    ]
    found = dumps.read_addresses(messages, {3})[3]
    assert Held(ip_address("10.0.0.1").packed, 24, 254) in found.own
    assert found.secondary == {held(ip_interface("10.0.0.2/24"))}
    assert found.made == set(map(held, map(ip_interface, ("fe80::2/64", "fe80::3/64"))))
    assert len(found.own) == len(messages)


@pytest.mark.parametrize("text", ["20.1.3.0/24", "0.0.0.0/0", "2001:db8::/48", "::/0"])
@pytest.mark.parametrize("big", [False, True])
def test_routes_of_the_main_table(text: str, big: bool) -> None:
    expected = prefix(ip_network(text))
    message = route(3, text, big=big)
    assert dumps.read_routes([message], {3}) == {3: frozenset({expected})}
    assert dumps.read_routes([message], {4}) == {}
    assert dumps.leads_to(message, 3, expected)
    assert not dumps.leads_to(message, 4, expected)
    assert not dumps.leads_to(message, 3, (ip_address("20.1.3.0").packed, 25))


def test_routes_of_other_tables_and_kinds_are_passed_over() -> None:
    messages = [route(3, "20.1.3.0/24", table=100), route(3, "20.1.4.0/24", kind=7)]
    messages.append(route(3, "20.1.5.0/24", table=1000, big=True))
    assert dumps.read_routes(messages, {3}) == {}


def test_an_attribute_that_is_cut_off_ends_the_list() -> None:
    for message, head in (
        (link(3, 1400, up=True), 16),
        (address(3, "10.0.0.1/24"), 8),
        (route(3, "20.0.0.0/8", big=True), 12),
    ):
        for end in range(16 + head, len(message)):
            dumps.read_links([message[:end].ljust(32, b"\0")], {3})
            dumps.read_names([message[:end].ljust(32, b"\0")])
            dumps.read_addresses([message[:end]], {3})
            dumps.read_routes([message[:end].ljust(28, b"\0")], {3})


def given(text: str, *, flags: int = 0, expires: int = 0, **metrics: int) -> bytes:
    """Return a route with metrics, listed as the kernel does: by their numbers."""
    network = ip_network(text)
    message: Any = rtmsg()
    message["family"], message["dst_len"] = FAMILY[network.version], network.prefixlen
    message["flags"], message["type"] = flags, 1
    named = [(f"RTAX_{name.upper()}", value) for name, value in metrics.items()]
    message["attrs"] = [("RTA_METRICS", {"attrs": named})] if named else []
    if network.prefixlen:
        message["attrs"] += [("RTA_DST", str(network.network_address))]
    if expires:
        message["attrs"] += [("RTA_CACHEINFO", {"rta_expires": expires})]
    return encode(message, 24, 0)


@pytest.mark.parametrize("text", ["20.1.3.0/24", "0.0.0.0/0", "2001:db8::/48", "::/0"])
@pytest.mark.parametrize("locked", [False, True])
def test_routes_that_were_given_an_mtu(text: str, locked: bool) -> None:
    lock = {"lock": 4} if locked else {}
    others = [route(3, text), given(text, advmss=1400), given(text, lock=4, rtt=1400)]
    message = given(text, **lock, mtu=1400, rtt=9)
    network = prefix(ip_network(text))
    assert dumps.read_mtu_routes([*others, message]) == [(*network, 1400)]
    assert not any(dumps.HAS_MTU.search(other) for other in others)
    assert dumps.read_route_mtu(message) == 1400
    assert [dumps.read_route_mtu(other) for other in others] == [None] * 3


@pytest.mark.parametrize(
    "message",
    [given("2001:db8::1/128", flags=0x200, mtu=1400), given("20.1.3.1/32", expires=9, mtu=1400)],
)
def test_an_mtu_that_was_learned_was_given_by_nobody(message: bytes) -> None:
    assert dumps.read_route_mtu(message) is None
