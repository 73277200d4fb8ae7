"""When a tunnel counts as denied, and when no more."""

from gred.control.denial import GRACE, QUIET, Denial
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason


def counted(sent: int, denied: int) -> Counters:
    return Counters(sent, 0, 0, 0, {DropReason.DENIED: denied}, {})


def denied_at(now: float, sent: int = 0) -> Denial:
    denial = Denial()
    denial.take(counted(sent, 1), "EPERM", now)
    denial.check(counted(sent, 5), now + GRACE)
    assert denial.sentence
    return denial


def test_nothing_but_denied_packets_is_a_denial_after_a_while() -> None:
    denial = Denial()
    denial.take(counted(7, 1), "EPERM", 100.0)
    denial.check(counted(7, 2), 100.0 + GRACE / 2)
    assert not denial.sentence
    denial.check(counted(7, 3), 100.0 + GRACE)
    assert "firewall or an IPsec policy" in denial.sentence
    assert "EPERM" in denial.sentence


def test_it_stays_while_nothing_passes_and_ends_with_the_first_that_does() -> None:
    denial = denied_at(0.0)
    denial.check(counted(0, 5), 1000.0)
    assert denial.sentence
    assert denial.is_open
    denial.check(counted(1, 5), 1001.0)
    assert not denial.sentence
    assert not denial.is_open


def test_where_others_pass_it_is_none() -> None:
    denial = Denial()
    denial.take(counted(7, 1), "EPERM", 0.0)
    denial.check(counted(8, 100), GRACE)
    assert not denial.sentence
    assert not denial.is_open


def test_a_single_packet_is_none() -> None:
    denial = Denial()
    denial.take(counted(7, 1), "EPERM", 0.0)
    denial.check(counted(7, 1), GRACE)
    assert not denial.sentence
    assert not denial.is_open


def test_some_that_pass_now_and_then_do_not_make_it_flap() -> None:
    denial = denied_at(0.0)
    denial.check(counted(1, 6), 5.0)
    denial.take(counted(1, 7), "EPERM", 6.0)
    denial.check(counted(1, 20), 6.0 + 2 * GRACE)
    assert not denial.sentence
    denial.check(counted(2, 30), 20.0)
    denial.take(counted(2, 31), "EPERM", 21.0)
    denial.check(counted(2, 90), 5.0 + QUIET - 1)
    assert not denial.sentence
    denial.check(counted(2, 99), 21.0 + QUIET)
    assert denial.sentence


def test_who_it_was_is_said() -> None:
    denial = Denial()
    denial.take(counted(7, 1), "EPERM", 100.0, "an IPsec policy of this host")
    denial.check(counted(7, 3), 100.0 + GRACE)
    assert denial.sentence == "an IPsec policy of this host refuses every outer packet (EPERM)"
