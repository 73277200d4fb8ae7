"""Reports are few, whatever happens."""

import struct

import pytest

from gred.dataplane.batch import Arrivals
from gred.dataplane.punt import Allowance, Report, describe, inner_destination, report_refused
from gred.wire.drop import DropReason
from tests.dataplane.benches import outer
from tests.dataplane.packets import Packet


def test_a_burst_is_allowed_and_then_no_more() -> None:
    allowance = Allowance(rate=2.0, burst=3.0)
    assert [allowance.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_what_was_used_comes_back_at_the_rate() -> None:
    allowance = Allowance(rate=2.0, burst=3.0)
    assert all(allowance.take(100.0) for _ in range(3))
    assert not allowance.take(100.4)
    assert allowance.take(100.5)
    assert not allowance.take(100.5)


def test_a_long_silence_saves_no_more_than_a_burst() -> None:
    allowance = Allowance(rate=2.0, burst=3.0)
    allowance.take(100.0)
    assert [allowance.take(9999.0) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ("20016400003c1100", "EoIP tunnel id 17, flags 0x2001 protocol 0x6400"),
        ("3001880b003c0005", "PPTP call id 5, flags 0x3001 protocol 0x880b"),
        ("2001640000", "flags 0x2001 protocol 0x6400"),
        ("0000080045000000", "flags 0x0000 protocol 0x0800"),
        ("000008", "no GRE header"),
        ("", "no GRE header"),
    ],
)
def test_a_header_is_described(header: str, text: str) -> None:
    assert describe(bytes.fromhex(header)) == text


def test_where_an_inner_packet_wants_to_go() -> None:
    assert inner_destination(Packet().ip(b"")) == "to 10.0.0.2"
    assert inner_destination(Packet(version=6).ip(b"")) == "to fd00::2"
    assert inner_destination(Packet().ip(b"")[:19]) == ""
    assert inner_destination(b"") == ""


def refused(data: bytes, reason: DropReason, key: int, expected: int | None) -> Report:
    batch = Arrivals()
    entry = batch.datagram(0)
    packet = outer(data)
    batch.arena[64 : 64 + len(packet)] = packet
    entry.offset, entry.length, entry.family = 64, len(packet), 4
    entry.outer_length = 20
    entry.verdict, entry.key = reason, key
    return report_refused(batch, entry, "gre1", expected)


@pytest.mark.parametrize(
    ("flags", "key", "expected", "shown", "detail"),
    [
        (0x2000, 7, 5, 7, "it has key 7, expected key 5"),
        (0x2000, 0, 5, 0, "it has key 0, expected key 5"),
        (0, 0, 5, None, "it has no key, expected key 5"),
        (0x2000, 7, None, 7, "it has key 7, expected no key"),
    ],
)
def test_a_wrong_key_is_told_beside_the_right_one(
    flags: int, key: int, expected: int | None, shown: int | None, detail: str
) -> None:
    data = struct.pack("!HHI", flags, 0x0800, key)
    report = refused(data, DropReason.KEY_MISMATCH, key, expected)
    assert (report.key, report.detail) == (shown, detail)


def test_no_key_is_shown_that_is_none() -> None:
    """EoIP has the bit of the key, and a length and an id in its place."""
    report = refused(bytes.fromhex("20016400003c1100"), DropReason.EOIP, 0, None)
    assert (report.key, report.detail) == (None, "EoIP tunnel id 17, flags 0x2001 protocol 0x6400")
