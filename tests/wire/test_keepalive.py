"""Keepalives of each vendor's form, built by scapy as they were seen on the wire."""

import itertools
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import GRE, IP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Packet, Raw

from gred.wire.keepalive import (
    LONGEST_TRAILER,
    Answer,
    Request,
    build_request,
    carries_request,
    forward,
    read_answer,
    read_request,
)

A, B = "192.0.2.1", "198.51.100.7"  # A asks B
A6, B6 = "2001:db8::1", "2001:db8::7"
INNER_A, INNER_B = "10.1.2.1", "10.1.2.2"
COOKIE = bytes(range(16))


def four(answer: Packet, *, source: str = B, destination: str = A, **fields: int) -> Packet:
    return IP(src=source, dst=destination, tos=0xC0, **{"ttl": 255} | fields) / answer


def six(answer: Packet, **fields: int) -> Packet:
    return IPv6(src=B6, dst=A6, **{"hlim": 255} | fields) / answer


FORMS: dict[str, tuple[Packet, bytes]] = {
    "Cisco": (four(GRE(proto=0)), b""),
    "Cisco, keyed": (four(GRE(proto=0, key_present=1, key=42)), b""),
    "Cisco, with a checksum": (four(GRE(proto=0, chksum_present=1)), b""),
    "OpenBSD": (four(GRE(proto=0) / Raw(COOKIE)), COOKIE),
    "OpenBSD, keyed": (four(GRE(proto=0, key_present=1, key=42) / Raw(COOKIE)), COOKIE),
    "OpenBSD over IPv6": (six(GRE(proto=0) / Raw(COOKIE)), COOKIE),
    "MikroTik behind a NAT": (four(GRE(proto=0), destination="10.9.9.9"), b""),
    "MikroTik over IPv6": (six(GRE(proto=0x86DD)), b""),
    "VeloCloud": (four(GRE(proto=0), source=INNER_B, destination=INNER_A), b""),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_read(form: str) -> None:
    packet, trailer = FORMS[form]
    request = read_request(bytes(packet))
    assert request is not None
    assert str(request.source) == packet.src
    assert str(request.destination) == packet.dst
    assert request.answer == bytes(packet.payload)
    answer = read_answer(request.answer)
    assert answer is not None
    assert answer.trailer == trailer


def test_what_pads_a_short_frame_is_not_part_of_it() -> None:
    packet = bytes(four(GRE(proto=0)))
    padded = read_request(packet + bytes(18))
    assert padded == read_request(packet)


@pytest.mark.parametrize(
    ("source", "destination"), [(B, A), (B6, A6)], ids=["over IPv4", "over IPv6"]
)
@pytest.mark.parametrize("key", [None, 0, 42, 0xFFFFFFFF])
@pytest.mark.parametrize("trailer", [b"", COOKIE])
def test_scapy_reads_what_is_built(
    source: str, destination: str, key: int | None, trailer: bytes
) -> None:
    data = build_request(
        ip_address(source), ip_address(destination), key=key, trailer=trailer, identification=7
    )
    packet = (IPv6 if ":" in source else IP)(data)
    assert (packet.src, packet.dst) == (source, destination)
    gre = packet[GRE]
    assert (gre.proto, gre.key if key is not None else None) == (0, key)
    assert bytes(gre.payload) == trailer
    if ":" not in source:
        assert (packet.ttl, packet.flags, packet.id) == (255, 0, 7)
        rebuilt = packet.copy()
        del rebuilt.chksum
        assert bytes(rebuilt) == data
    else:
        assert packet.hlim == 255


def test_a_plain_request_is_as_long_as_cisco_prints_it() -> None:
    assert len(build_request(ip_address(B), ip_address(A), key=None)) == 24
    assert len(build_request(ip_address(B), ip_address(A), key=42)) == 28


def test_what_is_built_is_read_and_comes_back() -> None:
    data = build_request(ip_address(B), ip_address(A), key=42, trailer=COOKIE)
    request = read_request(data)
    assert request is not None
    assert (str(request.source), str(request.destination)) == (B, A)
    assert read_answer(request.answer) == Answer(key=42, trailer=COOKIE)


NONE: dict[str, bytes] = {
    "nothing": b"",
    "an ordinary packet": bytes(four(Raw(bytes(20)), proto=17)),
    "no hop left": bytes(four(GRE(proto=0), ttl=1)),
    "no hop left, IPv6": bytes(six(GRE(proto=0), hlim=1)),
    "a tunnelled packet": bytes(four(GRE() / IP(dst=A))),
    "a tunnelled packet, IPv6": bytes(six(GRE(proto=0x86DD) / IPv6(dst=A6))),
    "a request within": bytes(four(GRE() / four(GRE(proto=0)))),
    "empty, but of IPv4": bytes(four(GRE(proto=0x0800))),
    "a fragment": bytes(four(GRE(proto=0), frag=1)),
    "the first fragment": bytes(four(GRE(proto=0), flags=1)),
    "a fragment, IPv6": bytes(six(IPv6ExtHdrFragment(nh=47) / GRE(proto=0))),
    "a wrong header checksum": bytes(four(GRE(proto=0), chksum=1)),
    "a wrong GRE checksum": bytes(four(GRE(proto=0, chksum_present=1, chksum=1))),
    "PPTP": bytes(four(GRE(proto=0, version=1))),
    "source routes": bytes(four(GRE(proto=0, routing_present=1))),
    "a long trailer": bytes(four(GRE(proto=0) / Raw(bytes(LONGEST_TRAILER + 1)))),
    "cut": bytes(four(GRE(proto=0, key_present=1)))[:-1],
    "longer than it is": bytes(four(GRE(proto=0), len=60)),
}


@pytest.mark.parametrize("packet", NONE)
def test_anything_else_is_no_request(packet: str) -> None:
    assert read_request(NONE[packet]) is None


def test_a_trailer_of_the_longest_kind_comes_back() -> None:
    request = read_request(bytes(four(GRE(proto=0) / Raw(bytes(LONGEST_TRAILER)))))
    assert request is not None
    assert len(request.answer) == 4 + LONGEST_TRAILER


def test_a_request_is_no_answer() -> None:
    """Two gred that ask each other tell one from the other."""
    request = build_request(ip_address(B), ip_address(A), key=None, trailer=COOKIE)
    assert read_answer(bytes(GRE(proto=0x0800) / Raw(request))) is None
    request6 = build_request(ip_address(B6), ip_address(A6), key=None)
    assert read_answer(bytes(GRE(proto=0x86DD) / Raw(request6))) is None


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\0\0\0", bytes(GRE(proto=0, chksum_present=1, chksum=1)), bytes(GRE(proto=0x0800))],
)
def test_anything_else_is_no_answer(datagram: bytes) -> None:
    assert read_answer(datagram) is None


