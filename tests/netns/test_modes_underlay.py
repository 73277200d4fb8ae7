"""What outer packets leave from and carry: device, mark, local address, IPv6 header, namespace."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.lab.traffic import ping, transfer
from tests.netns.capture import DESTINATION_OPTIONS, GRE, wire
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, events, wait_for, wait_for_event

NUMBERS = itertools.count(1)
OTHER = "under1"
TIMES = 3


def tunnel(host: Host, options: str = "", *, version: int = 4, local: str = "") -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    index = 0 if version == 4 else 1
    return (
        f"[Tunnel t]\nLocal={local or ends[0][index]}\nRemote={ends[1][index]}\n"
        f"Address=10.9.1.{own}/24\n{options}\n"
    )


def crosses(left: Host) -> bool:
    return ping(left, "10.9.1.2", timeout=2).received == TIMES


def is_lost(left: Host) -> bool:
    return ping(left, "10.9.1.2", count=TIMES, timeout=0.1).received == 0


@pytest.fixture
def second_wire(lab: Lab, hosts: tuple[Host, Host]) -> Iterator[None]:
    """Another way between the hosts, with addresses of its own that no tunnel uses."""
    left, right = hosts
    lab.wire(left, right, device=OTHER)
    for host, own in ((left, 1), (right, 2)):
        host.address(f"198.51.100.{own}/24", OTHER)
        host.address(f"2001:db8:1::{own}/64", OTHER)
    yield
    left.ip("link", "del", OTHER)


# Device


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.usefixtures("second_wire")
def test_packets_leave_through_the_device_and_arrive_through_any(
    hosts: tuple[Host, Host], daemons: Daemons, version: int
) -> None:
    """The route to the remote is by the first wire; only Device= leads to the second."""
    left, right = hosts
    index = 0 if version == 4 else 1
    # The worse one of two routes. IPv6 has no way to a device without one; and the right host
    # answers neighbour solicitations only for addresses of the interface they come to.
    route = (("192.0.2.0/24", "2001:db8::/64")[index], "dev", OTHER, "metric", "5000")
    left.ip("route", "add", *route)
    (link,) = json.loads(right.ip("-j", "link", "show", "dev", OTHER))
    left.ip("neigh", "add", RIGHT[index], "lladdr", link["address"], "dev", OTHER)
    daemons.start(right, tunnel(right, version=version))
    daemons.start(left, tunnel(left, f"Device={OTHER}", version=version))
    with wire(right, OTHER) as second, wire(left, UNDERLAY) as first:
        assert crosses(left)
        assert second.echo().destination == RIGHT[index]
        assert first.echo().destination == LEFT[index], (
            "the other side's way back is its own matter"
        )
    assert transfer(left, right, "10.9.1.2", size=1 << 18).intact


def test_a_device_that_is_not_there_stops_all_until_it_comes(
    lab: Lab, hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Nothing may leave by another way meanwhile: not even once."""
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left, f"Device={OTHER}"))
    told = wait_for_event(daemon, "tunnel_no_route", tunnel="t")
    assert told["detail"] == f"no route to {RIGHT[0]}: there is no interface {OTHER}"
    with wire(right, UNDERLAY) as first:
        assert is_lost(left)
        assert first.frame(lambda data: data[23] == GRE, 0.2) is None
    lab.wire(left, right, device=OTHER)
    left.address("198.51.100.1/24", OTHER)
    wait_for_event(daemon, "tunnel_up", tunnel="t", after=len(events(daemon)) - 1)
    assert crosses(left)
    left.ip("link", "del", OTHER)
    wait_for_event(daemon, "tunnel_no_route", tunnel="t", after=len(events(daemon)) - 1)
    assert is_lost(left)
    assert daemon.stop() == 0
    assert set(drops(daemon)) == {("t", "tx_no_route")}


def test_link_local_ends_work_with_a_device(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    for host, own, other in zip(hosts, (1, 2), (2, 1), strict=True):
        host.address(f"fe80::{own}/64")
        daemons.start(
            host,
            f"[Tunnel t]\nLocal=fe80::{own}\nRemote=fe80::{other}\nDevice={UNDERLAY}\n"
            f"Address=10.9.1.{own}/24\n",
        )
    assert crosses(hosts[0])
    assert transfer(hosts[1], hosts[0], "10.9.1.1", size=1 << 18).intact


# FirewallMark


@pytest.mark.parametrize("version", [4, 6])
def test_routing_rules_see_the_mark(
    hosts: tuple[Host, Host], daemons: Daemons, version: int
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right, version=version))
    daemon = daemons.start(left, tunnel(left, "FirewallMark=0x80000007", version=version))
    assert crosses(left)
    rule = (f"-{version}", "rule")
    forbid = ("fwmark", "0x80000007", "pref", "100", "unreachable")
    left.ip(*rule, "add", *forbid)
    try:
        wait_for_event(daemon, "tunnel_no_route", tunnel="t")  # control asks with the mark, too
        assert is_lost(left)
    finally:
        left.ip(*rule, "del", *forbid)
    wait_for_event(daemon, "tunnel_up", tunnel="t", after=len(events(daemon)) - 1)
    assert crosses(left)
    assert daemon.stop() == 0
    assert set(drops(daemon)) <= {("t", "tx_no_route"), ("t", "tx_denied")}


