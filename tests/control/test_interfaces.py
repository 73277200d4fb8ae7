"""What an interface lacks, in words; and how many questions that takes."""

from dataclasses import replace
from ipaddress import IPv6Interface, ip_interface, ip_network

import pytest

from gred.control.interfaces import compare, differences
from gred.control.kernel.parts import Actual, InterfaceSettings, prefix
from tests.control.fakes import FakeKernel

WANTED = InterfaceSettings(
    place="gred.conf:7: [Tunnel t1]",
    index=10,
    name="t1",
    mtu=1476,
    addresses=(ip_interface("10.1.2.1/24"), ip_interface("2001:db8::1/64")),
    routes=(ip_network("10.1.2.0/24"), ip_network("20.1.3.0/24")),
    link_local=IPv6Interface("fe80::5efe:c000:201/64"),
)
WHOLE = Actual(
    up=True,
    mtu=1476,
    addresses=frozenset(map(prefix, WANTED.all_addresses)),
    routes=frozenset({prefix(ip_network("20.1.3.0/24"))}),
)


def without(*items: str) -> Actual:
    gone = {(ip_interface(item).packed, ip_interface(item).network.prefixlen) for item in items}
    return replace(WHOLE, addresses=WHOLE.addresses - gone, routes=WHOLE.routes - gone)


def test_nothing_is_said_of_what_is_as_it_was_set_up() -> None:
    assert compare(WANTED, WHOLE).sentence == ""
    more = replace(WHOLE, addresses=WHOLE.addresses | {prefix(ip_interface("10.7.7.7/32"))})
    assert compare(WANTED, more).sentence == "", "what somebody added is none of ours"


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        (["10.1.2.1/24"], "address 10.1.2.1/24 is missing"),
        (["fe80::5efe:c000:201/64"], "address fe80::5efe:c000:201/64 is missing"),
        (["20.1.3.0/24"], "route 20.1.3.0/24 is missing"),
        (
            ["10.1.2.1/24", "2001:db8::1/64", "20.1.3.0/24"],
            "addresses 10.1.2.1/24 and 2001:db8::1/64 are missing, route 20.1.3.0/24 is missing",
        ),
    ],
)
def test_what_is_missing_is_named(gone: list[str], sentence: str) -> None:
    difference = compare(WANTED, without(*gone))
    assert difference.sentence == sentence
    assert difference.incomplete
    assert not difference.down


def test_an_address_with_another_prefix_is_another_one() -> None:
    own = prefix(ip_interface("10.1.2.1/24"))
    changed = WHOLE.addresses - {own} | {prefix(ip_interface("10.1.2.1/16"))}
    assert compare(WANTED, replace(WHOLE, addresses=changed)).addresses == WANTED.addresses[:1]


def test_many_are_not_all_named() -> None:
    routes = tuple(ip_network(f"20.0.{number}.0/24") for number in range(9))
    sentence = compare(replace(WANTED, routes=routes), WHOLE).sentence
    assert sentence == ("routes 20.0.0.0/24 and 20.0.1.0/24 and 20.0.2.0/24 and 6 more are missing")


def test_another_mtu_is_told() -> None:
    assert compare(WANTED, replace(WHOLE, mtu=1300)).sentence == "the MTU was changed to 1300"


def test_of_an_interface_that_is_down_nothing_else_is_said() -> None:
    """The kernel takes its routes and IPv6 addresses away with it."""
    difference = compare(WANTED, Actual(up=False, mtu=9))
    assert difference.down
    assert not difference.incomplete
    assert "set down" in difference.sentence


def test_all_interfaces_of_a_namespace_are_asked_for_at_once() -> None:
    kernel = FakeKernel()
    kernel.namespaces["blue"] = {10: "t3"}
    kernel.interfaces |= {11: "t11", 12: "t12"}
    here = [replace(WANTED, index=index, name=f"t{index}") for index in (11, 12)]
    there = replace(WANTED, name="t3", namespace="blue")
    gone = replace(WANTED, name="t4", namespace="gone")
    kernel.configure([*here, there])
    found = differences(kernel, [*here, there, gone])
    assert kernel.looked_at == [None, "blue", "gone"]
    assert {name: one.sentence for name, one in found.items()} == dict.fromkeys(
        ("t11", "t12", "t3"), ""
    )