def test_a_numbered_answer_is_read() -> None:
    """Numbers of an answer mean nothing: the asking end made the header."""
    numbered = bytes(GRE(proto=0, seqnum_present=1, sequence_number=9) / Raw(COOKIE))
    assert read_answer(numbered) == Answer(key=None, trailer=COOKIE)


@pytest.mark.parametrize("form", ["VeloCloud", "OpenBSD over IPv6"])
def test_forwarding_takes_one_hop(form: str) -> None:
    packet, _trailer = FORMS[form]
    request = read_request(bytes(packet))
    assert request is not None
    passed = forward(request)
    expected = packet.copy()
    if IP in expected:
        expected.ttl = 254
    else:
        expected.hlim = 254
    assert passed == bytes(expected)


def test_protocol_types_that_may_carry_one() -> None:
    assert [p for p in range(0x10000) if carries_request(p)] == [0x0004, 0x0800, 0x86DD]


@given(st.binary(max_size=140))
def test_no_bytes_raise(data: bytes) -> None:
    read_answer(data)
    assert read_request(data) is None or len(data) >= 24


@given(
    st.sampled_from([bytes(packet) for packet, _ in FORMS.values()]),
    st.lists(st.tuples(st.integers(0, 95), st.integers(0, 255)), max_size=4),
    st.integers(0, 100),
)
def test_what_is_read_of_a_damaged_one_is_bounded(
    packet: bytes, changes: list[tuple[int, int]], length: int
) -> None:
    data = bytearray(packet)
    for place, value in changes:
        if place < len(data):
            data[place] = value
    request = read_request(bytes(data[:length]))
    assert request is None or isinstance(request, Request)
    if request is not None:
        assert 4 <= len(request.answer) <= 16 + LONGEST_TRAILER
        assert len(forward(request)) == len(request.packet) <= length
        assert read_answer(request.answer) is not None


def test_all_forms_differ() -> None:
    for (one, _), (other, _) in itertools.combinations(FORMS.values(), 2):
        assert bytes(one) != bytes(other)
