"""The demonstration's traffic and capture, over a plain wire."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gred.management.demo_capture import Capture
from gred.management.demo_traffic import broadcast, multicast, ping, transfer
from gred.management.lab import UNDERLAY, Host, Lab
from tests import require


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab("traffic") as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.wire(left, right)
        for host, number in ((left, 1), (right, 2)):
            host.address(f"10.0.0.{number}/24")
            host.address(f"fd00::{number}/64")
        yield left, right


@pytest.mark.parametrize(
    ("source", "destination"), [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]
)
@pytest.mark.parametrize("size", [0, 1, 57, 1400])
def test_every_echo_comes_back(
    hosts: tuple[Host, Host], source: str, destination: str, size: int
) -> None:
    result = ping(hosts[0], destination, source=source, size=size, count=4)
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


def test_a_capture_is_a_pcap_of_what_crossed(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    scapy = pytest.importorskip("scapy.all")
    left, _right = hosts
    with Capture(left, UNDERLAY, tmp_path / "wire.pcap") as capture:
        ping(left, "10.0.0.2", count=3, size=100)
    packets = scapy.rdpcap(str(tmp_path / "wire.pcap"))
    assert len(packets) == capture.packets
    assert capture.missed == 0
    assert [p[scapy.ICMP].type for p in packets if scapy.ICMP in p] == [8, 0] * 3
    stamps = [p.time for p in packets]
    assert stamps == sorted(stamps)


def test_a_capture_to_nowhere_is_an_error_at_once(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Capture(hosts[0], UNDERLAY, tmp_path / "no" / "file"):
        pass
