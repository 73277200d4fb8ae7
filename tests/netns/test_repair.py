"""What somebody removes of an interface is put back: by a real kernel, with real ip(8).

Which twin moves the packets does not matter here: all runs once.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, events, wait_for, wait_for_event
from tests.netns.test_life import IDLE_S, wake_ups

LINK_LOCAL = "fe80::5efe:c000:201/64"
V4, V6, ROUTE4, ROUTE6 = "10.9.1.1/24", "2001:db8:9::1/64", "10.99.1.0/24", "2001:db8:99::/48"


def tunnel(options: str = "") -> str:
    return (
        f"[Tunnel t]\nLocal={LEFT[0]}\nRemote={RIGHT[0]}\n"
        f"Address={V4}, {V6}\nRoute={ROUTE4}, {ROUTE6}\n{options}\n"
    )


OTHER = (
    f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\n"
    "Address=10.9.1.2/24, 2001:db8:9::2/64, 10.99.1.1/32, 2001:db8:99::1/128\n"
)
THERE = ("10.9.1.2", "2001:db8:9::2", "10.99.1.1", "2001:db8:99::1")


@pytest.fixture(scope="module")
def implementation() -> str:
    return "c"


def lines(daemon: Daemon) -> int:
    return len(daemon.log().splitlines())


def repairs(daemon: Daemon) -> list[str]:
    return [str(event["detail"]) for event in events(daemon) if event["event"] == "repaired"]


def settings(host: Host, namespace: str | None = None) -> list[str]:
    """What the interface has, as ip(8) lists it, but for what time does to it."""
    inside = ("-n", namespace) if namespace else ()
    found = []
    for what in (["addr"], ["-4", "route"], ["-6", "route"], ["link"]):
        listed = json.loads(host.ip(*inside, "-j", *what, "show", "dev", "t") or "[]")
        for one in (own for link in listed for own in link.get("addr_info", [link])):
            kept = {"local", "prefixlen", "scope", "dst", "protocol", "prefsrc", "metric", "mtu"}
            found.append(json.dumps({key: one[key] for key in sorted(kept & one.keys())}))
    return sorted(found)


def pings_all(host: Host) -> bool:
    return all(ping(host, address, count=1, timeout=0.5).received == 1 for address in THERE)


MISCHIEF = {
    "addr flush dev t": ("addresses", V4, V6, LINK_LOCAL, "route", ROUTE4),
    "-4 addr flush dev t": ("address", V4, ROUTE4),
    "-6 addr flush dev t": ("addresses", V6, LINK_LOCAL),
    f"addr del {V4} dev t": ("address", V4, ROUTE4),
    f"addr del {V6} dev t": ("address", V6),
    f"addr del {LINK_LOCAL} dev t": ("address", LINK_LOCAL),
    f"-4 route del {ROUTE4} dev t": ("route", ROUTE4),
    f"-6 route del {ROUTE6} dev t": ("route", ROUTE6),
    "-4 route del 10.9.1.0/24 dev t": ("route", "10.9.1.0/24"),
    "-6 route del 2001:db8:9::/64 dev t": ("route", "2001:db8:9::/64"),
    "-4 route flush dev t": ("routes", ROUTE4, "10.9.1.0/24"),
    "-6 route flush dev t": ("routes", ROUTE6, "2001:db8:9::/64"),
    "link set dev t mtu 1300": ("the MTU was 1300, not 1476",),
    "link set dev t mtu 1000": ("the MTU was 1000, not 1476", V6, ROUTE6),
    f"addr change {V4} dev t valid_lft 1 preferred_lft 1": ("address", V4),
}


@pytest.mark.parametrize("what", MISCHIEF)
def test_what_is_removed_is_put_back_and_told_in_one_line(
    hosts: tuple[Host, Host], daemons: Daemons, what: str
) -> None:
    left, right = hosts
    daemons.start(right, OTHER)
    daemon = daemons.start(left, tunnel())
    wait_for(lambda: pings_all(left), "the tunnel works")
    before = settings(left)
    left.ip(*what.split())
    told = wait_for_event(daemon, "repaired", tunnel="t", level="warning")
    for word in (*MISCHIEF[what], "put back"):
        assert word in told["detail"]
    wait_for(lambda: settings(left) == before, "all is as it was")
    wait_for(lambda: pings_all(left), "the tunnel works again")
    assert len(repairs(daemon)) == 1
    assert not [event for event in events(daemon) if event["event"] == "tunnel_incomplete"]


def test_what_was_lost_while_it_was_down_comes_back_when_it_is_up(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, OTHER)
    daemon = daemons.start(left, tunnel())
    before = settings(left)
    left.ip("link", "set", "dev", "t", "down")
    wait_for_event(daemon, "tunnel_disabled", tunnel="t")
    left.ip("addr", "flush", "dev", "t")
    after = lines(daemon)
    left.ip("link", "set", "dev", "t", "up")
    told = wait_for_event(daemon, "repaired", tunnel="t", after=after)["detail"]
    assert V4 in told
    assert V6 in told
    assert wait_for_event(daemon, "tunnel_up", after=after)["after"] == "disabled"
    assert settings(left) == before
    wait_for(lambda: pings_all(left), "the tunnel works again")


def test_down_and_up_at_once_brings_all_back(
    hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path
) -> None:
    left, right = hosts
    daemons.start(right, OTHER)
    daemon = daemons.start(left, tunnel())
    before = settings(left)
    flap = tmp_path / "flap"
    flap.write_text("link set dev t down\nlink set dev t up\n")
    left.ip("-batch", str(flap))
    wait_for_event(daemon, "repaired", tunnel="t")
    wait_for(lambda: settings(left) == before, "all is as it was")
    wait_for(lambda: pings_all(left), "the tunnel works again")


def test_what_somebody_added_stays(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, _right = hosts
    daemon = daemons.start(left, tunnel())
    for address in ("10.7.7.7/24", "10.9.1.77/24", "2001:db8:77::1/64"):
        left.address(address, "t")
    left.ip("route", "add", "172.16.0.0/16", "dev", "t", "metric", "7")
    before = settings(left)
    left.ip("route", "del", ROUTE4, "dev", "t")
    left.ip("addr", "del", V6, "dev", "t")
    wait_for(lambda: settings(left) == before, "all is as it was")
    assert repairs(daemon)


def test_with_repair_switched_off_it_is_only_told(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, tunnel("Repair=no"))
    left.ip("addr", "del", V6, "dev", "t")
    told = wait_for_event(daemon, "tunnel_incomplete", tunnel="t")["detail"]
    assert told == f"address {V6} is missing"
    left.ip("route", "del", ROUTE4, "dev", "t")
    more = f"address {V6} is missing, route {ROUTE4} is missing"
    wait_for_event(daemon, "tunnel_incomplete", detail=more)
    assert V6 not in left.ip("addr", "show", "dev", "t")
    assert not repairs(daemon)


def test_a_route_that_is_led_elsewhere_is_left_there_and_told(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, tunnel())
    left.ip("route", "replace", ROUTE4, "dev", "under0")
    told = wait_for_event(daemon, "tunnel_incomplete", tunnel="t")["detail"]
    assert told.startswith(f"route {ROUTE4} is missing: cannot add route {ROUTE4}: File exists")
    after = lines(daemon)
    left.ip("route", "del", ROUTE4, "dev", "under0")
    wait_for_event(daemon, "tunnel_up", after=after)
    assert ROUTE4 in left.ip("route", "show", "dev", "t")


def test_ipv6_switched_off_is_told_and_comes_back_when_it_is_on(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, OTHER)
    daemon = daemons.start(left, tunnel())
    before = settings(left)
    left.sysctl("net.ipv6.conf.t.disable_ipv6", "1")
    told = wait_for_event(daemon, "tunnel_incomplete", tunnel="t")["detail"]
    assert "IPv6 is disabled" in told
    assert "disable_ipv6=0" in told
    after = lines(daemon)
    left.sysctl("net.ipv6.conf.t.disable_ipv6", "0")
    wait_for_event(daemon, "tunnel_up", after=after)
    assert settings(left) == before
    wait_for(lambda: pings_all(left), "the tunnel works again")


def test_who_removes_again_and_again_is_met_more_seldom_and_asked_about(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, tunnel())

    def remove() -> bool:
        if ROUTE4 in left.ip("route", "show", "dev", "t"):
            left.ip("route", "del", ROUTE4, "dev", "t")
        return any(event["event"] == "tunnel_incomplete" for event in events(daemon))

    wait_for(remove, "gred does not answer at once any more")
    told = wait_for_event(daemon, "tunnel_incomplete", tunnel="t")["detail"]
    assert told.startswith(f"route {ROUTE4} is missing: removed 5 times in ")
    assert "is another network manager configuring t?" in told
    assert len(repairs(daemon)) == 4
    wait_for(lambda: len(repairs(daemon)) == 5, "it is put back all the same")
    wait_for_event(daemon, "tunnel_up", after=1 + next(_of(daemon, "tunnel_incomplete")))
    assert ROUTE4 in left.ip("route", "show", "dev", "t")


def _of(daemon: Daemon, name: str) -> Iterator[int]:
    return (number for number, event in enumerate(events(daemon)) if event["event"] == name)


def sleeps(daemon: Daemon) -> bool:
    before = wake_ups(daemon)
    time.sleep(IDLE_S)  # the window is what is measured; nothing is waited for
    return wake_ups(daemon) == before


def test_in_another_namespace_it_is_noticed_too(
    lab: Lab, hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    inner = lab.host("inner")
    daemon = daemons.start(left, tunnel(f"Namespace={inner.namespace}"))
    before = settings(inner)
    wait_for(lambda: sleeps(daemon), "nothing else wakes it")
    inner.ip("addr", "flush", "dev", "t")
    wait_for_event(daemon, "repaired", tunnel="t")
    wait_for(lambda: settings(inner) == before, "all is as it was")


def test_the_mac_address_of_an_ethernet_tunnel_is_put_back(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, tunnel("Mode=gretap\nMACAddress=02:00:00:00:00:07"))
    left.ip("link", "set", "dev", "t", "address", "02:00:00:00:00:09")
    told = wait_for_event(daemon, "repaired", tunnel="t")["detail"]
    assert told == ("the MAC address was 02:00:00:00:00:09, not 02:00:00:00:00:07: put back")
    assert "02:00:00:00:00:07" in left.ip("link", "show", "t")


def test_a_repair_makes_no_other_and_lets_it_sleep(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """The kernel tells gred of its own repair, too."""
    left, _right = hosts
    daemon = daemons.start(left, tunnel())
    left.ip("addr", "flush", "dev", "t")
    wait_for_event(daemon, "repaired")

    wait_for(lambda: sleeps(daemon), "nothing wakes it")
    assert len(repairs(daemon)) == 1
