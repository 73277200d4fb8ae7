"""Mode=gretap as a port of a bridge: two networks become one, VLAN tags and all.

near -- left[br0 lan] == right[br0 lan] -- far
"""

import json
import struct
from collections.abc import Iterator

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping, transfer
from gred.wire.ip import set_header_checksum
from tests.netns.capture import wire
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons

VERSION = pytest.mark.parametrize("version", [4, 6])
NEAR, FAR = ("10.7.0.1", "fd07::1"), ("10.7.0.2", "fd07::2")
NEAR_MAC, FAR_MAC = b"\x02\0\0\0\x07\x01", b"\x02\0\0\0\x07\x02"


@pytest.fixture(scope="module", params=[0, 1], ids=["ipv4", "ipv6"])
def stations(
    request: pytest.FixtureRequest,
    lab: Lab,
    hosts: tuple[Host, Host],
    lasting_daemons: Daemons,
) -> Iterator[tuple[Host, Host]]:
    underlay: int = request.param
    near, far = lab.host(f"near{underlay}"), lab.host(f"far{underlay}")
    sides = zip(
        hosts, (near, far), (LEFT, RIGHT), (RIGHT, LEFT), (NEAR, FAR), (NEAR_MAC, FAR_MAC),
        strict=True,
    )  # fmt: skip
    running = []
    for host, station, local, remote, addresses, mac in sides:
        lab.wire(host, station, device="stub0")
        station.ip("link", "set", "stub0", "address", mac.hex(":"))
        # Room for one VLAN tag in the tunnel.
        station.ip("link", "set", "stub0", "mtu", str((1458, 1438)[underlay] - 4))
        for address, length in zip(addresses, (24, 64), strict=True):
            station.address(f"{address}/{length}", "stub0")
        host.ip("link", "add", "br0", "type", "bridge")
        ends = f"Local={local[underlay]}\nRemote={remote[underlay]}\n"
        running.append(lasting_daemons.start(host, f"[Tunnel lan]\nMode=gretap\n{ends}Key=70\n"))
        for port in ("lan", "stub0"):
            host.ip("link", "set", port, "master", "br0")
        host.ip("link", "set", "br0", "up")
    yield near, far
    for daemon, host in zip(running, hosts, strict=True):
        assert daemon.stop() == 0
        host.ip("link", "del", "br0")
        host.ip("link", "del", "stub0")


@VERSION
def test_stations_behind_bridges_reach_each_other(
    stations: tuple[Host, Host], version: int
) -> None:
    """ARP and neighbour discovery cross as broadcast and multicast frames."""
    near, far = stations
    index = 0 if version == 4 else 1
    assert ping(near, FAR[index], timeout=3).received == 3
    assert transfer(near, far, FAR[index], size=1 << 20).intact
    assert transfer(far, near, NEAR[index], size=1 << 20).intact


def test_an_interface_without_addresses_says_nothing_by_itself(
    hosts: tuple[Host, Host], stations: tuple[Host, Host]
) -> None:
    """A bridge port needs no address, and gets no link-local one."""
    (link,) = json.loads(hosts[0].ip("-j", "addr", "show", "dev", "lan"))
    assert link["addr_info"] == []


@pytest.mark.parametrize(
    "tags",
    [b"", b"\x81\x00\x00\x0a", b"\x81\x00\x60\x0a", b"\x88\xa8\x00\x14\x81\x00\x00\x0a"],
    ids=["untagged", "tagged", "priority", "two tags"],
)
@pytest.mark.parametrize("ethertype", [0x0800, 0x88B5], ids=["ip", "other"])
@pytest.mark.parametrize("destination", [FAR_MAC, b"\xff" * 6], ids=["unicast", "broadcast"])
def test_frames_cross_byte_by_byte(
    stations: tuple[Host, Host], tags: bytes, ethertype: int, destination: bytes
) -> None:
    near, far = stations
    body = bytes(range(1, 101))
    if ethertype == 0x0800:  # some IPv4 packet of an unassigned protocol
        header = bytearray(struct.pack("!BBHHHBBH8x", 0x45, 0, 20 + 100, 1, 0, 9, 253, 0))
        set_header_checksum(memoryview(header), 0)  # bridge netfilter looks at it
        body = bytes(header) + body
    frame = destination + NEAR_MAC + tags + struct.pack("!H", ethertype) + body
    with wire(near, "stub0") as here, wire(far, "stub0") as there:
        here.send(frame)
        assert there.frame(lambda data: data == frame) == frame


def test_the_largest_tagged_frame_crosses(stations: tuple[Host, Host]) -> None:
    near, far = stations
    (link,) = json.loads(near.ip("-j", "link", "show", "dev", "stub0"))
    frame = FAR_MAC + NEAR_MAC + b"\x81\x00\x00\x0a\x88\xb5" + bytes(link["mtu"])
    with wire(near, "stub0") as here, wire(far, "stub0") as there:
        here.send(frame)
        assert there.frame(lambda data: data == frame) == frame
