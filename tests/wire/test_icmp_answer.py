"""ICMP errors: scapy reads what is built."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPerror, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPerror6,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
)
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from gred.wire import icmp, icmp_answer

OUTER = IP(src="192.0.2.1", dst="192.0.2.2", flags="DF")
OUTER6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
KEYED = GRE(key_present=1, key=42, proto=0x0800) / IP() / UDP()
INNER = IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", tos=0xB9)
INNER6 = IPv6(src="fd00::1", dst="fd00::2")


@pytest.mark.parametrize("size", [0, 500, 1400])
def test_scapy_reads_fragmentation_needed(size: int) -> None:
    packet = bytes(INNER / UDP(sport=5, dport=6) / Raw(bytes(size)))
    built = icmp_answer.fragmentation_needed(packet, 1276)
    answer = IP(built)
    assert (answer.src, answer.dst, answer.len) == ("10.0.0.2", "10.0.0.1", len(built))
    assert answer.tos == 0xC0 | 0xB9 & 0x1E
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, 1276)
    assert (answer[IPerror].src, answer[UDPerror].sport) == ("10.0.0.1", 5)
    assert len(built) <= 576
    assert built[28:] == packet[:548]
    del answer.chksum, answer[ICMP].chksum
    assert bytes(answer) == built, "scapy computes the same checksums"


@pytest.mark.parametrize(("size", "mtu", "told"), [(0, 1400, 1400), (1400, 1000, 1280)])
def test_scapy_reads_packet_too_big(size: int, mtu: int, told: int) -> None:
    """Never less than 1280: RFC 7676 section 3.2."""
    packet = bytes(INNER6 / UDP() / Raw(bytes(size)))
    built = icmp_answer.packet_too_big(packet, mtu)
    answer = IPv6(built)
    assert (answer.src, answer.dst, answer.plen) == ("fd00::2", "fd00::1", len(built) - 40)
    assert answer[ICMPv6PacketTooBig].mtu == told
    assert answer[IPerror6].src == "fd00::1"
    assert built[48:] == packet[: 1280 - 48]
    assert len(built) <= 1280
    del answer[ICMPv6PacketTooBig].cksum
    assert bytes(answer) == built, "scapy computes the same checksum"


@pytest.mark.parametrize(
    "packet",
    [
        INNER / TCP(),
        INNER / ICMP(type=8),
        INNER / ICMP(type=0),
        IP(src="10.0.0.1", dst="10.0.0.2", flags="DF+MF") / UDP(),
        INNER6 / TCP(),
        INNER6 / ICMPv6EchoRequest(),
        INNER6 / ICMPv6ND_NS(),
        INNER6 / IPv6ExtHdrFragment(m=1) / UDP(),
        INNER6 / IPv6ExtHdrFragment(offset=1) / Raw(bytes(8)),
    ],
)
def test_ordinary_packets_may_be_answered(packet: Packet) -> None:
    assert icmp_answer.answerable(bytes(packet))


@pytest.mark.parametrize(
    "packet",
    [
        *(INNER / ICMP(type=kind) / IP() for kind in (3, 4, 5, 11, 12, 42)),
        IP(src="10.0.0.1", dst="10.0.0.2") / UDP(),
        IP(src="10.0.0.1", dst="10.0.0.2", flags="DF", frag=1) / Raw(bytes(8)),
        *(IP(src=s, dst="10.0.0.2", flags="DF") for s in ("0.1.2.3", "127.0.0.1", "224.0.0.5")),
        *(IP(src="10.0.0.1", dst=d, flags="DF") for d in ("239.1.2.3", "255.255.255.255")),
        INNER6 / ICMPv6DestUnreach() / IPv6(),
        INNER6 / IPv6ExtHdrDestOpt() / ICMPv6TimeExceeded() / IPv6(),
        *(IPv6(src=source, dst="fd00::2") for source in ("::", "::1", "ff02::1")),
        IPv6(src="fd00::1", dst="ff02::1"),
        Raw(b""),
        Raw(b"\x45"),
        Raw(b"\x60"),
        Raw(b"\x10" * 40),
    ],
)
def test_what_no_error_may_be_about(packet: Packet) -> None:
    """RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)."""
    assert not icmp_answer.answerable(bytes(packet))


def test_a_redirect_is_not_answered() -> None:
    redirect = bytes([137]) + bytes(39)
    assert not icmp_answer.answerable(bytes(IPv6(src="fd00::1", dst="fd00::2", nh=58)) + redirect)


@given(size=st.integers(0, 1500), mtu=st.integers(68, 1500))
def test_what_is_answered_is_read_back(size: int, mtu: int) -> None:
    """An answer about an outer packet is the error that the other half of the module reads."""
    outer = bytes(OUTER / KEYED / Raw(bytes(size)))
    error = icmp.parse(icmp_answer.fragmentation_needed(outer, mtu)[20:], 4)
    assert error is not None
    assert (error.mtu, error.quote.key) == (mtu, 42)
    error = icmp.parse(icmp_answer.packet_too_big(bytes(OUTER6 / KEYED), mtu)[40:], 6)
    assert error is not None
    assert error.mtu == max(mtu, 1280)


@given(data=st.binary(max_size=200), version=st.sampled_from([b"", b"\x45", b"\x4f", b"\x60"]))
def test_asking_never_raises(data: bytes, version: bytes) -> None:
    icmp_answer.answerable(version + data)
