"""-vv and -vvv: packets as lines, but not more than a person can follow."""

from typing import Any

from gred.management.ratelimit import TokenBucket
from gred.management.tracing import PacketTracer
from gred.wire.drop import DropReason
from tests.management.doubles import Clock, Packet, RememberingLog


def tracer(log: RememberingLog, clock: Clock, *, hexdump: bool = False) -> Any:
    return PacketTracer(
        log.logger, lambda packet: f"line of {len(packet.data)}", hexdump=hexdump, clock=clock
    )


def test_a_packet_is_a_line_with_keys() -> None:
    log = RememberingLog()
    tracer(log, Clock())(Packet(b"abc", reason=DropReason.CSUM_ERR))
    assert log.only("packet").fields == {
        "text": "line of 3",
        "direction": "rx",
        "tunnel": "Tunnel-1",
        "reason": DropReason.CSUM_ERR,
    }


def test_a_packet_that_passed_has_no_reason() -> None:
    log = RememberingLog()
    tracer(log, Clock())(Packet(b"abc"))
    assert "reason" not in log.only("packet").fields


def test_hex_is_added_when_asked_for() -> None:
    log = RememberingLog()
    tracer(log, Clock(), hexdump=True)(Packet(b"abc"))
    assert log.only("packet").fields["hex"] == "616263"


def test_hex_of_a_merged_packet_is_cut_and_says_so() -> None:
    log = RememberingLog()
    tracer(log, Clock(), hexdump=True)(Packet(bytes(60000)))
    fields = log.only("packet").fields
    assert len(fields["hex"]) == 2 * 2048
    assert fields["text"].endswith("(hex of the first 2048 of 60000 bytes)")


def test_what_is_too_much_is_counted_and_told_once_in_a_second() -> None:
    log, clock = RememberingLog(), Clock()
    trace = tracer(log, clock)
    for _ in range(150):
        trace(Packet(b"abc"))
    clock.now += 0.5
    trace(Packet(b"abc"))
    assert log.events() == ["packet"] * 101
    clock.now += 0.5
    trace(Packet(b"abc"))
    assert log.events()[101:] == ["packets_suppressed", "packet"]
    assert log.only("packets_suppressed").fields == {"count": 50}


def test_a_flood_that_ends_is_told_at_the_next_flush_once() -> None:
    log = RememberingLog()
    trace = tracer(log, Clock())
    for _ in range(101):
        trace(Packet(b"abc"))
    trace.flush()
    trace.flush()
    assert log.only("packets_suppressed").fields == {"count": 1}


def test_a_bucket_fills_at_its_rate_and_not_beyond_its_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(rate=2, burst=3, clock=clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    assert bucket.suppressed() == 3
