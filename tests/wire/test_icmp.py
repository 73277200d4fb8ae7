"""ICMP errors: what is read is what scapy wrote."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from gred.wire import icmp
from gred.wire.icmp import ErrorKind

OUTER = IP(src="192.0.2.1", dst="192.0.2.2", flags="DF")
OUTER6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
KEYED = GRE(key_present=1, key=42, proto=0x0800) / IP() / UDP()


def icmp4(quoted: Packet | bytes, **fields: int) -> bytes:
    """An ICMP message about *quoted*, checksum included."""
    return bytes(ICMP(**fields) / Raw(bytes(quoted)))


def read6(header: Packet, quoted: Packet | bytes) -> icmp.IcmpError | None:
    """What is read of an ICMPv6 message about *quoted*."""
    packet = bytes(IPv6(src="2001:db8::9", dst="2001:db8::1") / header / Raw(bytes(quoted)))
    return icmp.parse(packet[40:], 6)


def wire(address: str) -> bytes:
    return ip_address(address).packed


def test_fragmentation_needed_tells_the_mtu_and_quotes_the_packet() -> None:
    """RFC 1191 section 4."""
    error = icmp.parse(icmp4(OUTER / KEYED, type=3, code=4, nexthopmtu=1300), 4)
    assert error is not None
    assert (error.kind, error.mtu) == (ErrorKind.TOO_BIG, 1300)
    assert (error.quote.source, error.quote.destination) == (wire("192.0.2.1"), wire("192.0.2.2"))
    assert (error.quote.flags, error.quote.key) == (0x2000, 42)


def test_packet_too_big_tells_the_mtu_and_quotes_the_packet() -> None:
    """RFC 4443 section 3.2."""
    error = read6(ICMPv6PacketTooBig(mtu=1300), OUTER6 / KEYED)
    assert error is not None
    assert (error.kind, error.mtu) == (ErrorKind.TOO_BIG, 1300)
    assert error.quote.source == wire("2001:db8::1")
    assert error.quote.destination == wire("2001:db8::2")
    assert (error.quote.flags, error.quote.key) == (0x2000, 42)


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (3, 0, ErrorKind.NETWORK_UNREACHABLE),
        (3, 1, ErrorKind.HOST_UNREACHABLE),
        (3, 2, ErrorKind.PROTOCOL_UNREACHABLE),
        (3, 3, ErrorKind.PORT_UNREACHABLE),
        (3, 5, None),
        (3, 9, ErrorKind.PROHIBITED),
        (3, 10, ErrorKind.PROHIBITED),
        (3, 13, ErrorKind.PROHIBITED),
        (11, 0, ErrorKind.TIME_EXCEEDED),
        (11, 1, None),
        (12, 0, ErrorKind.PARAMETER_PROBLEM),
        (5, 1, None),
        (8, 0, None),
        (0, 0, None),
    ],
)
def test_the_codes_of_icmp(kind: int, code: int, expected: ErrorKind | None) -> None:
    error = icmp.parse(icmp4(OUTER / KEYED, type=kind, code=code), 4)
    assert (error.kind if error else None) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (ICMPv6DestUnreach(code=0), ErrorKind.NETWORK_UNREACHABLE),
        (ICMPv6DestUnreach(code=1), ErrorKind.PROHIBITED),
        (ICMPv6DestUnreach(code=3), ErrorKind.HOST_UNREACHABLE),
        (ICMPv6DestUnreach(code=4), ErrorKind.PORT_UNREACHABLE),
        (ICMPv6TimeExceeded(code=0), ErrorKind.TIME_EXCEEDED),
        (ICMPv6TimeExceeded(code=1), None),
        (ICMPv6ParamProblem(code=1, ptr=6), ErrorKind.PROTOCOL_UNREACHABLE),
        (ICMPv6ParamProblem(code=2, ptr=40), ErrorKind.PARAMETER_PROBLEM),
        (ICMPv6EchoRequest(), None),
    ],
)
def test_the_codes_of_icmpv6(header: Packet, expected: ErrorKind | None) -> None:
    error = read6(header, OUTER6 / KEYED)
    assert (error.kind if error else None) == expected


@pytest.mark.parametrize("quoted", [0, 1, 2, 4, 7, 8, 12, 100])
def test_a_short_quote_says_as_much_as_it_holds(quoted: int) -> None:
    """Eight bytes behind the IP header are what every host quotes: RFC 792."""
    packet = bytes(OUTER / GRE(chksum_present=1, key_present=1, key=7) / IP())
    error = icmp.parse(icmp4(packet[: 20 + quoted], type=3, code=13), 4)
    assert error is not None
    assert error.quote.flags == (0xA000 if quoted >= 2 else None)
    assert error.quote.key == (7 if quoted >= 12 else None)


def test_a_quote_of_another_protocol_is_nothing() -> None:
    assert icmp.parse(icmp4(OUTER / TCP(), type=3, code=3), 4) is None
    assert read6(ICMPv6DestUnreach(code=4), OUTER6 / TCP()) is None


def test_a_quote_of_udp_has_ports_and_may_have_gre() -> None:
    datagram = UDP(sport=50000, dport=4754) / Raw(bytes.fromhex("2000080000000007"))
    for error in (
        icmp.parse(icmp4(OUTER / datagram, type=3, code=3), 4),
        read6(ICMPv6DestUnreach(code=4), OUTER6 / datagram),
    ):
        assert error is not None
        assert error.kind is ErrorKind.PORT_UNREACHABLE
        assert (error.quote.ports, error.quote.key) == ((50000, 4754), 7)
    bare = icmp.parse(icmp4(OUTER / UDP(sport=50000, dport=4754), type=3, code=3), 4)
    assert bare is not None
    assert (bare.quote.ports, bare.quote.gre, bare.quote.flags) == ((50000, 4754), b"", None)


def test_a_quote_that_ends_within_the_udp_header_is_nothing() -> None:
    cut = icmp4(OUTER / UDP(), type=3, code=3)[:-1]
    assert icmp.parse(cut[:2] + bytes(2) + cut[4:], 4) is None


def test_a_quote_of_a_later_fragment_is_nothing() -> None:
    """It has no GRE header to compare with."""
    assert icmp.parse(icmp4(IP(frag=3, proto=47) / Raw(bytes(16)), type=3, code=1), 4) is None
    later = OUTER6 / IPv6ExtHdrFragment(nh=47, offset=3) / Raw(bytes(16))
    assert read6(ICMPv6DestUnreach(code=3), later) is None


def test_a_quote_is_found_behind_extension_headers() -> None:
    for extension in (IPv6ExtHdrFragment(nh=47, m=1), IPv6ExtHdrDestOpt(nh=47)):
        error = read6(ICMPv6PacketTooBig(mtu=1280), OUTER6 / extension / KEYED)
        assert error is not None
        assert error.quote.key == 42


def test_options_of_the_quoted_header_are_skipped() -> None:
    header = bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=47, ihl=6, options=[])) + bytes(4)
    error = icmp.parse(icmp4(header + bytes(KEYED), type=3, code=1), 4)
    assert error is not None
    assert error.quote.key == 42


def test_a_damaged_message_is_nothing() -> None:
    message = bytearray(icmp4(OUTER / KEYED, type=3, code=4, nexthopmtu=1300))
    message[7] ^= 1
    assert icmp.parse(message, 4) is None


@given(data=st.binary(max_size=200), version=st.sampled_from([4, 6]))
def test_reading_never_raises(data: bytes, version: int) -> None:
    assert version in {4, 6}
    icmp.parse(data, 4 if version == 4 else 6)


@given(tail=st.binary(max_size=120), header=st.binary(min_size=2, max_size=2))
def test_reading_never_raises_about_what_looks_like_a_quote(tail: bytes, header: bytes) -> None:
    """Types and codes of errors, right checksum, an IP header in front of noise."""
    for start in (b"\x45" + bytes(8) + b"\x2f", b"\x4f" + bytes(8) + b"\x2f", b"\x45"):
        icmp.parse(icmp4(start + tail, type=3 + header[0] % 10, code=header[1] % 16), 4)
    for start in (b"\x60" + bytes(5) + b"\x2f", b"\x60" + bytes(5) + bytes([header[0] % 64])):
        icmp.parse(bytes([1 + header[0] % 4, header[1] % 8]) + bytes(6) + start + tail, 6)
