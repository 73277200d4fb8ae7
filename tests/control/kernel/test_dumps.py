"""Lists of the kernel, as pyroute2 writes them, read without it."""

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from gred.control.kernel import dumps
from gred.control.kernel.messages import FAMILY
from gred.control.kernel.parts import prefix
from gred.control.kernel.rtnetlink import encode


def link(index: int, mtu: int, *, up: bool) -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"] = index, 0x1000 | up
    message["attrs"] = [("IFLA_IFNAME", "t1"), ("IFLA_TXQLEN", 5), ("IFLA_MTU", mtu)]
    return encode(message, 16, 0)


def address(index: int, text: str, *, local: bool = True) -> bytes:
    own = ip_interface(text)
    message = ifaddrmsg()
    message["family"], message["index"] = FAMILY[own.version], index
    message["prefixlen"] = own.network.prefixlen
    message["attrs"] = [("IFA_ADDRESS", str(own.ip) if not local else str(own.ip + 1))]
    message["attrs"] += [("IFA_LOCAL", str(own.ip))] if local else []
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
    assert dumps.read_links(messages, {3, 4}) == {3: (True, 1400), 4: (False, 1300)}


def test_links_have_names() -> None:
    messages = [link(3, 1400, up=True), link(9, 1300, up=False)]
    assert dumps.read_names(messages) == {3: "t1", 9: "t1"}


@pytest.mark.parametrize(("text", "local"), [("10.0.0.1/24", True), ("2001:db8::1/64", False)])
def test_an_address_is_the_interfaces_own_not_its_peers(text: str, local: bool) -> None:
    messages = [address(3, text, local=local), address(4, text, local=local)]
    assert dumps.read_addresses(messages, {3}) == {3: frozenset({prefix(ip_interface(text))})}


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
