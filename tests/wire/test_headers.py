"""IP, transport, Ethernet and vnet headers: what is read is what scapy wrote."""

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from gred.wire import ethernet, ip
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.malformed import MalformedPacketError
from gred.wire.transport import ACK, CWR, TcpHeader
from gred.wire.vnet import GSO_ECN, GSO_TCPV4, LENGTH, NEEDS_CSUM, VnetHeader


def test_an_ipv4_header_is_read() -> None:
    packet = IP(
        src="10.0.0.1",
        dst="10.0.0.2",
        tos=0xB9,
        id=77,
        flags="DF",
        ttl=9,
        options=[IPOption(b"\x01\x01\x01\x01")],
    )
    header = ip.IPv4Header.parse(bytes(packet / UDP() / Raw(b"abc")))
    assert header == ip.IPv4Header(
        length=24,
        tos=0xB9,
        total_length=24 + 8 + 3,
        identification=77,
        fragment=ip.DONT_FRAGMENT,
        ttl=9,
        protocol=17,
        source=bytes([10, 0, 0, 1]),
        destination=bytes([10, 0, 0, 2]),
    )
    assert not header.is_fragment


@pytest.mark.parametrize("fields", [{"flags": "MF"}, {"frag": 1}])
def test_more_fragments_or_an_offset_make_a_fragment(fields: dict[str, object]) -> None:
    assert ip.IPv4Header.parse(bytes(IP(**fields))).is_fragment


def test_an_ipv6_header_is_read() -> None:
    packet = IPv6(src="fd00::1", dst="fd00::2", tc=0xB9, fl=0x12345, hlim=9) / UDP() / Raw(b"abc")
    header = ip.IPv6Header.parse(bytes(packet))
    assert header.traffic_class == 0xB9
    assert header.first_word & 0xFFFFF == 0x12345
    assert (header.total_length, header.next_header, header.hop_limit) == (40 + 8 + 3, 17, 9)
    assert (header.source[-1], header.destination[-1], header.is_fragment) == (1, 2, False)


def test_a_fragment_header_makes_a_fragment() -> None:
    assert ip.IPv6Header.parse(bytes(IPv6(nh=44))).is_fragment


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(IP())[:19], DropReason.TRUNCATED),
        (b"\x55" + bytes(IP())[1:], DropReason.BAD_INNER),
        (b"\x44" + bytes(IP())[1:], DropReason.BAD_INNER),
    ],
)
def test_what_is_no_ipv4_header_is_refused(data: bytes, reason: DropReason) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        ip.IPv4Header.parse(data)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(IPv6())[:39], DropReason.TRUNCATED),
        (b"\x40" + bytes(IPv6())[1:], DropReason.BAD_INNER),
    ],
)
def test_what_is_no_ipv6_header_is_refused(data: bytes, reason: DropReason) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        ip.IPv6Header.parse(data)
    assert caught.value.reason == reason


def test_a_new_length_comes_with_a_new_checksum() -> None:
    data = bytearray(bytes(IP(src="10.0.0.1", dst="10.0.0.2") / Raw(b"abcdef")))
    ip.set_length(memoryview(data), 0, 21)
    assert IP(bytes(data)).len == 21
    assert checksum(data[:20]) == 0


def test_a_new_length_of_ipv6_is_that_of_the_payload() -> None:
    data = bytearray(bytes(IPv6() / Raw(b"abcdef")))
    ip.set_length(memoryview(data), 0, 41)
    assert IPv6(bytes(data)).plen == 1


@pytest.mark.parametrize("ecn", range(4))
@pytest.mark.parametrize("old", range(4))
def test_new_ecn_bits_leave_the_rest(old: int, ecn: int) -> None:
    data = bytearray(bytes(IP(tos=0xB8 | old, src="10.0.0.1", dst="10.0.0.2")))
    ip.set_ecn(memoryview(data), 0, 4, ecn)
    assert IP(bytes(data)).tos == 0xB8 | ecn
    assert checksum(data[:20]) == 0
    data = bytearray(bytes(IPv6(tc=0xB8 | old, fl=0xFFFFF)))
    ip.set_ecn(memoryview(data), 0, 6, ecn)
    assert (IPv6(bytes(data)).tc, IPv6(bytes(data)).fl) == (0xB8 | ecn, 0xFFFFF)


def test_a_tcp_header_is_read() -> None:
    packet = TCP(seq=5, ack=6, flags="AC", window=7, options=[("MSS", 1400)])
    assert TcpHeader.parse(bytes(packet)) == TcpHeader(5, 6, 0x60, ACK | CWR, 7)
    assert TcpHeader.parse(bytes(packet)).length == 24


@pytest.mark.parametrize(
    ("frame", "found"),
    [
        (Ether(type=0x0800), (0x0800, 14)),
        (Ether() / Dot1Q(type=0x86DD), (0x86DD, 18)),
        (Ether(type=0x88A8) / Dot1Q(type=0x8100) / Dot1Q(type=0x0800), (0x0800, 22)),
        (Ether() / Dot1Q() / Dot1Q() / Dot1Q(type=0x0800), (0x8100, 22)),
    ],
)
def test_at_most_two_vlan_tags_are_skipped(frame: object, found: tuple[int, int]) -> None:
    assert ethernet.payload(bytes(frame)) == found  # type: ignore[call-overload]  # scapy is untyped


def test_a_tag_that_is_cut_off_is_not_read() -> None:
    assert ethernet.payload(bytes(Ether() / Dot1Q())[:17]) == (0x8100, 14)


def test_a_vnet_header_has_ten_bytes_in_native_order() -> None:
    """linux/virtio_net.h."""
    header = VnetHeader(NEEDS_CSUM, GSO_TCPV4 | GSO_ECN, 54, 1400, 34, 16)
    assert header.pack() == struct.pack("=BBHHHH", 1, 0x81, 54, 1400, 34, 16)
    assert len(header.pack()) == LENGTH == 10
    assert VnetHeader.parse(header.pack()) == header
