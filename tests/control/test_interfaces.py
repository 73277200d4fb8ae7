"""What an interface lacks, in words, and the changes that end it, on one as Linux would keep it."""

from dataclasses import replace
from ipaddress import IPv6Interface, ip_interface, ip_network

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from gred.config.model import IPInterface, IPNetwork
from gred.control.interfaces import TRANSMIT_QUEUE, as_given, changes, compare
from gred.control.kernel.changes import (
    AddAddress,
    AddConnected,
    AddRoute,
    Change,
    FollowCarrier,
    NoLinkLocal,
    RemoveAddress,
    RemoveRoute,
    SetAlias,
    SetMacAddress,
    SetMtu,
    SetQueue,
    SetUp,
)
from gred.control.kernel.parts import Actual, Held, InterfaceSettings, held, prefix
from gred.control.mtu import FLOOR_IPV6
from gred.control.survey import interfaces
from tests.control.fakes import FakeKernel
from tests.control.model import MADE, Interface

WANTED = InterfaceSettings(
    place="gred.conf:7: [Tunnel t1]",
    index=10,
    name="t1",
    mtu=1476,
    addresses=(ip_interface("10.1.2.1/24"), ip_interface("2001:db8::1/64")),
    routes=(ip_network("10.1.2.0/24"), ip_network("20.1.3.0/24")),
    link_local=IPv6Interface("fe80::5efe:c000:201/64"),
    ipv6=True,
)
WHOLE = Actual(
    up=True,
    mtu=1476,
    addresses=frozenset(map(held, WANTED.all_addresses)),
    routes=frozenset(map(prefix, [*WANTED.own_routes, *WANTED.connected])),
    queue=TRANSMIT_QUEUE,
)


def without(*items: str) -> Actual:
    gone = {held(ip_interface(item)) for item in items}
    routes = {
        prefix(ip_network(item)) for item in items if "/24" in item and item.endswith(".0/24")
    }
    return replace(WHOLE, addresses=WHOLE.addresses - gone, routes=WHOLE.routes - routes)


def test_nothing_is_said_of_what_is_as_it_was_set_up() -> None:
    assert compare(WANTED, WHOLE).sentence == ""
    more = replace(WHOLE, addresses=WHOLE.addresses | {held(ip_interface("10.7.7.7/32"))})
    assert compare(WANTED, more).sentence == "", "what somebody added is none of ours"


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        (["10.1.2.1/24"], "address 10.1.2.1/24 is missing"),
        (["fe80::5efe:c000:201/64"], "address fe80::5efe:c000:201/64 is missing"),
        (["20.1.3.0/24"], "route 20.1.3.0/24 is missing"),
        (["10.1.2.0/24"], "route 10.1.2.0/24 is missing"),
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
    own = held(ip_interface("10.1.2.1/24"))
    changed = WHOLE.addresses - {own} | {held(ip_interface("10.1.2.1/16"))}
    assert compare(WANTED, replace(WHOLE, addresses=changed)).addresses == WANTED.addresses[:1]


def test_many_are_not_all_named() -> None:
    routes = tuple(ip_network(f"20.0.{number}.0/24") for number in range(9))
    sentence = compare(replace(WANTED, routes=routes), WHOLE).sentence
    assert sentence == ("routes 20.0.0.0/24 and 20.0.1.0/24 and 20.0.2.0/24 and 6 more are missing")


def test_another_mtu_is_told() -> None:
    difference = compare(WANTED, replace(WHOLE, mtu=1300))
    assert difference.sentence == "the MTU is 1300, not 1476"
    assert difference.past == "the MTU was 1300, not 1476"


def test_another_mac_address_is_told() -> None:
    wanted = replace(WANTED, mac_address="02:00:00:00:00:07")
    actual = replace(WHOLE, mac_address=bytes.fromhex("020000000009"))
    expected = "the MAC address is 02:00:00:00:00:09, not 02:00:00:00:00:07"
    assert compare(wanted, actual).sentence == expected
    assert changes(wanted, actual, wanted) == [SetMacAddress("02:00:00:00:00:07")]


