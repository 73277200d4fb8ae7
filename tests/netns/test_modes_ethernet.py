"""Mode=gretap between two hosts: Ethernet frames in the tunnel, over IPv4 and IPv6."""

import json
from collections.abc import Iterator

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from gred.lab.traffic import ping, transfer
from tests.netns.daemons import COMING_AND_GOING, Daemons, drops
from tests.netns.kinds import Kind

TAP = "Mode=gretap\n"
EVERYTHING = f"{TAP}Key=9\nChecksum=yes\nSerializeTunneledPackets=yes"


KINDS = [
    Kind("plain", TAP, overhead=38),
    Kind("keyed", TAP + "Key=42", overhead=42),
    Kind("every", EVERYTHING, overhead=50),
    Kind("slow", TAP + "Key=7\nOffload=no", overhead=42),
    Kind("plain6", TAP, underlay=1, overhead=58),
    Kind("every6", EVERYTHING, underlay=1, overhead=70),
    Kind("slow6", TAP + "Key=7\nOffload=no", underlay=1, overhead=62),
]
KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
VERSION = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture(scope="module")
def pair(
    hosts: tuple[Host, Host], lasting_daemons: Daemons
) -> Iterator[tuple[Host, Host, Daemon, Daemon]]:
    left, right = (
        lasting_daemons.start(host, "".join(kind.section(host.name) for kind in KINDS))
        for host in hosts
    )
    yield *hosts, left, right
    for daemon in (left, right):
        assert daemon.stop() == 0
        dropped = {key for key in drops(daemon) if key[1] not in COMING_AND_GOING}
        assert not dropped, "a frame that should have crossed was dropped"


Pair = tuple[Host, Host, Daemon, Daemon]


@KIND
@VERSION
def test_echoes_cross_both_ways(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    left, right, *_ = pair
    assert ping(left, there, source=here).received == 3
    assert ping(right, here, source=there).received == 3


@KIND
def test_the_interface_is_ethernet_with_its_mtu_and_address(pair: Pair, kind: Kind) -> None:
    (link,) = json.loads(pair[0].ip("-j", "link", "show", "dev", kind.name))
    assert link["link_type"] == "ether"
    assert link["mtu"] == 1500 - kind.overhead
    assert link["address"] == kind.mac(1)
    assert "NOARP" not in link["flags"]


@KIND
@VERSION
def test_a_packet_of_the_mtu_crosses_whole(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    size = 1500 - kind.overhead - (28 if version == 4 else 48)
    assert ping(pair[0], there, source=here, size=size, count=2).received == 2


@KIND
@VERSION
def test_a_stream_arrives_intact(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    left, right, *_ = pair
    assert transfer(left, right, there, source=here, size=1 << 20).intact
    assert transfer(right, left, here, source=there, size=1 << 20).intact
