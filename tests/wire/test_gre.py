"""The GRE header, RFC 2784 and RFC 2890; scapy reads what we write and writes what we read."""

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import GRE, IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.gre import (
    CHECKSUM_PRESENT,
    KEY_PRESENT,
    PROTOCOL_IPV4,
    PROTOCOL_IPV6,
    SEQUENCE_PRESENT,
    GreHeader,
    header_length,
)
from gred.wire.malformed import MalformedPacketError

FORMS = list(itertools.product([None, 0], [None, 0xC0A80101], [None, 7]))

headers = st.builds(
    GreHeader,
    protocol_type=st.integers(0, 0xFFFF),
    checksum=st.none() | st.integers(0, 0xFFFF),
    key=st.none() | st.integers(0, 0xFFFFFFFF),
    sequence=st.none() | st.integers(0, 0xFFFFFFFF),
)


@given(headers, st.binary(max_size=20))
def test_what_is_packed_is_parsed(header: GreHeader, payload: bytes) -> None:
    assert GreHeader.parse(header.pack() + payload) == header
    assert len(header.pack()) == header.length


@pytest.mark.parametrize(
    ("flags", "length"),
    [
        (0, 4),
        (CHECKSUM_PRESENT, 8),
        (KEY_PRESENT, 8),
        (SEQUENCE_PRESENT, 8),
        (CHECKSUM_PRESENT | KEY_PRESENT, 12),
        (CHECKSUM_PRESENT | SEQUENCE_PRESENT, 12),
        (KEY_PRESENT | SEQUENCE_PRESENT, 12),
        (CHECKSUM_PRESENT | KEY_PRESENT | SEQUENCE_PRESENT, 16),
    ],
)
def test_each_present_field_adds_four_bytes(flags: int, length: int) -> None:
    """RFC 2890 §2."""
    assert header_length(flags) == length


@pytest.mark.parametrize(("csum", "key", "sequence"), FORMS)
@pytest.mark.parametrize("version", [4, 6])
def test_scapy_reads_what_we_build(
    csum: int | None, key: int | None, sequence: int | None, version: int
) -> None:
    inner = bytes(IP(dst="10.0.0.2") / Raw(b"odd")) if version == 4 else bytes(IPv6(dst="fd00::2"))
    protocol = PROTOCOL_IPV4 if version == 4 else PROTOCOL_IPV6
    header = GreHeader(protocol_type=protocol, checksum=csum, key=key, sequence=sequence)
    built = header.build(inner)
    read = GRE(built)
    assert (read.proto, read.version, read.routing_present) == (protocol, 0, 0)
    assert (read.chksum_present, read.key_present, read.seqnum_present) == (
        csum is not None,
        key is not None,
        sequence is not None,
    )
    assert (read.key, read.sequence_number) == (key, sequence)
    assert bytes(read.payload) == inner
    if csum is not None:
        assert checksum(built) == 0


@pytest.mark.parametrize(("csum", "key", "sequence"), FORMS)
def test_we_read_what_scapy_builds(csum: int | None, key: int | None, sequence: int | None) -> None:
    packet = GRE(
        proto=PROTOCOL_IPV4,
        chksum_present=csum is not None,
        key_present=key is not None,
        seqnum_present=sequence is not None,
        key=key,
        sequence_number=sequence,
    )
    built = bytes(packet / IP(dst="10.0.0.2"))
    header = GreHeader.parse(built)
    assert (header.protocol_type, header.key, header.sequence) == (PROTOCOL_IPV4, key, sequence)
    assert (header.checksum is None) == (csum is None)
    # scapy computes the checksum: ours over the same bytes is the same.
    assert header.build(built[header.length :]) == built


def test_version_1_with_ppp_is_pptp() -> None:
    """RFC 2637 §4.1."""
    assert refusal_of(struct.pack("!HH", 0x3001, 0x880B)) == DropReason.PPTP
    assert refusal_of(struct.pack("!HH", 0x3002, 0x880B)) == DropReason.BAD_VERSION


@pytest.mark.parametrize("version", range(1, 8))
def test_versions_other_than_0_are_refused(version: int) -> None:
    """RFC 2784 §2.3.1."""
    assert refusal_of(struct.pack("!HH", version, PROTOCOL_IPV4)) == DropReason.BAD_VERSION


def test_the_routing_bit_is_refused() -> None:
    """RFC 2784 §2.3."""
    assert refusal_of(struct.pack("!HH", 0x4000, PROTOCOL_IPV4)) == DropReason.ROUTING


@pytest.mark.parametrize("bit", [0x0800, 0x0400])
def test_bits_4_and_5_are_refused(bit: int) -> None:
    """RFC 2784 §2.3."""
    assert refusal_of(struct.pack("!HH", bit, PROTOCOL_IPV4)) == DropReason.RESERVED_BITS


@pytest.mark.parametrize("bit", [1 << shift for shift in range(3, 10)])
def test_bits_6_to_12_are_ignored(bit: int) -> None:
    """RFC 2784 §2.3."""
    assert GreHeader.parse(struct.pack("!HH", bit, PROTOCOL_IPV4)).protocol_type == PROTOCOL_IPV4


@given(headers)
def test_every_shorter_header_is_truncated(header: GreHeader) -> None:
    whole = header.pack()
    for length in range(len(whole)):
        assert refusal_of(whole[:length]) == DropReason.TRUNCATED


def refusal_of(data: bytes) -> DropReason:
    with pytest.raises(MalformedPacketError) as caught:
        GreHeader.parse(data)
    return caught.value.reason
