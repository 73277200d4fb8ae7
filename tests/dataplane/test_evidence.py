"""What a quoted packet proves."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.dataplane.evidence import RECENT, Proof, carried, weigh
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.gre import GreHeader
from gred.wire.icmp import Quote

PLAIN = TunnelParameters(family=4, local=ip_address("192.0.2.1"), remote=ip_address("192.0.2.2"))
IP = carried("tun", PLAIN)


def quote(header: GreHeader, length: int = 16) -> Quote:
    packed = header.pack().ljust(16, b"\0")
    return Quote(b"\1\1\1\1", b"\2\2\2\2", packed[:length], 1500)


def test_addresses_flags_and_sizes_prove_nothing() -> None:
    assert weigh(quote(GreHeader(protocol_type=0x0800)), IP, 0) is Proof.GUESSABLE


def test_a_key_is_a_secret() -> None:
    assert weigh(quote(GreHeader(protocol_type=0x0800, key=7), 8), IP, 0) is Proof.SECRET


def test_a_key_that_was_cut_off_is_none() -> None:
    every = GreHeader(protocol_type=0x0800, checksum=1, key=7)
    assert weigh(quote(every, 8), IP, 0) is Proof.GUESSABLE
    assert weigh(quote(every, 12), IP, 0) is Proof.SECRET


@pytest.mark.parametrize(
    ("sequence", "proof"),
    [
        (99, Proof.SECRET),
        (0, Proof.SECRET),
        (100, Proof.NOT_OURS),
        (100 - RECENT & 0xFFFFFFFF, Proof.SECRET),
        (99 - RECENT & 0xFFFFFFFF, Proof.NOT_OURS),
        (1 << 31, Proof.NOT_OURS),
    ],
)
def test_a_number_must_have_been_sent_lately(sequence: int, proof: Proof) -> None:
    numbered = GreHeader(protocol_type=0x0800, sequence=sequence)
    assert weigh(quote(numbered), IP, 100) is proof
    keyed = GreHeader(protocol_type=0x0800, key=7, sequence=sequence)
    assert weigh(quote(keyed), IP, 100) is proof


def test_numbers_go_round() -> None:
    assert weigh(quote(GreHeader(protocol_type=0x0800, sequence=0xFFFFFFFF)), IP, 1) is Proof.SECRET


@pytest.mark.parametrize(
    ("mode", "protocol", "carries"),
    [
        ("tun", None, {0x0800, 0x86DD}),
        ("any", 0x8847, {0x0800, 0x86DD, 0x8847}),
        ("tap", None, {0x6558}),
    ],
)
def test_a_protocol_type_must_be_one_that_is_sent(
    mode: str, protocol: int | None, carries: set[int]
) -> None:
    found = carried(mode, replace(PLAIN, protocol=protocol))
    assert found == carries
    for kind in (0x0800, 0x86DD, 0x6558, 0x8847, 0x0000):
        proof = weigh(quote(GreHeader(protocol_type=kind)), found, 0)
        assert (proof is not Proof.NOT_OURS) == (kind in carries)
