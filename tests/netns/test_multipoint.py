"""One tunnel, many remotes: by the configuration, and learned from what arrives."""

import pytest

from gred.management.demo_traffic import ping
from gred.management.lab import Host
from tests.netns.daemons import Daemons, drops, events, wait_for

HUB = "[Tunnel hub]\nLocal=192.0.2.1\nKey=7\nAddress=10.7.0.1/16, fd07::1/64\n"
# Two ends on one host, told apart by their outer addresses.
SPOKES = """
[Tunnel near]
Local=192.0.2.2
Remote=192.0.2.1
Key=7
Address=10.7.0.2/32, fd07::2/128
Route=10.7.0.1/32, fd07::1/128

[Tunnel far]
Local=192.0.2.3
Remote=192.0.2.1
Key=7
Address=10.7.3.1/32
"""
PEERS = "Peers=10.7.0.2@192.0.2.2, 10.7.3.0/24@192.0.2.3, fd07::2@192.0.2.2\n"


@pytest.fixture(scope="module")
def spokes(hosts: tuple[Host, Host]) -> tuple[Host, Host]:
    hosts[1].address("192.0.2.3/24")
    return hosts


def test_each_inner_address_is_sent_to_its_own_remote(
    spokes: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = spokes
    hub = daemons.start(left, HUB + PEERS)
    spoke = daemons.start(right, SPOKES)
    for here, there in (("10.7.0.1", "10.7.0.2"), ("fd07::1", "fd07::2")):
        assert ping(left, there, source=here, count=3).received == 3
    # What goes to 10.7.3.0/24 arrives at the other end of the same host.
    ping(left, "10.7.3.1", source="10.7.0.1", count=1)
    ping(left, "10.7.9.9", source="10.7.0.1", count=1)  # behind nobody
    hub.stop()
    spoke.stop()
    assert drops(hub)["hub", "tx_no_remote"] >= 1
    assert not [key for key in drops(spoke) if key[1].startswith("rx_")]


def test_what_arrives_teaches_where_to_answer(spokes: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = spokes
    hub = daemons.start(left, HUB + "LearnPeers=yes\n")
    daemons.start(right, SPOKES)
    assert ping(left, "10.7.0.2", source="10.7.0.1", count=1).received == 0
    assert ping(right, "10.7.0.1", source="10.7.0.2", count=3).received == 3
    assert ping(left, "10.7.0.2", source="10.7.0.1", count=3).received == 3

    def learned() -> list[tuple[str, str]]:
        return [
            (event["inner"], event["remote"])
            for event in events(hub)
            if event["event"] == "peer_learned"
        ]

    wait_for(lambda: ("10.7.0.2", "192.0.2.2") in learned(), "the hub to tell what it learned")


def group(own: str, number: int) -> str:
    address = f"10.8.0.{number}/24"
    return f"[Tunnel group]\nLocal={own}\nRemote=239.47.1.1\nKey=9\nAddress={address}\nTTL=1\n"


def test_a_group_as_remote_reaches_its_members_and_not_ourselves(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = (
        daemons.start(host, group(f"192.0.2.{number}", number))
        for number, host in enumerate(hosts, start=1)
    )
    assert ping(hosts[0], "10.8.0.2", source="10.8.0.1", count=3).received == 3
    assert ping(hosts[1], "10.8.0.1", source="10.8.0.2", count=3).received == 3
    for daemon in (left, right):
        daemon.stop()
        assert not drops(daemon)
        assert not [e for e in events(daemon) if e["event"] in {"tunnel_no_route", "tunnel_loop"}]
