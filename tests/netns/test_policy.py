"""What the kernel decides about outer packets: routing rules, IPsec, loops, addresses left open."""

import pytest

from gred.lab.hosts import Host
from gred.lab.traffic import broadcast, multicast, ping, transfer
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, wait_for, wait_for_event

# Packets are counted one by one, and interfaces with IPv6 send some of their own.
pytestmark = pytest.mark.usefixtures("silence")

TIMES = 3
UNDERLAY = pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])


def tunnel(host: Host, options: str = "", *, ends: str = "", underlay: int = 0) -> str:
    """Return the section of tunnel t on *host*. *underlay*: 0 for IPv4, 1 for IPv6."""
    (local, remote), own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    ends = ends or f"Local={local[underlay]}\nRemote={remote[underlay]}\n"
    return f"[Tunnel t]\n{ends}Address=10.9.1.{own}/24\n{options}\n"


def lost_echoes(left: Host) -> bool:
    return ping(left, "10.9.1.2", count=TIMES, timeout=0.1).received == 0


@UNDERLAY
def test_a_routing_rule_for_gre_is_obeyed(
    hosts: tuple[Host, Host], daemons: Daemons, underlay: int
) -> None:
    """With IP_HDRINCL gred's packets would be routed as protocol 255, past the rule."""
    left, right = hosts
    daemons.start(right, tunnel(right, underlay=underlay))
    daemon = daemons.start(left, tunnel(left, underlay=underlay))
    family = ("-4", "-6")[underlay]
    rule = ("ipproto", "47", "pref", "100", "unreachable")
    left.ip(family, "rule", "add", *rule)
    try:
        assert lost_echoes(left)
    finally:
        left.ip(family, "rule", "del", *rule)
    assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_no_route"): TIMES}


@UNDERLAY
def test_an_ipsec_policy_for_gre_is_obeyed(
    hosts: tuple[Host, Host], daemons: Daemons, underlay: int
) -> None:
    """Else what should be encrypted would leave in clear text."""
    left, right = hosts
    daemons.start(right, tunnel(right, underlay=underlay))
    daemon = daemons.start(left, tunnel(left, underlay=underlay))
    selector = ("src", LEFT[underlay], "dst", RIGHT[underlay], "proto", "47", "dir", "out")
    left.ip("xfrm", "policy", "add", *selector, "action", "block")
    try:
        assert lost_echoes(left)
    finally:
        left.ip("xfrm", "policy", "delete", *selector)
    assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_denied"): TIMES}


def test_a_full_queue_is_a_tail_drop(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = hosts
    tc = require.program("tc", package="iproute2")
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    qdisc = (tc, "-n", left.namespace, "qdisc")
    # Room for one packet now, and for the next in a minute.
    limit = ("rate", "8bit", "burst", "1600", "limit", "1")
    daemons.lab.run([*qdisc, "add", "dev", "under0", "root", "tbf", *limit])
    try:
        ping(left, "10.9.1.2", count=TIMES, size=1400, timeout=0.1)
    finally:
        daemons.lab.run([*qdisc, "del", "dev", "under0", "root"])
    assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    assert set(drops(daemon)) == {("t", "tx_no_bufs")}


def test_above_the_path_mtu_is_too_big(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    """An MTU that somebody configured too large. The sender is told, and makes smaller packets."""
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left, "MTUBytes=1600"))
    assert ping(left, "10.9.1.2", count=1, size=1550, timeout=0.1).received == 0
    assert ping(left, "10.9.1.2", size=1550).received == 3
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_too_big"): 1}