def test_a_mark_keeps_a_route_into_the_tunnel_from_being_a_loop(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """The usual use: everything into the tunnel, but the tunnel's own packets."""
    left, right = hosts
    left.ip("rule", "add", "fwmark", "7", "pref", "90", "lookup", "77")
    left.ip("route", "add", "192.0.2.0/24", "dev", UNDERLAY, "src", LEFT[0], "table", "77")
    try:
        daemons.start(right, tunnel(right))
        route = f"Route={RIGHT[0]}/32"
        daemon = daemons.start(left, tunnel(left, f"FirewallMark=7\n{route}"))
        assert crosses(left)
        assert not [event for event in events(daemon) if event["event"] == "tunnel_loop"]
    finally:
        left.ip("rule", "del", "fwmark", "7", "pref", "90")
        left.ip("route", "flush", "table", "77")


# Local=%interface


@pytest.mark.parametrize("version", [4, 6])
def test_the_local_address_follows_the_interface(
    hosts: tuple[Host, Host], daemons: Daemons, version: int
) -> None:
    left, right = hosts
    index = 0 if version == 4 else 1
    length = 24 if version == 4 else 64
    old, new = LEFT[index], ("192.0.2.11", "2001:db8::11")[index]
    both = tunnel(right, version=version) + tunnel(right, version=version).replace(
        "[Tunnel t]", "[Tunnel u]"
    ).replace(f"Remote={old}", f"Remote={new}").replace("10.9.1.2/24", "10.9.2.2/24")
    daemons.start(right, both)
    daemon = daemons.start(
        left,
        tunnel(
            left, "Address=10.9.1.1/24, 10.9.2.1/24", local=f"%{UNDERLAY}", version=version
        ).replace("Address=10.9.1.1/24\n", ""),
    )
    try:
        assert crosses(left)
        left.address(f"{new}/{length}")
        left.ip("addr", "del", f"{old}/{length}", "dev", UNDERLAY)
        if version == 4:  # with the first address of a network its secondary ones go
            left.ip("addr", "replace", f"{new}/{length}", "dev", UNDERLAY)
        wait_for_event(daemon, "local_changed", tunnel="t", local=new, before=old)
        assert ping(left, "10.9.2.2", source="10.9.2.1", timeout=2).received == TIMES
    finally:
        left.ip("addr", "flush", "dev", UNDERLAY, "scope", "global")
        for address, bits in zip(LEFT, (24, 64), strict=True):
            left.address(f"{address}/{bits}")
    wait_for_event(daemon, "local_changed", tunnel="t", local=old)
    assert crosses(left)


def test_an_interface_without_an_address_is_waited_for(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Nothing leaves from another address meanwhile."""
    left, right = hosts
    left.ip("addr", "del", f"{LEFT[0]}/24", "dev", UNDERLAY)
    try:
        daemons.start(right, tunnel(right))
        daemon = daemons.start(left, tunnel(left, local=f"%{UNDERLAY}"))
        told = wait_for_event(daemon, "tunnel_no_local", tunnel="t")
        assert told["detail"] == f"interface {UNDERLAY} has no IPv4 address"
        assert is_lost(left)
    finally:
        left.address(f"{LEFT[0]}/24")
    wait_for_event(daemon, "tunnel_up", tunnel="t")
    assert crosses(left)


# The IPv6 header


def test_an_encapsulation_limit_is_sent_and_accepted(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """RFC 2473 section 4.1.1; the kernel takes a received one away before a raw socket sees it."""
    left, right = hosts
    daemons.start(right, tunnel(right, version=6))
    daemons.start(left, tunnel(left, "EncapsulationLimit=4", version=6))
    assert "mtu 1440 " in left.ip("link", "show", "dev", "t")
    with wire(right, UNDERLAY) as packets:
        assert crosses(left)
        seen = packets.echo()
    assert seen.next_header == DESTINATION_OPTIONS
    assert seen.payload[:8] == bytes((GRE, 0, 4, 1, 4, 1, 1, 0))
    assert ping(left, "10.9.1.2", size=1440 - 28, count=2).received == 2
    assert transfer(left, right, "10.9.1.2", size=1 << 18).intact


def label_seen(left: Host, right: Host) -> int:
    with wire(right, UNDERLAY) as packets:
        assert crosses(left)
        return packets.echo().flow_label


@pytest.mark.parametrize(
    ("option", "is_right"),
    [
        ("auto", bool),
        ("0", lambda label: label == 0),
        ("0x12345", lambda label: label == 0x12345),
        ("1048575", lambda label: label == 0xFFFFF),
    ],
)
def test_the_flow_label_is_as_configured(
    hosts: tuple[Host, Host], daemons: Daemons, option: str, is_right: Callable[[int], bool]
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right, version=6))
    daemons.start(left, tunnel(left, f"IPv6FlowLabel={option}", version=6))
    assert is_right(label_seen(left, right))


# Don't Fragment


@pytest.mark.parametrize(
    ("options", "inner", "outer"),
    [
        ("", True, True),
        ("", False, True),
        ("DiscoverPathMTU=no", True, True),
        ("DiscoverPathMTU=no", False, False),
        ("DiscoverPathMTU=no\nIgnoreDontFragment=yes", True, False),
        ("DiscoverPathMTU=no\nIgnoreDontFragment=yes", False, False),
    ],
)
def test_the_outer_dont_fragment(
    hosts: tuple[Host, Host], daemons: Daemons, options: str, *, inner: bool, outer: bool
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemons.start(left, tunnel(left, options))
    with wire(right, UNDERLAY) as packets:
        assert ping(left, "10.9.1.2", fragmentable=not inner).received == TIMES
        assert packets.echo().dont_fragment is outer


# Namespace


@pytest.fixture
def inner(lab: Lab) -> Host:
    """A host that has no wire: only a tunnel leads out of it."""
    return lab.host(f"inner{next(NUMBERS)}")


def interfaces(host: Host) -> set[str]:
    return {link["ifname"] for link in json.loads(host.ip("-j", "link", "show"))}


@pytest.mark.parametrize("mode", ["gre", "gretap"])
@pytest.mark.parametrize("version", [4, 6])
def test_the_interface_may_be_in_another_namespace(
    hosts: tuple[Host, Host], inner: Host, daemons: Daemons, mode: str, version: int
) -> None:
    left, right = hosts
    before = interfaces(left)
    daemons.start(right, tunnel(right, f"Mode={mode}", version=version))
    index = 0 if version == 4 else 1
    options = (
        f"Mode={mode}\nNamespace={inner.namespace}\n"
        # In there it is no loop: outer packets are routed by the routes out here.
        f"Route={RIGHT[index]}/{32 if version == 4 else 128}"
    )
    daemon = daemons.start(left, tunnel(left, options, version=version))
    assert interfaces(left) == before
    assert interfaces(inner) == {"lo", "t"}
    overhead = (24, 44)[index] + (14 if mode == "gretap" else 0)
    assert f"mtu {1500 - overhead} " in inner.ip("link", "show", "dev", "t")
    assert crosses(inner)
    assert transfer(inner, right, "10.9.1.2", size=1 << 18).intact
    assert transfer(right, inner, "10.9.1.1", size=1 << 18).intact
    left.ip("link", "set", UNDERLAY, "mtu", "1400")
    try:
        wait_for_event(daemon, "mtu_changed", tunnel="t")
        wait_for(
            lambda: f"mtu {1400 - overhead} " in inner.ip("link", "show", "dev", "t"), "the MTU"
        )
    finally:
        left.ip("link", "set", UNDERLAY, "mtu", "1500")
    assert daemon.stop() == 0
    assert interfaces(inner) == {"lo"}


def test_a_namespace_that_is_deleted_is_told_and_the_interface_made_again(
    lab: Lab, hosts: tuple[Host, Host], inner: Host, daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left, f"Namespace={inner.namespace}"))
    lab.ip("netns", "delete", inner.namespace)
    wait_for_event(daemon, "interface_deleted", tunnel="t")
    told = wait_for_event(daemon, "tunnel_down", tunnel="t")
    assert f"there is no network namespace {inner.namespace}" in told["detail"]
    lab.ip("netns", "add", inner.namespace)
    inner.ip("link", "set", "lo", "up")
    wait_for_event(daemon, "tunnel_up", tunnel="t", after=len(events(daemon)) - 2)
    assert crosses(inner)


def test_a_namespace_that_is_not_there_is_waited_for(
    lab: Lab, hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    daemon = daemons.start(hosts[0], tunnel(hosts[0], "Namespace=gred-later"))
    told = wait_for_event(daemon, "tunnel_down", tunnel="t", level="error")
    assert "there is no network namespace gred-later" in told["detail"]
    lab.ip("netns", "add", "gred-later")
    try:
        wait_for_event(daemon, "tunnel_up", tunnel="t")
    finally:
        lab.ip("netns", "delete", "gred-later")


def test_a_name_that_is_taken_in_the_namespace_is_told(
    hosts: tuple[Host, Host], inner: Host, daemons: Daemons
) -> None:
    inner.ip("link", "add", "name", "t", "type", "bridge")
    daemon = daemons.start(hosts[0], tunnel(hosts[0], f"Namespace={inner.namespace}"))
    told = wait_for_event(daemon, "tunnel_down", tunnel="t", level="error")
    assert f"cannot make interface t in network namespace {inner.namespace}" in told["detail"]
    assert not [name for name in interfaces(hosts[0]) if name.startswith("gred")]


def test_a_process_or_a_path_names_a_namespace_too(
    hosts: tuple[Host, Host], inner: Host, daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    path = Path("/run/netns") / inner.namespace
    daemon = daemons.start(left, tunnel(left, f"Namespace={path}"))
    assert crosses(inner)
    assert daemon.stop() == 0
    sleeper = inner.start(["sleep", "60"])
    daemons.start(left, tunnel(left, f"Namespace={sleeper.pid}"))
    assert crosses(inner)
