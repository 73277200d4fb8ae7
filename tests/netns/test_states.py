"""States that tell the truth: what somebody did to the interface, what this host refuses."""

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, events, wait_for, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.nft import nft

TUNNEL = (
    f"[Tunnel t]\nLocal={LEFT[0]}\nRemote={RIGHT[0]}\n"
    "Address=10.9.1.1/24, 2001:db8:9::1/64\nRoute=10.99.1.0/24, 2001:db8:99::/48\n"
)
OTHER = f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\nAddress=10.9.1.2/24\n"


def lines(daemon: Daemon) -> int:
    return len(daemon.log().splitlines())


def state_lines(daemon: Daemon) -> list[str]:
    names = [str(event["event"]) for event in events(daemon)]
    return [name for name in names if name.startswith("tunnel_")]


def test_an_interface_set_down_is_disabled_and_then_lacks_what_the_kernel_took_away(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, TUNNEL + "Repair=no\n")
    left.ip("link", "set", "dev", "t", "down")
    assert "set down" in wait_for_event(daemon, "tunnel_disabled", tunnel="t")["detail"]
    left.ip("link", "set", "dev", "t", "up")
    detail = wait_for_event(daemon, "tunnel_incomplete", tunnel="t")["detail"]
    assert "10.99.1.0/24" in detail
    assert "2001:db8:9::1/64" in detail
    before = lines(daemon)
    left.ip("route", "add", "10.99.1.0/24", "dev", "t")  # by hand: of another origin
    for address in ("2001:db8:9::1/64", "fe80::5efe:c000:201/64"):
        left.address(address, "t")
    left.ip("-6", "route", "add", "2001:db8:99::/48", "dev", "t")
    assert wait_for_event(daemon, "tunnel_up", after=before)["after"] == "incomplete"


@pytest.mark.parametrize("how", ["firewall", "policy"])
def test_what_this_host_refuses_is_denied_until_a_packet_passes(
    hosts: tuple[Host, Host], daemons: Daemons, how: str
) -> None:
    left, right = hosts
    daemons.start(right, OTHER)
    daemon = daemons.start(left, TUNNEL)
    assert ping(left, "10.9.1.2").received == 3
    selector = ("src", LEFT[0], "dst", RIGHT[0], "proto", "47", "dir", "out")
    if how == "firewall":
        nft(
            left,
            "add table ip deny",
            "add chain ip deny out { type filter hook output priority 0; }",
            "add rule ip deny out ip protocol gre drop",
        )
    else:
        left.ip("xfrm", "policy", "add", *selector, "action", "block")

    def denied() -> bool:
        ping(left, "10.9.1.2", count=5, timeout=0.1)
        return "tunnel_denied" in state_lines(daemon)

    try:
        wait_for(denied, "every packet is denied")
        said = wait_for_event(daemon, "tunnel_denied")["detail"]
        who = {"firewall": "a firewall", "policy": "an IPsec policy"}[how]
        assert said == f"{who} of this host refuses every outer packet (EPERM)"
    finally:
        if how == "firewall":
            nft(left, "delete table ip deny")
        else:
            left.ip("xfrm", "policy", "delete", *selector)
    before = lines(daemon)
    assert ping(left, "10.9.1.2").received == 3
    assert wait_for_event(daemon, "tunnel_up", after=before)["after"] == "denied"
    assert state_lines(daemon) == ["tunnel_up", "tunnel_denied", "tunnel_up"]


def test_a_configuration_without_tunnels_says_so(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    daemon = daemons.start(hosts[0], "# nothing\n")
    event = wait_for_event(daemon, "no_tunnels", level="warning")
    assert event["detail"].startswith("no tunnels configured in /")