def test_it_fragments_outside_what_may_be_fragmented(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Without path MTU discovery the outer Don't Fragment is the inner one, as the kernel does."""
    left, right = hosts
    daemons.start(right, tunnel(right, "MTUBytes=1600\nDiscoverPathMTU=no"))
    daemon = daemons.start(left, tunnel(left, "MTUBytes=1600\nDiscoverPathMTU=no"))
    received = right.statistics("t")["rx_packets"]
    ping(left, "10.9.1.2", size=1550, count=TIMES, fragmentable=True, timeout=0.1)
    assert right.statistics("t")["rx_packets"] == received + TIMES
    assert ping(left, "10.9.1.2", size=1550, count=1, timeout=0.1).received == 0
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_too_big"): 1}


def test_tunnels_routed_into_each_other_are_stopped_at_start(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    ring = f"[Tunnel u]\nRemote=198.51.100.9\nRoute={RIGHT[0]}/32\nRepair=no\n"
    daemon = daemons.start(left, tunnel(left, "Route=198.51.100.0/24") + ring)
    wait_for_event(daemon, "tunnel_loop", tunnel="t", level="warning")
    assert lost_echoes(left)
    left.ip("route", "del", f"{RIGHT[0]}/32", "dev", "u")
    wait_for_event(daemon, "tunnel_up", tunnel="t")
    assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_dead_loop"): TIMES}


def test_a_remote_routed_into_its_tunnel_later_is_stopped_and_recovers(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    assert ping(left, "10.9.1.2").received == 3
    for _ in range(2):
        left.ip("route", "add", f"{RIGHT[0]}/32", "dev", "t")
        said = len(daemon.log().splitlines())
        wait_for(lambda: "tunnel_loop" in last(daemon.log()), "the loop is noticed")
        assert lost_echoes(left)
        left.ip("route", "del", f"{RIGHT[0]}/32", "dev", "t")
        wait_for_event(daemon, "tunnel_up", tunnel="t", after=said)
        assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    told = [line for line in daemon.log().splitlines() if '"tunnel_loop"' in line]
    assert len(told) == 2, "once each time"
    assert drops(daemon)["t", "tx_dead_loop"] >= 2 * TIMES


def last(log: str) -> str:
    """Return the last line about the state of a tunnel."""
    return ([line for line in log.splitlines() if '"event": "tunnel_' in line] or [""])[-1]


@UNDERLAY
def test_any_local_follows_the_route(
    hosts: tuple[Host, Host], daemons: Daemons, underlay: int
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right, ends=f"Remote={LEFT[underlay]}\n"))
    daemons.start(left, tunnel(left, ends=f"Remote={RIGHT[underlay]}\n"))
    assert ping(left, "10.9.1.2").received == 3
    assert ping(right, "10.9.1.1").received == 3


def test_any_remote_receives_and_counts_what_it_cannot_send(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemon = daemons.start(right, tunnel(right, ends=f"Local={RIGHT[0]}\n"))
    daemons.start(left, tunnel(left))
    assert multicast(left, right, "t", count=3).received == 3
    assert broadcast(left, right, "t", count=3).received == 3
    before = right.statistics("t")["rx_packets"]
    assert ping(left, "10.9.1.2", count=TIMES, timeout=0.1).received == 0
    assert right.statistics("t")["rx_packets"] == before + TIMES
    assert daemon.stop() == 0
    # the three replies, and what tells of the group that was joined
    assert drops(daemon)["t", "tx_no_remote"] >= TIMES


def test_two_tunnels_between_two_hosts_by_their_keys(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """The remote of one is found by both its addresses, that of the other by the key alone."""
    left, right = hosts
    both = "[Tunnel u]\nLocal={}\nRemote={}\nKey=0.0.1.44\nAddress=10.9.2.{}/24\n"
    daemons.start(left, tunnel(left, "Key=7") + both.format(LEFT[0], RIGHT[0], 1))
    daemons.start(right, tunnel(right, "Key=7") + both.format(RIGHT[0], LEFT[0], 2))
    for number in (1, 2):
        assert ping(left, f"10.9.{number}.2").received == 3
        assert transfer(left, right, f"10.9.{number}.2", size=100_000).intact
