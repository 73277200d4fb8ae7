"""Events as log lines, and a limit for those that packets cause."""

from ipaddress import ip_address

from gred.control.events import (
    Event,
    NoTunnels,
    PacketRefused,
    PeerLearned,
    PeerMoved,
    TunnelDown,
)
from gred.management.events import EventLog
from gred.wire.drop import DropReason
from tests.management.doubles import Clock, RememberingLog

HERE, THERE = ip_address("192.0.2.7"), ip_address("192.0.2.8")


def refused(reason: DropReason = DropReason.KEY_MISMATCH, tunnel: str | None = "Tunnel-1") -> Event:
    return PacketRefused(tunnel=tunnel, reason=reason, key=0)


def test_an_event_becomes_a_line_of_its_level() -> None:
    log = RememberingLog()
    EventLog(log.logger)(NoTunnels(detail="none"))
    line = log.only("no_tunnels")
    assert line.level == "warning"
    assert line.fields == {"detail": "none"}


def test_an_empty_text_is_left_out_and_a_zero_is_not() -> None:
    log = RememberingLog()
    EventLog(log.logger)(refused())
    fields = log.only("packet_refused").fields
    assert fields == {"tunnel": "Tunnel-1", "reason": "key_mismatch", "key": 0}


def test_events_that_no_packet_causes_are_all_told() -> None:
    log = RememberingLog()
    tell = EventLog(log.logger, clock=Clock())
    for _ in range(100):
        tell(TunnelDown())
    assert len(log.lines) == 100


def test_refused_packets_of_one_kind_are_limited_and_the_rest_is_told() -> None:
    log, clock = RememberingLog(), Clock()
    tell = EventLog(log.logger, clock=clock)
    for _ in range(10):
        tell(refused())
    assert len(log.lines) == 3
    clock.now += 10
    tell(refused())
    assert log.lines[-1].fields["suppressed"] == 7


def test_a_flood_of_new_peers_does_not_fill_the_log() -> None:
    log = RememberingLog()
    tell = EventLog(log.logger, clock=Clock())
    for number in range(100):
        inner = ip_address(f"10.0.0.{number}")
        tell(PeerLearned(tunnel="hub", inner=inner, remote=HERE))
    tell(PeerMoved(tunnel="hub", inner=ip_address("10.0.0.1"), remote=THERE, before=HERE))
    assert len(log.lines) == 4


def test_a_flood_of_one_kind_hides_no_other() -> None:
    log = RememberingLog()
    tell = EventLog(log.logger, clock=Clock())
    for _ in range(10):
        tell(refused())
    tell(refused(DropReason.CSUM_ERR))
    tell(refused(tunnel="Tunnel-2"))
    tell(refused(tunnel=None))
    assert len(log.lines) == 6