def test_of_an_interface_that_is_down_nothing_else_is_said() -> None:
    """The kernel takes its routes and IPv6 addresses away with it."""
    difference = compare(WANTED, Actual(up=False, mtu=9))
    assert difference.down
    assert not difference.incomplete
    assert "set down" in difference.sentence


def test_routes_follow_the_carrier_where_they_are_to() -> None:
    wanted = replace(WANTED, follows_carrier=True)
    interface = Interface()
    assert FollowCarrier() in changes(wanted, interface.actual())
    assert FollowCarrier() not in changes(WANTED, interface.actual())
    assert changes(wanted, WHOLE, wanted) == [], "once"


def test_all_interfaces_of_a_namespace_are_asked_for_at_once() -> None:
    kernel = FakeKernel()
    kernel.namespaces["blue"] = {10: "t3"}
    kernel.interfaces |= {11: "t11", 12: "t12"}
    kernel.states |= {index: Interface() for index in (10, 11, 12)}
    here = [replace(WANTED, index=index, name=f"t{index}") for index in (11, 12)]
    there = replace(WANTED, name="t3", namespace="blue")
    gone = replace(WANTED, name="t4", namespace="gone")
    found = interfaces(kernel, [*here, there, gone])
    assert kernel.looked_at == [None, "blue", "gone"]
    assert found.keys() == {"t11", "t12", "t3"}


# Changes.


def test_the_first_configuration_has_its_order() -> None:
    """No route before up, no IPv6 address before the MTU, no link-local address of the kernel's."""
    done = changes(WANTED, Interface().actual())
    assert done == [
        SetMtu(1476),
        SetQueue(TRANSMIT_QUEUE),
        NoLinkLocal(),
        *map(AddAddress, WANTED.all_addresses),
        SetUp(),
        AddRoute(ip_network("20.1.3.0/24")),
    ]


def test_the_alias_is_set_once_and_again_when_another_is_wanted() -> None:
    """What somebody else has made of it stays: it is no part of what is compared."""
    named, renamed = replace(WANTED, alias="GRE a"), replace(WANTED, alias="GRE b")
    assert changes(named, WHOLE) == [NoLinkLocal(), SetAlias("GRE a")]
    assert changes(named, WHOLE, named) == []
    assert changes(renamed, WHOLE, named) == [SetAlias("GRE b")]
    assert compare(named, WHOLE).sentence == ""


def test_an_interface_without_ipv6_leaves_the_groups_of_a_router() -> None:
    wanted = replace(WANTED, addresses=WANTED.addresses[:1], link_local=None, ipv6=False)
    first, second, *_rest, up, _route = changes(wanted, Interface(router=True).actual())
    assert [type(first).__name__, second, up] == ["LeaveGroups", SetMtu(1476), SetUp(True)]
    assert changes(WANTED, Interface(router=True).actual())[0] == SetMtu(1476)


@pytest.mark.parametrize(
    ("gone", "expected"),
    [
        (["10.1.2.1/24"], [AddAddress(ip_interface("10.1.2.1/24"))]),
        (["20.1.3.0/24"], [AddRoute(ip_network("20.1.3.0/24"))]),
        (["10.1.2.0/24"], [AddConnected(ip_interface("10.1.2.1/24"))]),
        (["fe80::5efe:c000:201/64"], [AddAddress(ip_interface("fe80::5efe:c000:201/64"))]),
    ],
)
def test_what_is_missing_is_added_and_nothing_else(gone: list[str], expected: list[Change]) -> None:
    assert changes(WANTED, without(*gone), WANTED) == expected


def test_the_last_ipv4_address_takes_the_routes_along_and_they_come_back() -> None:
    interface = configured(WANTED)
    interface.take("10.1.2.1/24")
    assert changes(WANTED, interface.actual(), WANTED) == [
        AddAddress(ip_interface("10.1.2.1/24")),
        AddRoute(ip_network("20.1.3.0/24")),
    ]


def test_an_interface_that_was_set_down_stays_down_and_gets_all_when_it_is_up() -> None:
    interface = configured(WANTED)
    interface.set_down()
    assert SetUp() not in changes(WANTED, interface.actual(), WANTED)
    interface.set_up()
    apply(interface, changes(WANTED, interface.actual(), WANTED))
    assert compare(WANTED, interface.actual()).sentence == ""


