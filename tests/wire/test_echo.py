"""Echo requests of our own: right to scapy, answered by what scapy answers, and nothing else."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from gred.wire.echo import ECHO_MARK, build_echo_request, read_echo_reply

ENDS = {4: ("10.1.2.1", "10.1.2.2"), 6: ("fd00::1", "fd00::2")}
COOKIE = bytes(range(16))
MARK = ECHO_MARK.to_bytes(4)


def request(version: int, **fields: Any) -> bytes:
    own, target = map(ip_address, ENDS[version])
    given: dict[str, Any] = {"identifier": 0xABCD, "sequence": 7, "trailer": COOKIE} | fields
    return build_echo_request(own, target, **given)


def reply(version: int, data: bytes = MARK + COOKIE, **fields: int) -> Packet:
    own, target = ENDS[version]
    if version == 4:
        return IP(src=target, dst=own) / ICMP(**{"type": 0, "id": 5, "seq": 7} | fields) / data
    return IPv6(src=target, dst=own) / ICMPv6EchoReply(id=5, seq=7, data=data)


@pytest.mark.parametrize("size", [0, 1400])
def test_a_request_is_right(size: int) -> None:
    four, six = IP(request(4, size=size)), IPv6(request(6, size=size))
    for packet in (four, six):
        again = packet.copy()
        for layer, field in ((IP, "chksum"), (ICMP, "chksum"), (ICMPv6EchoRequest, "cksum")):
            if layer in again:
                again[layer].delfieldval(field)
        assert bytes(again) == bytes(packet), "its lengths and checksums are scapy's, too"
        assert len(bytes(packet)) == (size or len(bytes(packet)))
    assert (four.src, four.dst, four[ICMP].type, four[ICMP].id, four[ICMP].seq) == (
        *ENDS[4],
        *(8, 0xABCD, 7),
    )
    assert bytes(four[ICMP].payload)[:20] == MARK + COOKIE
    assert six[ICMPv6EchoRequest].id == 0xABCD
    assert six[ICMPv6EchoRequest].data[:20] == MARK + COOKIE


@pytest.mark.parametrize("version", [4, 6])
def test_its_answer_is_read(version: int) -> None:
    found = read_echo_reply(bytes(reply(version)))
    assert found is not None
    own, target = map(ip_address, ENDS[version])
    assert (found.source, found.destination) == (target, own)
    assert (found.identifier, found.sequence, found.trailer) == (5, 7, COOKIE)


def test_the_first_part_of_an_answer_is_enough() -> None:
    whole = reply(4, MARK + COOKIE + bytes(1000))
    first, second, *_rest = whole.fragment(fragsize=504)
    found = read_echo_reply(bytes(first))
    assert found is not None
    assert found.trailer.startswith(COOKIE)
    assert read_echo_reply(bytes(second)) is None


OTHERS = {
    "a request": reply(4, type=8),
    "another code": reply(4, code=1),
    "without the mark": reply(4, COOKIE + MARK),
    "a wrong checksum": reply(4, chksum=1),
    "short": reply(4, MARK[:3]),
    "another protocol": IP(src=ENDS[4][1], dst=ENDS[4][0], proto=17) / Raw(bytes(40)),
    "ICMPv6 in IPv4": IP(proto=58) / Raw(bytes(ICMPv6EchoReply(data=MARK + COOKIE))),
}


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_else_is(other: str) -> None:
    assert read_echo_reply(bytes(OTHERS[other])) is None


@given(st.binary(max_size=80))
def test_whatever_arrives(packet: bytes) -> None:
    assert read_echo_reply(packet) is None


@given(st.integers(0, 60), st.integers(0, 255))
def test_what_is_damaged_is_not_believed(at: int, byte: int) -> None:
    for version in (4, 6):
        packet = bytearray(bytes(reply(version)))
        header = 20 if version == 4 else 40
        at = header + at % (len(packet) - header)
        before, packet[at] = packet[at], byte
        found = read_echo_reply(bytes(packet))
        assert (found is None) or byte == before
