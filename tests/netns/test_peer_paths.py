"""A hub with two spokes, one behind a narrow path: what is known of one is not of the other."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from gred.wire.gre import GreHeader
from tests.netns.daemons import Daemons, drops, events, wait_for, wait_for_event
from tests.netns.path import LEFT, NARROW, RIGHT, Path, build
from tests.netns.test_forged_errors import (
    UNDERLAYS,
    gre,
    outer,
    route_mtu,
    told,
    too_big,
    unreachable,
)
from tests.netns.test_refusals import Sender

ASIDE = ("203.0.113.129", "2001:db8:4::1")
OVERHEAD = (24, 44)
WHOLE = 1500


@pytest.fixture(scope="module")
def star(lab: Lab) -> tuple[Path, Host]:
    """The path from left to right, and one more host beside the router that is near to left."""
    path = build(lab)
    near, aside = path.routers[0], lab.host("aside")
    lab.wire(near, aside, device="sidewards")
    for address in ("203.0.113.254/25", "2001:db8:4::fe/64"):
        near.address(address, "sidewards")
    for address, gateway in (("/25", "203.0.113.254"), ("/64", "2001:db8:4::fe")):
        aside.address(ASIDE[address == "/64"] + address, "sidewards")
        aside.ip("route", "add", "default", "via", gateway)
    return path, aside


@pytest.fixture
def path(star: tuple[Path, Host]) -> Iterator[Path]:
    yield star[0]
    star[0].narrow(NARROW)
    star[0].forget()


@pytest.fixture
def aside(star: tuple[Path, Host]) -> Host:
    return star[1]


@pytest.fixture
def forger(path: Path) -> Iterator[Sender]:
    path.narrow(WHOLE)
    with closing(Sender(path.routers[1])) as sender:
        yield sender


def spoke(local: str, number: int, underlay: int, options: str) -> str:
    mtu = WHOLE - OVERHEAD[underlay] - (4 if "Key" in options else 0)
    return (
        f"[Tunnel t]\nLocal={local}\nRemote={LEFT[underlay]}\nMTUBytes={mtu}\n"
        f"Address=10.9.1.{number}/24\n{options}\n"
    )


def start(
    path: Path,
    aside: Host,
    daemons: Daemons,
    underlay: int,
    options: str = "",
    peers: str = "",
    local: str | None = None,
) -> Daemon:
    """Start the spokes, then the hub, which is left; return that."""
    daemons.start(path.right, spoke(RIGHT[underlay], 2, underlay, options))
    daemons.start(aside, spoke(ASIDE[underlay], 3, underlay, options))
    two, three = f"10.9.1.2@{RIGHT[underlay]}", f"10.9.1.3@{ASIDE[underlay]}"
    peers = peers or f"Peers={two}, {three}"
    return daemons.start(
        path.left,
        f"[Tunnel t]\nLocal={local or LEFT[underlay]}\nAddress=10.9.1.1/24\n{peers}\n{options}\n",
    )


def remotes(daemon: Daemon) -> set[object]:
    return {event["remote"] for event in events(daemon) if event["event"] == "path_mtu_changed"}


@pytest.mark.parametrize(
    ("underlay", "options"), [(0, ""), (1, "Key=7")], ids=["ipv4-plain", "ipv6-key"]
)
def test_packets_to_the_narrow_spoke_are_cut_and_answered_and_others_pass(
    path: Path, aside: Host, daemons: Daemons, underlay: int, options: str
) -> None:
    left = start(path, aside, daemons, underlay, options)
    ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2)  # teaches
    event = wait_for_event(left, "path_mtu_changed", path_mtu=NARROW)
    assert event["remote"] == RIGHT[underlay]
    room = NARROW - OVERHEAD[underlay] - (4 if options else 0)
    # The spoke learns, too, when it answers; what left before it did is lost.
    ping(path.left, "10.9.1.2", size=1400, count=2, timeout=0.2, fragmentable=True)
    assert ping(path.left, "10.9.1.2", size=1400, fragmentable=True).received == 3
    assert ping(path.left, "10.9.1.3", size=1400).received == 3
    # The interface is as wide as before: it takes the packet, and the sender is answered.
    assert ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2).received == 0
    wide = path.left.ip("link", "show", "dev", "t")
    assert f"mtu {WHOLE - OVERHEAD[underlay] - (4 if options else 0)} " in wide
    known = path.left.ip("route", "get", "10.9.1.2")
    assert f"mtu {room}" in known, "the sender has been told the path of its destination"
    assert "mtu" not in path.left.ip("route", "get", "10.9.1.3")
    assert remotes(left) == {RIGHT[underlay]}
    left.stop()
    assert drops(left)["t", "tx_too_big"] >= 1
    assert set(drops(left)) == {("t", "tx_too_big")}


@UNDERLAYS
def test_who_does_not_know_the_key_lowers_the_path_to_no_spoke(
    path: Path, aside: Host, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    left = start(path, aside, daemons, underlay, "Key=7")
    little = (600, 1280)[underlay]
    assert ping(path.left, "10.9.1.2", size=1400).received == 3, "there is something to refuse"
    for key in (None, 8):
        header = GreHeader(protocol_type=0x0800, key=key)
        forger.send(too_big(underlay, little, outer(underlay, gre(header), WHOLE, 47)), 5)
    right = gre(GreHeader(protocol_type=0x0800, key=7))
    elsewhere = outer(underlay, right, WHOLE, 47)
    elsewhere.dst = ("192.0.2.77", "2001:db8:1::77")[underlay]  # no remote of the hub
    forger.send(too_big(underlay, little, elsewhere))
    forger.send(unreachable(underlay, outer(underlay, right, WHOLE, 47)), 50)
    # The last in line is a true one: by then all others have been looked at.
    forger.send(too_big(underlay, 1400, outer(underlay, right, WHOLE, 47)))
    event = wait_for_event(left, "path_mtu_changed", path_mtu=1400)
    assert event["remote"] == RIGHT[underlay]
    assert told(events(left)) == [1400]
    assert not [e for e in events(left) if e["event"] == "tunnel_refused"]
    assert underlay == 1 or route_mtu(path.left, underlay) is None, "the kernel learned nothing"
    assert ping(path.left, "10.9.1.2", size=1300).received == 3
    assert ping(path.left, "10.9.1.3", size=1400).received == 3


@UNDERLAYS
def test_without_a_key_one_message_lowers_little_and_of_one_spoke(
    path: Path, aside: Host, daemons: Daemons, forger: Sender, underlay: int
) -> None:
    left = start(path, aside, daemons, underlay)
    quoted = outer(underlay, gre(GreHeader(protocol_type=0x0800)), WHOLE, 47)
    forger.send(too_big(underlay, 1400, quoted), 10)
    wait_for_event(left, "icmp_error_ignored", count=10)
    assert ping(path.left, "10.9.1.3", size=1400).received == 3
    forger.send(too_big(underlay, 1400, quoted), 90)  # large ones went elsewhere
    wait_for_event(left, "icmp_error_ignored", count=100)
    assert told(events(left)) == []
    assert ping(path.left, "10.9.1.2", size=1400).received == 3
    forger.send(too_big(underlay, (600, 1280)[underlay], quoted), 50)
    wait_for_event(left, "path_mtu_changed", path_mtu=1280)
    assert ping(path.left, "10.9.1.2", size=1100).received == 3
    assert ping(path.left, "10.9.1.3", size=1400).received == 3
    assert told(events(left)) == [1280]
    assert remotes(left) == {RIGHT[underlay]}


def test_a_learned_remote_has_a_path_of_its_own(path: Path, aside: Host, daemons: Daemons) -> None:
    left = start(path, aside, daemons, 0, "Key=7", peers="LearnPeers=yes")
    for host, number in ((path.right, 2), (aside, 3)):
        assert ping(host, "10.9.1.1", count=1).received == 1
        wait_for_event(left, "peer_learned", inner=f"10.9.1.{number}")
    ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2)
    event = wait_for_event(left, "path_mtu_changed", path_mtu=NARROW)
    assert event["remote"] == RIGHT[0]
    ping(path.left, "10.9.1.2", size=1400, count=2, timeout=0.2, fragmentable=True)
    assert ping(path.left, "10.9.1.2", size=1400, fragmentable=True).received == 3
    assert ping(path.left, "10.9.1.3", size=1400).received == 3


def test_what_is_known_of_a_path_is_forgotten(path: Path, aside: Host, daemons: Daemons) -> None:
    path.left.sysctl("net.ipv4.route.mtu_expires", "2")
    try:
        left = start(path, aside, daemons, 0)
        ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2)
        wait_for_event(left, "path_mtu_changed", path_mtu=NARROW)
        path.narrow(WHOLE)
        wait_for_event(left, "path_mtu_changed", path_mtu=WHOLE, before=NARROW)
        assert ping(path.left, "10.9.1.2", size=1400).received == 3
    finally:
        path.left.sysctl("net.ipv4.route.mtu_expires", "600")


GATEWAYS = ("192.0.2.254", "2001:db8:1::fe")


@UNDERLAYS
@pytest.mark.parametrize("local", ["address", "any"])
@pytest.mark.parametrize("lock", [False, True], ids=["mtu", "locked"])
def test_the_mtu_of_a_route_counts_for_the_remote_that_it_leads_to(
    path: Path, aside: Host, daemons: Daemons, underlay: int, local: str, lock: bool
) -> None:
    path.narrow(WHOLE)
    version = ("-4", "-6")[underlay]
    to_right = (f"{RIGHT[underlay]}/{(32, 128)[underlay]}", "via", GATEWAYS[underlay])
    metric = ("mtu", "lock", "1400") if lock else ("mtu", "1400")
    left = start(path, aside, daemons, underlay, local="any" if local == "any" else None)
    try:
        path.left.ip(version, "route", "add", *to_right, *metric)
        event = wait_for_event(left, "route_mtus_changed", tunnel="t")
        assert event["remotes"] == 1
        # Whoever must not be cut is told, and the others' packets pass whole.
        wide = 1400 - OVERHEAD[underlay] - 28
        assert ping(path.left, "10.9.1.2", size=wide, count=1).received == 1
        assert ping(path.left, "10.9.1.2", size=wide + 1, count=1, timeout=0.2).received == 0
        assert f"mtu {1400 - OVERHEAD[underlay]}" in path.left.ip("route", "get", "10.9.1.2")
        assert ping(path.left, "10.9.1.2", size=1400, fragmentable=True).received == 3
        assert ping(path.left, "10.9.1.3", size=1400).received == 3
        known = len(events(left))
        path.left.ip(version, "route", "del", *to_right)
        wait_for_event(left, "route_mtus_changed", tunnel="t", remotes=0, after=known)
        path.left.ip("route", "flush", "cache")
        assert ping(path.left, "10.9.1.2", size=1400).received == 3
    finally:
        path.left.ip(version, "route", "flush", "exact", to_right[0])
    left.stop()
    assert set(drops(left)) == {("t", "tx_too_big")}


def test_a_learned_remote_obeys_the_mtu_of_its_route(
    path: Path, aside: Host, daemons: Daemons
) -> None:
    path.narrow(WHOLE)
    path.left.ip("route", "add", "198.51.100.0/25", "via", GATEWAYS[0], "mtu", "1400")
    try:
        left = start(path, aside, daemons, 0, "Key=7", peers="LearnPeers=yes")
        for host, number in ((path.right, 2), (aside, 3)):
            assert ping(host, "10.9.1.1", count=1).received == 1
            wait_for_event(left, "peer_learned", inner=f"10.9.1.{number}")
        wait_for(
            lambda: ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2).received == 0,
            "packets obey the route",
        )
        assert "mtu 1372" in path.left.ip("route", "get", "10.9.1.2")
        assert ping(path.left, "10.9.1.3", size=1400).received == 3
    finally:
        path.left.ip("route", "del", "198.51.100.0/25")