def test_an_address_of_another_scope_makes_room() -> None:
    own = ip_interface("10.1.2.1/24")
    host = Held(own.packed, 24, 254)
    actual = replace(WHOLE, addresses=WHOLE.addresses - {held(own)} | {host})
    done = changes(WANTED, actual, WANTED)
    assert done[:2] == [RemoveAddress(own), AddAddress(own)]


def test_over_ipv6_an_address_with_another_prefix_makes_room() -> None:
    own, other = ip_interface("2001:db8::1/64"), ip_interface("2001:db8::1/128")
    interface = configured(WANTED)
    interface.take(str(own))
    interface.give(str(other))
    assert changes(WANTED, interface.actual(), WANTED) == [RemoveAddress(other), AddAddress(own)]


def test_a_small_mtu_takes_ipv6_along_and_what_the_kernel_makes_then_goes() -> None:
    interface = configured(WANTED)
    interface.set_mtu(1000)
    apply(interface, changes(WANTED, interface.actual(), WANTED))
    assert MADE in interface.addresses, "it was made before anybody could forbid it"
    assert changes(WANTED, interface.actual(), WANTED) == [
        NoLinkLocal(),
        RemoveAddress(ip_interface(MADE[:2])),
    ]


def test_in_a_vrf_no_route_is_put_elsewhere() -> None:
    interface = configured(WANTED)
    interface.in_vrf = True
    interface.routes.clear()
    assert changes(WANTED, interface.actual(), WANTED) == []
    assert compare(WANTED, interface.actual()).sentence == "route 20.1.3.0/24 is missing"


def test_what_is_wanted_no_more_goes_and_the_rest_stays_throughout() -> None:
    interface = configured(WANTED)
    address, route = ip_interface("10.8.8.1/24"), ip_network("20.1.4.0/24")
    wanted = replace(
        WANTED, addresses=(address, WANTED.addresses[1]), routes=(route, *WANTED.routes[1:])
    )
    assert changes(wanted, interface.actual(), WANTED) == [
        AddAddress(address),
        RemoveAddress(ip_interface("10.1.2.1/24")),
        AddRoute(route),
    ]


def test_what_was_given_counts_as_there_where_nothing_may_be_put_back() -> None:
    actual = replace(without("10.1.2.1/24", "20.1.3.0/24"), mtu=1300)
    granted = as_given(actual, WANTED)
    assert changes(WANTED, granted, WANTED) == []
    assert changes(replace(WANTED, mtu=1400), granted, WANTED) == [SetMtu(1400)]


# Any configuration, any mischief.


def configured(
    wanted: InterfaceSettings, *, promotes: bool = False, router: bool = False
) -> Interface:
    interface = Interface(promotes=promotes, router=router)
    apply(interface, changes(wanted, interface.actual()))
    return interface


def apply(interface: Interface, done: list[Change]) -> None:
    for change in done:
        assert interface.change("", change) is None, change


ADDRESSES: list[IPInterface] = [
    ip_interface(text)
    for text in (
        *("10.1.2.1/24", "10.1.2.2/24", "10.1.3.1/24", "10.7.7.7/32", "169.254.7.1/16"),
        *("2001:db8::1/64", "2001:db8::2/64", "2001:db8:1::1/128", "fe80::1/64"),
    )
]
ROUTES: list[IPNetwork] = [
    ip_network(text)
    for text in ("10.1.2.0/24", "20.1.3.0/24", "20.0.0.0/8", "2001:db8:9::/48", "2001:db8::/64")
]


@st.composite
def wanted_settings(draw: st.DrawFn) -> InterfaceSettings:
    addresses = tuple(draw(st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=4)))
    routes = tuple(draw(st.lists(st.sampled_from(ROUTES), unique=True, max_size=3)))
    ipv6 = any(inner.version == 6 for inner in (*addresses, *routes))
    return replace(
        WANTED,
        mtu=draw(st.sampled_from([1300, 1476] if ipv6 else [1000, 1300, 1476])),
        addresses=addresses,
        routes=routes,
        link_local=WANTED.link_local if ipv6 else None,
        ipv6=ipv6,
        mac_address=draw(st.sampled_from([None, "02:00:00:00:00:07"])),
    )


