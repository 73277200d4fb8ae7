"""What a daemon puts on the wire, read by scapy from what the far end's packet socket saw."""

from pathlib import Path

import pytest
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Packet
from scapy.utils import rdpcap

from gred.lab.capture import Capture
from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons

TIMES = 3


class Wire:
    """Echo requests through a tunnel from the left host, as they pass the right one."""

    def __init__(self, hosts: tuple[Host, Host], daemons: Daemons, file: Path) -> None:
        self._hosts, self._daemons, self._file = hosts, daemons, file

    def packets(
        self, options: str = "", *, underlay: int = 0, fragmentable: bool = False
    ) -> list[Packet]:
        """Return the outer packets that carry the echo requests."""
        everything = self.everything(options, underlay=underlay, fragmentable=fragmentable)
        asked = [packet for packet in everything if type(packet[GRE].payload.payload) is ICMP]
        assert len(asked) == TIMES
        return asked

    def everything(
        self, options: str = "", *, underlay: int = 0, fragmentable: bool = False
    ) -> list[Packet]:
        """Return all outer packets: interfaces send packets of their own as well."""
        left, right = self._hosts
        ends = f"Local={LEFT[underlay]}\nRemote={RIGHT[underlay]}\nAddress=10.9.1.1/24\n"
        with Capture(right, UNDERLAY, self._file):
            self._daemons.start(left, f"[Tunnel t]\n{ends}{options}\n")
            ping(left, "10.9.1.2", count=TIMES, timeout=0.05, fragmentable=fragmentable)
        # A host without a daemon answers "protocol unreachable", which quotes the packet.
        return [p.payload for p in rdpcap(str(self._file)) if type(p.payload.payload) is GRE]


@pytest.fixture
def wire(hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path) -> Wire:
    return Wire(hosts, daemons, tmp_path / "wire.pcap")


def test_a_plain_packet_is_24_bytes_longer(wire: Wire) -> None:
    for outer in wire.packets():
        assert (outer.src, outer.dst, outer.proto, outer.ttl) == (LEFT[0], RIGHT[0], 47, 64)
        assert outer.flags == "DF"
        assert raw(outer[GRE])[:4] == bytes.fromhex("0000 0800")
        assert outer.len == outer[GRE].payload.len + 24


def test_numbers_begin_at_zero(wire: Wire) -> None:
    packets = wire.everything("SerializeTunneledPackets=yes")
    numbers = [outer[GRE].sequence_number for outer in packets]
    assert len(numbers) >= TIMES
    assert numbers == list(range(len(numbers)))


def test_the_output_key_is_sent(wire: Wire) -> None:
    for outer in wire.packets("InputKey=5\nOutputKey=0.0.1.44"):
        assert (outer[GRE].key_present, outer[GRE].key) == (1, 300)


def test_checksums_are_right(wire: Wire) -> None:
    for outer in wire.packets("Checksum=yes\nKey=1"):
        again = outer[GRE].copy()
        again.chksum = None  # scapy computes it
        assert raw(again) == raw(outer[GRE])


def test_the_inner_packet_is_untouched(wire: Wire) -> None:
    for outer in wire.packets("Checksum=yes\nKey=1\nSerializeTunneledPackets=yes"):
        inner = outer[GRE].payload
        again = IP(raw(inner))
        again.chksum = again[ICMP].chksum = None
        assert raw(again) == raw(inner)
        assert (inner.src, inner.dst) == ("10.9.1.1", "10.9.1.2")


def test_the_outer_header_says_what_is_configured(wire: Wire) -> None:
    for outer in wire.packets("TTL=9\nTOS=0x28"):
        assert (outer.ttl, outer.tos) == (9, 0x28)


def test_the_outer_ttl_can_be_the_inner_one(wire: Wire, hosts: tuple[Host, Host]) -> None:
    hosts[0].sysctl("net.ipv4.ip_default_ttl", "33")
    try:
        assert {outer.ttl for outer in wire.packets("TTL=inherit")} == {33}
    finally:
        hosts[0].sysctl("net.ipv4.ip_default_ttl", "64")


@pytest.mark.parametrize("fragmentable", [True, False])
def test_without_discovery_dont_fragment_is_the_inner_one(wire: Wire, fragmentable: bool) -> None:
    packets = wire.packets("DiscoverPathMTU=no", fragmentable=fragmentable)
    assert {str(outer.flags) for outer in packets} == {"" if fragmentable else "DF"}


def test_ipv6_carries_gre_as_next_header_47(wire: Wire) -> None:
    for outer in wire.packets("Key=1\nChecksum=yes", underlay=1):
        assert isinstance(outer, IPv6)
        assert (outer.src, outer.dst, outer.nh, outer.hlim) == (LEFT[1], RIGHT[1], 47, 64)
        assert outer.plen == len(raw(outer[GRE]))
