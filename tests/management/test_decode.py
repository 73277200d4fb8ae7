"""One packet, one line."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.management.decode import Decoder
from gred.wire.drop import DropReason
from tests.management.doubles import Packet

IPV4_GRE = bytes.fromhex(
    # 192.168.1.13 > 192.168.1.10, TTL 64, protocol 47, then K and S, IPv4, key 42, sequence 7
    "4500007c000040004 02f0000c0a8010dc0a8010a".replace(" ", "") + "300008000000002a00000007"
)
MACS = "00:00:00:00:00:00 > 00:00:00:00:00:00"
ECHO_TEXT = "IPv4 10.1.2.2 > 10.1.2.1 ttl 64 ICMP echo-request id 1 seq 3"
ECHO = bytes.fromhex("4500005400000000400100000a0102020a010201" + "0800000000010003") + bytes(56)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder()


def packet(data: bytes, **fields: Any) -> Any:
    return Packet(data, **fields)


def test_an_echo_request_in_a_keyed_tunnel_is_one_line(decoder: Decoder) -> None:
    assert decoder.line(packet(IPV4_GRE + ECHO)) == (
        "rx Tunnel-1 192.168.1.13 > 192.168.1.10 ttl 64: GRE key 42 seq 7:"
        " IPv4 10.1.2.2 > 10.1.2.1 ttl 64 ICMP echo-request id 1 seq 3 len 84"
    )


def test_a_drop_ends_with_its_reason(decoder: Decoder) -> None:
    line = decoder.line(packet(IPV4_GRE + ECHO, reason=DropReason.KEY_MISMATCH))
    assert line.endswith("len 84 DROP key_mismatch")


def test_a_packet_of_no_tunnel_has_a_dash(decoder: Decoder) -> None:
    line = decoder.line(packet(IPV4_GRE + ECHO, tunnel=None, direction="tx"))
    assert line.startswith("tx - 192.168.1.13 > ")


def test_in_udp_the_port_is_told(decoder: Decoder) -> None:
    outer = IPV4_GRE[:9] + b"\x11" + IPV4_GRE[10:20]
    udp = bytes.fromhex("c35012920070 0000".replace(" ", ""))
    assert decoder.summary(outer + udp + IPV4_GRE[20:] + ECHO) == (
        f"192.168.1.13 > 192.168.1.10 ttl 64 udp 4754: GRE key 42 seq 7: {ECHO_TEXT} len 84"
    )
    assert decoder.summary(outer + udp + b"\0").endswith("ttl 64 udp 4754: no GRE, 29 bytes")


INNER = {
    "TCP": (
        "0800",
        "45000028000000004006000001010101020202020014005000000000000000005012000000000000",
        "IPv4 1.1.1.1 > 2.2.2.2 ttl 64 TCP 20 > 80 flags SA len 40",
    ),
    "UDP": (
        "0800",
        "4500001c0000000040110000010101010202020200350035000800 00".replace(" ", ""),
        "IPv4 1.1.1.1 > 2.2.2.2 ttl 64 UDP 53 > 53 len 28",
    ),
    "OSPF": (
        "0800",
        "45c00014000000000159000001010101e0000005",
        "IPv4 1.1.1.1 > 224.0.0.5 ttl 1 OSPF len 20",
    ),
    "a later fragment": (
        "0800",
        "45000018000000b94011000001010101020202020102 0304".replace(" ", ""),
        "IPv4 1.1.1.1 > 2.2.2.2 ttl 64 UDP fragment at 1480 len 24",
    ),
    "ICMP without an identifier": (
        "0800",
        "4500001c000000004001000001010101020202020304000000000000",
        "IPv4 1.1.1.1 > 2.2.2.2 ttl 64 ICMP dest-unreach len 28",
    ),
    "ICMPv6 echo": (
        "86dd",
        "6000000000083a40" + "00" * 15 + "01" + "00" * 15 + "02" + "8000000000050006",
        "IPv6 ::1 > ::2 ttl 64 ICMPv6 echo-request id 5 seq 6 len 48",
    ),
    "MLD behind hop-by-hop options": (
        "86dd",
        "6000000000100001" + "00" * 15 + "01" + "ff02" + "00" * 13 + "16"
        "3a000502000001008f00000000000000",
        "IPv6 ::1 > ff02::16 ttl 1 ICMPv6 mld-report-version-2 len 56",
    ),
    "UDP over IPv6": (
        "86dd",
        "6000000000081140" + "00" * 15 + "01" + "00" * 15 + "020035003500080000",
        "IPv6 ::1 > ::2 ttl 64 UDP 53 > 53 len 48",
    ),
    "Ethernet": (
        "6558",
        "020000000001020000000002080045000054000000004001000 00a0102020a010201".replace(" ", "")
        + "0800000000010003"
        + "00" * 56,
        f"02:00:00:00:00:02 > 02:00:00:00:00:01 {ECHO_TEXT} len 98",
    ),
    "Ethernet with two VLANs": (
        "6558",
        "0200000000010200000000028 8a80064810000050800".replace(" ", "")
        + "4500001c0000000040110000010101010202020200350035000800 00".replace(" ", ""),
        (
            "02:00:00:00:00:02 > 02:00:00:00:00:01 vlan 100 vlan 5"
            " IPv4 1.1.1.1 > 2.2.2.2 ttl 64 UDP 53 > 53 len 50"
        ),
    ),
    "ARP": (
        "6558",
        "ffffffffffff0200000000020806" + "0001080006040001" + "020000000002" + "0a010202"
        "000000000000" + "0a010201",
        "02:00:00:00:00:02 > ff:ff:ff:ff:ff:ff ARP who-has 10.1.2.1 tell 10.1.2.2 len 42",
    ),
    "IPv6 in Ethernet": (
        "6558",
        "02000000000102000000000286dd" + "6000000000083a40" + "fd00" + "00" * 13 + "01"
        "fd00" + "00" * 13 + "02" + "8000000000010002",
        (
            "02:00:00:00:00:02 > 02:00:00:00:00:01"
            " IPv6 fd00::1 > fd00::2 ttl 64 ICMPv6 echo-request id 1 seq 2 len 62"
        ),
    ),
    "STP": (
        "6558",
        "0180c2000000020000000002002642420300",
        "02:00:00:00:00:02 > 01:80:c2:00:00:00 802.3 STP len 18",
    ),
    "LLDP": (
        "6558",
        "0180c200000e02000000000288cc0000",
        "02:00:00:00:00:02 > 01:80:c2:00:00:0e LLDP len 16",
    ),
    "a type without a name": (
        "6558",
        "02000000000102000000000212340000",
        "02:00:00:00:00:02 > 02:00:00:00:00:01 type 0x1234 len 16",
    ),
    "IPv4 cut short in Ethernet": (
        "6558",
        "02000000000102000000000208004500",
        "02:00:00:00:00:02 > 02:00:00:00:00:01 IPv4 len 16",
    ),
    "Ethernet cut short": ("6558", "00" * 13, "Ethernet len 13"),
    "WCCP": (
        "883e",
        "00000001" + "4500001c0000000040110000010101010202020200350035000800 00".replace(" ", ""),
        "WCCP IPv4 1.1.1.1 > 2.2.2.2 ttl 64 UDP 53 > 53 len 32",
    ),
    "WCCP of version 1": (
        "883e",
        "4500001c0000000040110000010101010202020200350035000800 00".replace(" ", ""),
        "WCCP IPv4 1.1.1.1 > 2.2.2.2 ttl 64 UDP 53 > 53 len 28",
    ),
    "a keepalive": (
        "0800",
        "4500001800000000ff2f0000c0a8010ac0a8010d" + "00000000",
        "IPv4 192.168.1.10 > 192.168.1.13 ttl 255 GRE keepalive len 24",
    ),
    "a keepalive's reply": ("0000", "", "keepalive len 0"),
}


@pytest.mark.parametrize("kind", INNER)
def test_what_is_inside_is_told(decoder: Decoder, kind: str) -> None:
    protocol, inner, text = INNER[kind]
    data = IPV4_GRE[:20] + bytes.fromhex("0000" + protocol + inner)
    assert decoder.summary(data) == f"192.168.1.13 > 192.168.1.10 ttl 64: GRE: {text}"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("8000080012340000", "GRE csum 0x1234: "),
        ("0003080000000000", "GRE version 3, 28 bytes"),
        ("0018080000000000", "GRE flags 0018: "),
    ],
)
def test_gre_fields_are_told(decoder: Decoder, header: str, words: str) -> None:
    data = IPV4_GRE[:20] + bytes.fromhex(header) + ECHO[:20]
    assert decoder.summary(data).startswith(f"192.168.1.13 > 192.168.1.10 ttl 64: {words}")


def test_an_ipv6_underlay_with_a_destination_option_is_read(decoder: Decoder) -> None:
    """An encapsulation limit before GRE, as Linux sends it by default (RFC 2473 §4.1.1)."""
    addresses = "20010db8" + "00" * 11 + "01" + "20010db8" + "00" * 11 + "02"
    data = bytes.fromhex("6000000000603c40" + addresses + "2f000401040100 00".replace(" ", ""))
    summary = decoder.summary(data + bytes.fromhex("00000800") + ECHO)
    assert summary.startswith("2001:db8::1 > 2001:db8::2 ttl 64: GRE: IPv4 10.1.2.2 > 10.1.2.1")


@pytest.mark.parametrize(
    ("inside", "data", "text"),
    [
        ("ip", ECHO, f"{ECHO_TEXT} len 84"),
        ("ethernet", bytes(12) + b"\x08\x00" + ECHO, f"{MACS} {ECHO_TEXT} len 98"),
        ("ip", b"\x45", "undecodable, 1 bytes: 45"),
        ("ethernet", b"", "undecodable, 0 bytes: "),
    ],
)
def test_what_was_not_sent_is_shown_as_it_is_inside(
    decoder: Decoder, inside: str, data: bytes, text: str
) -> None:
    given = packet(data, direction="tx", reason=DropReason.NO_REMOTE, inside=inside)
    assert decoder.line(given) == f"tx Tunnel-1 not sent: {text} DROP no_remote"


@pytest.mark.parametrize("length", range(len(IPV4_GRE + ECHO)))
def test_a_truncated_packet_is_still_a_line(decoder: Decoder, length: int) -> None:
    assert decoder.summary((IPV4_GRE + ECHO)[:length])


@given(data=st.binary(max_size=200), prefix=st.sampled_from([b"", IPV4_GRE, b"\x60", b"\x45"]))
def test_no_bytes_raise(decoder: Decoder, data: bytes, prefix: bytes) -> None:
    for inside in ("", "ip", "ethernet"):
        assert decoder.line(packet(prefix + data, inside=inside)).isprintable()


@given(data=st.binary(min_size=1, max_size=120), flags=st.integers(0, 0xFFFF))
def test_no_gre_header_raises(decoder: Decoder, data: bytes, flags: int) -> None:
    protocol = (0x0800, 0x86DD)[data[0] & 1]
    header = IPV4_GRE[:20] + flags.to_bytes(2, "big") + protocol.to_bytes(2, "big")
    assert decoder.summary(header + data).isprintable()


def test_eoip_is_named_with_its_tunnel_id(decoder: Decoder) -> None:
    data = IPV4_GRE[:20] + bytes.fromhex("20016400003c1100") + bytes(60)
    assert decoder.summary(data) == (
        "192.168.1.13 > 192.168.1.10 ttl 64: GRE version 1 (EoIP tunnel id 17), 68 bytes"
    )
