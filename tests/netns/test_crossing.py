"""What crosses tunnels of every kind, all of them at once in one pair of daemons."""

from collections.abc import Iterator

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from gred.lab.traffic import broadcast, multicast, ping, transfer
from tests.netns.daemons import COMING_AND_GOING, Daemons, drops, wait_for
from tests.netns.kinds import Kind

ALL = "Checksum=yes\nSerializeTunneledPackets=yes\n"
KINDS = [
    Kind("plain"),
    Kind("keyed", "Key=42", overhead=28),
    Kind("keys", left="InputKey=7\nOutputKey=8", right="InputKey=8\nOutputKey=7", overhead=28),
    Kind("quad", left="Key=0.0.1.44", right="Key=300", overhead=28),
    Kind("sums", "Key=1\nChecksum=yes", overhead=32),
    Kind("numbers", "Key=2\nSerializeTunneledPackets=yes", overhead=32),
    Kind("every", ALL, "InputKey=3\nOutputKey=4", "InputKey=4\nOutputKey=3", overhead=36),
    Kind("inherit", "Key=5\nTTL=inherit\nTOS=inherit\nDiscoverPathMTU=no", overhead=28),
    Kind("slow", "Key=6\nOffload=no", overhead=28),
    Kind("slowevery", ALL + "Key=9\nOffload=no", overhead=36),
    Kind("plain6", underlay=1, overhead=44),
    Kind("every6", ALL + "Key=1", underlay=1, overhead=56),
    Kind("slow6", "Offload=no\nKey=2", underlay=1, overhead=48),
]
KIND = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(scope="module")
def pair(
    hosts: tuple[Host, Host], lasting_daemons: Daemons
) -> Iterator[tuple[Host, Host, Daemon, Daemon]]:
    left, right = (
        lasting_daemons.start(host, "".join(kind.section(host.name) for kind in KINDS))
        for host in hosts
    )
    yield *hosts, left, right
    left.check()
    right.check()
    for daemon in (left, right):
        assert daemon.stop() == 0
        dropped = {key for key in drops(daemon) if key[1] not in COMING_AND_GOING}
        assert not dropped, "a packet that should have crossed was dropped"


Pair = tuple[Host, Host, Daemon, Daemon]


@KIND
@pytest.mark.parametrize("version", [4, 6])
def test_echoes_cross_both_ways(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    left, right, *_ = pair
    assert ping(left, there, source=here).received == 3
    assert ping(right, here, source=there).received == 3


@KIND
def test_the_mtu_is_the_path_less_all_headers(pair: Pair, kind: Kind) -> None:
    assert f"mtu {1500 - kind.overhead} " in pair[0].ip("link", "show", "dev", kind.name)


@KIND
@pytest.mark.parametrize("version", [4, 6])
def test_a_packet_of_the_mtu_crosses_whole(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    size = 1500 - kind.overhead - (28 if version == 4 else 48)
    assert ping(pair[0], there, source=here, size=size, count=2).received == 2


@KIND
def test_a_packet_above_the_mtu_crosses_in_fragments(pair: Pair, kind: Kind) -> None:
    assert ping(pair[0], kind.addresses(4)[1], size=4000, count=2).received == 2


@KIND
@pytest.mark.parametrize("version", [4, 6])
def test_a_stream_arrives_intact(pair: Pair, kind: Kind, version: int) -> None:
    here, there = kind.addresses(version)
    left, right, *_ = pair
    assert transfer(left, right, there, source=here, size=1 << 20).intact
    assert transfer(right, left, here, source=there, size=1 << 20).intact


@KIND
def test_multicast_arrives(pair: Pair, kind: Kind) -> None:
    result = multicast(pair[0], pair[1], kind.name, count=3)
    assert result.received == 3


@KIND
def test_broadcast_arrives(pair: Pair, kind: Kind) -> None:
    result = broadcast(pair[1], pair[0], kind.name, count=3)
    assert result.received == 3


@KIND
def test_what_one_side_sent_the_other_received(pair: Pair, kind: Kind) -> None:
    left, right, *_ = pair

    def counts() -> list[int]:
        here, there = left.statistics(kind.name), right.statistics(kind.name)
        names = "packets", "bytes"
        return [here[f"tx_{n}"] - there[f"rx_{n}"] for n in names] + [
            there[f"tx_{n}"] - here[f"rx_{n}"] for n in names
        ]

    # Super-packets of a stream are counted differently at the two ends, and the end of an earlier
    # stream may still be under way: a ping comes behind it.
    before = list[int]()

    def settled() -> bool:
        nonlocal before
        ping(left, kind.addresses(4)[1], count=1)
        last, before = before, counts()
        return last == before

    wait_for(settled, "the tunnel to be quiet")
    sent = left.statistics(kind.name)["tx_packets"]
    ping(left, kind.addresses(4)[1])
    assert left.statistics(kind.name)["tx_packets"] >= sent + 3
    wait_for(lambda: counts() == before, "as many received as sent")