KINDS = st.fixed_dictionaries({"promotes": st.booleans(), "router": st.booleans()})
FOREIGN = ["172.16.1.1/24", "10.1.2.77/24", "2001:db8::77/64", "172.17.0.0/16", "fd00:7::/64"]


@st.composite
def mischief(draw: st.DrawFn, interface: Interface) -> None:
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(["address", "route", "mtu", "flap", "flush", "mac", "give"])):
            case "address" if interface.addresses:
                interface.remove(draw(st.sampled_from(interface.addresses)))
            case "route" if interface.routes:
                interface.routes.discard(draw(st.sampled_from(sorted(interface.routes))))
            case "mtu":
                interface.set_mtu(draw(st.sampled_from([1000, 1280, 1400])))
            case "flap":
                interface.set_down()
                interface.set_up()
            case "flush":
                interface.flush()
            case "mac":
                interface.mac_address = bytes.fromhex("020000000009")
            case "give":
                text = draw(st.sampled_from(FOREIGN))
                if ":" not in text or interface.mtu >= 1280:
                    known = {one[:2] for one in interface.addresses} | interface.routes
                    network = ip_interface(text)
                    is_there = (network.packed, network.network.prefixlen) in known
                    if not is_there:
                        interface.give(text)


def are_minimal(interface: Interface, done: list[Change], wanted: InterfaceSettings) -> bool:
    """Whether none of *done* can be left out: each lacks afterwards, or comes back."""
    for number, left_out in enumerate(done):
        other = Interface(**vars(interface) | {"addresses": [*interface.addresses]})
        other.routes = set(interface.routes)
        for change in done[:number] + done[number + 1 :]:
            other.change("", change)
        if not compare(wanted, other.actual()).incomplete and not isinstance(
            left_out, SetQueue | NoLinkLocal | RemoveAddress | RemoveRoute | SetUp
        ):
            return False
    return True


@given(st.data(), wanted_settings(), KINDS)
def test_any_mischief_is_mended_once_and_what_is_foreign_stays(
    data: st.DataObject, wanted: InterfaceSettings, kind: dict[str, bool]
) -> None:
    interface = configured(wanted, **kind)
    assert compare(wanted, interface.actual()).sentence == ""
    assert changes(wanted, interface.actual(), wanted) == [], "a new one is whole"
    data.draw(mischief(interface))
    own = set(map(held, wanted.all_addresses))
    foreign = {
        one
        for one in set(interface.addresses) - own - {MADE}
        # A small MTU leaves nothing of IPv6.
        if len(one.address) == 4 or wanted.mtu >= FLOOR_IPV6
    }
    before = Interface(**vars(interface) | {"addresses": [*interface.addresses]})
    before.routes = set(interface.routes)
    done = changes(wanted, interface.actual(), wanted)
    event(f"{len(done)} changes")
    apply(interface, done)
    assert are_minimal(before, done, wanted)
    assert compare(wanted, interface.actual()).sentence == ""
    # What the kernel makes by itself when IPv6 comes back is known afterwards.
    apply(interface, changes(wanted, interface.actual(), wanted))
    assert changes(wanted, interface.actual(), wanted) == []
    assert MADE not in interface.addresses
    assert foreign <= set(interface.addresses)


@given(wanted_settings(), wanted_settings(), KINDS)
def test_another_configuration_is_the_same_as_if_it_had_been_the_first(
    before: InterfaceSettings, wanted: InterfaceSettings, kind: dict[str, bool]
) -> None:
    if wanted.mac_address is None:
        wanted = replace(wanted, mac_address=before.mac_address)
    interface = configured(before, **kind)
    apply(interface, changes(wanted, interface.actual(), before))
    apply(interface, [one for one in changes(wanted, interface.actual(), wanted) if _of_made(one)])
    assert changes(wanted, interface.actual(), wanted) == []
    expected = configured(wanted, **kind)
    assert set(interface.addresses) == set(expected.addresses)
    assert interface.routes == expected.routes
    assert interface.mtu == wanted.mtu


def _of_made(change: Change) -> bool:
    return change in {NoLinkLocal(), RemoveAddress(ip_interface(MADE[:2]))}
