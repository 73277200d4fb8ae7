"""Mode=gretap between networks whose hosts send 1500 bytes, over a wire that carries 1500.

near -- left[br0 lan] == right[br0 lan] -- far. Nobody tells a host behind a bridge to send less:
frames must cross as they are, in fragments outside.
"""

from collections.abc import Iterator

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping, transfer
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons

NEAR, FAR = ("10.7.0.1", "fd07::1"), ("10.7.0.2", "fd07::2")
FULL = {4: 1500 - 28, 6: 1500 - 48}  # bytes of data in an echo request of 1500
WHOLE = "MTUBytes=1500\nDiscoverPathMTU=no\nIgnoreDontFragment=yes\n"


@pytest.fixture(scope="module")
def stations(lab: Lab, hosts: tuple[Host, Host]) -> tuple[Host, Host]:
    near, far = lab.host("near"), lab.host("far")
    for host, station, addresses in zip(hosts, (near, far), (NEAR, FAR), strict=True):
        lab.wire(host, station, device="stub0")
        for address, length in zip(addresses, (24, 64), strict=True):
            station.address(f"{address}/{length}", "stub0")
        host.ip("link", "add", "br0", "type", "bridge")
        host.ip("link", "set", "stub0", "master", "br0")
        host.ip("link", "set", "br0", "up")
    return near, far


@pytest.fixture
def join(hosts: tuple[Host, Host], daemons: Daemons) -> Iterator["Join"]:
    yield Join(hosts, daemons)
    for host in hosts:
        host.ip("link", "set", "stub0", "mtu", "1500")


class Join:
    """Makes the two networks one."""

    def __init__(self, hosts: tuple[Host, Host], daemons: Daemons) -> None:
        self._hosts, self._daemons = hosts, daemons

    def __call__(self, underlay: int, options: str) -> None:
        for host, local, remote in zip(self._hosts, (LEFT, RIGHT), (RIGHT, LEFT), strict=True):
            ends = f"Local={local[underlay]}\nRemote={remote[underlay]}\n"
            self._daemons.start(host, f"[Tunnel lan]\nMode=gretap\n{ends}{options}")
            host.ip("link", "set", "lan", "master", "br0")


@pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])
def test_hosts_that_send_1500_bytes_reach_each_other(
    stations: tuple[Host, Host], join: Join, underlay: int
) -> None:
    near, far = stations
    join(underlay, WHOLE)
    for version in (4, 6):
        index = 0 if version == 4 else 1
        assert ping(near, FAR[index], size=FULL[version]).received == 3
        assert ping(far, NEAR[index], size=FULL[version]).received == 3
        assert transfer(near, far, FAR[index], size=1 << 20, timeout=60).intact
        assert transfer(far, near, NEAR[index], size=1 << 20, timeout=60).intact


def test_without_it_large_packets_are_lost_and_streams_are_not(
    stations: tuple[Host, Host], join: Join
) -> None:
    """The bridge drops them without a word; ClampMSS= keeps TCP below."""
    near, far = stations
    join(0, "")
    assert ping(near, FAR[0]).received == 3
    assert ping(near, FAR[0], size=FULL[4], timeout=0.1).received == 0
    assert transfer(near, far, FAR[0], size=1 << 20, timeout=60).intact
