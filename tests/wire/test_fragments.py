"""Fragments: scapy puts them together again, and each is a right IPv4 packet."""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, IPOption, defrag
from scapy.packet import Raw
from scapy.plist import PacketList

from gred.wire import ip
from gred.wire.checksum import checksum
from gred.wire.fragments import fragment
from gred.wire.ip import IPv4Header

COPIED = IPOption(b"\x88\x04\x12\x34")  # stream identifier: goes into every fragment
NOT_COPIED = IPOption(b"\x07\x07\x04\0\0\0\0\x01")  # record route, no-operation: in the first only


def datagram(size: int, **fields: object) -> bytes:
    data = bytes(number * 7 & 0xFF for number in range(size))
    return bytes(IP(src="10.0.0.1", dst="10.0.0.2", id=77, **fields) / UDP() / Raw(data))


@given(size=st.integers(0, 9000), mtu=st.integers(68, 1500))
def test_scapy_reassembles_them(size: int, mtu: int) -> None:
    packet = datagram(size)
    parts = fragment(packet, mtu)
    assert all(len(part) <= mtu for part in parts)
    for part in parts:
        header = IPv4Header.parse(part)
        assert header.total_length == len(part)
        assert checksum(part[: header.length]) == 0
        assert (header.identification, header.protocol) == (77, 17)
    if len(parts) == 1:
        assert parts == [packet]
        return
    _unfragmented, (whole,), _incomplete = defrag(PacketList([IP(part) for part in parts]))
    del whole.len, whole.chksum
    assert bytes(whole) == packet


def test_what_fits_stays_as_it_is() -> None:
    assert fragment(datagram(1472), 1500) == [datagram(1472)]


def test_bytes_behind_the_total_length_are_left_out() -> None:
    """Ethernet pads short packets."""
    assert fragment(datagram(10) + bytes(12), 1500) == [datagram(10)]


def test_a_fragment_is_cut_further() -> None:
    """Offsets count from the first packet; only the very last piece is the last one."""
    first, second = fragment(datagram(2000), 1500)
    parts = [part for half in (first, second) for part in fragment(half, 600)]
    headers = [IPv4Header.parse(part) for part in parts]
    assert [header.fragment & ip.MORE_FRAGMENTS != 0 for header in headers] == [
        *[True] * (len(parts) - 1),
        False,
    ]
    offsets = [(header.fragment & ip.FRAGMENT_OFFSET) * 8 for header in headers]
    ends = [o + h.total_length - h.length for o, h in zip(offsets, headers, strict=True)]
    assert offsets == [0, *ends[:-1]]
    assert ends[-1] == 2008


def test_only_copied_options_are_in_later_fragments() -> None:
    """RFC 791 section 3.1."""
    first, second = fragment(datagram(1500, options=[NOT_COPIED, COPIED]), 1500)
    assert IPv4Header.parse(first).length == 32
    assert second[20 : IPv4Header.parse(second).length] == b"\x88\x04\x12\x34"


def test_damaged_options_end_the_options() -> None:
    packet = bytearray(datagram(1500, options=[COPIED]))
    packet[21] = 1
    first, second = fragment(packet, 1500)
    assert IPv4Header.parse(first).length == 24
    assert IPv4Header.parse(second).length == 20


def test_an_mtu_without_room_for_data_gives_nothing() -> None:
    assert fragment(datagram(100), 27) == []


@given(data=st.binary(max_size=100), mtu=st.integers(0, 100))
def test_noise_behind_a_header_never_raises_anything_else(data: bytes, mtu: int) -> None:
    for first in (0x45, 0x4F):
        packet = bytes([first]) + bytes(60) + data
        for part in fragment(packet, mtu):
            assert len(part) <= max(mtu, 0)
