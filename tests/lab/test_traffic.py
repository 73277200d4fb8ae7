"""The laboratory's traffic, over a plain wire."""

import pytest

from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import broadcast, multicast, ping, transfer


@pytest.mark.parametrize(
    ("source", "destination"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
)
@pytest.mark.parametrize("size", [0, 1, 57, 1400])
def test_every_echo_comes_back(
    hosts: tuple[Host, Host], source: str, destination: str, size: int
) -> None:
    result = ping(hosts[0], destination, source=source, size=size, count=4, timeout=10.0)
    assert (result.sent, result.received) == (4, 4)
    assert all(seconds > 0 for seconds in result.round_trips)


def test_an_echo_to_nobody_is_lost_not_raised(hosts: tuple[Host, Host]) -> None:
    assert ping(hosts[0], "10.0.0.3", count=2, timeout=0.1).received == 0


def test_an_echo_without_a_route_is_lost_not_raised(hosts: tuple[Host, Host]) -> None:
    result = ping(hosts[0], "192.0.2.1", count=2, timeout=0.1)
    assert (result.sent, result.received) == (2, 0)


def test_a_group_gets_every_datagram(hosts: tuple[Host, Host]) -> None:
    result = multicast(hosts[0], hosts[1], UNDERLAY, count=5)
    assert (result.sent, result.received) == (5, 5)


def test_everybody_gets_a_broadcast(hosts: tuple[Host, Host]) -> None:
    result = broadcast(hosts[0], hosts[1], UNDERLAY, count=5)
    assert (result.sent, result.received) == (5, 5)


@pytest.mark.parametrize("destination", ["10.0.0.2", "fd00::2"])
def test_a_transfer_arrives_intact(hosts: tuple[Host, Host], destination: str) -> None:
    result = transfer(hosts[0], hosts[1], destination, size=300_001)
    assert result.sent == 300_001
    assert result.intact


def test_a_transfer_to_nobody_is_not_intact(hosts: tuple[Host, Host]) -> None:
    left, right = hosts
    right.address("10.0.9.9/32", "lo")  # left has no route to it
    result = transfer(left, right, "10.0.9.9", size=10, timeout=0.2)
    assert not result.intact
    assert result.received == 0
