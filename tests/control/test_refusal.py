"""Errors about outer packets: the sentences, and when they are over."""

from ipaddress import ip_address

import pytest

from gred.control.refusal import GRACE, QUIET, Refusal, describe
from gred.dataplane.forwarder import UnderlayError
from gred.wire.icmp import ErrorKind

REMOTE, ROUTER = ip_address("192.0.2.2"), ip_address("198.51.100.1")
PROHIBITED = UnderlayError("t", ErrorKind.PROHIBITED, ROUTER)
NO_PROTOCOL = UnderlayError("t", ErrorKind.PROTOCOL_UNREACHABLE, REMOTE)


@pytest.mark.parametrize(
    ("kind", "offender", "sentence"),
    [
        (
            ErrorKind.PROHIBITED,
            ROUTER,
            "a firewall at 198.51.100.1 refuses protocol 47 (administratively prohibited)",
        ),
        (
            ErrorKind.PROTOCOL_UNREACHABLE,
            REMOTE,
            "192.0.2.2 runs nothing that takes GRE (protocol unreachable)",
        ),
        (
            ErrorKind.TIME_EXCEEDED,
            ROUTER,
            "TTL too small or a routing loop: time exceeded at 198.51.100.1",
        ),
        (
            ErrorKind.HOST_UNREACHABLE,
            ROUTER,
            "198.51.100.1 does not reach 192.0.2.2 (host unreachable)",
        ),
        (
            ErrorKind.PROTOCOL_UNREACHABLE,
            ROUTER,
            "198.51.100.1 does not reach 192.0.2.2 (protocol unreachable)",
        ),
    ],
)
def test_the_sentences(kind: ErrorKind, offender: object, sentence: str) -> None:
    assert offender in {REMOTE, ROUTER}
    who = REMOTE if offender == REMOTE else ROUTER
    assert describe(UnderlayError("t", kind, who), REMOTE) == sentence


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_sentence_that_names_who_says_it(kind: ErrorKind) -> None:
    for who in (REMOTE, ROUTER):
        assert str(who) in describe(UnderlayError("t", kind, who), REMOTE)


def test_a_firewall_is_believed_at_once() -> None:
    refusal = Refusal()
    refusal.take(PROHIBITED, REMOTE, received=5, now=0)
    assert refusal.sentence
    assert refusal.is_open


def test_it_is_over_after_a_quiet_while() -> None:
    refusal = Refusal()
    refusal.take(PROHIBITED, REMOTE, received=5, now=0)
    refusal.check(5, QUIET - 1)
    assert refusal.sentence
    refusal.check(5, QUIET)
    assert not refusal.sentence
    assert not refusal.is_open


def test_packets_from_the_remote_end_it() -> None:
    refusal = Refusal()
    refusal.take(PROHIBITED, REMOTE, received=5, now=0)
    refusal.check(6, GRACE / 2)
    assert refusal.sentence, "they may have been under way"
    refusal.check(6, GRACE)
    assert not refusal.sentence


def test_what_comes_back_at_once_stays_whatever_arrives() -> None:
    """One direction is blocked: no up and down with every packet."""
    refusal = Refusal()
    refusal.take(PROHIBITED, REMOTE, received=5, now=0)
    refusal.check(6, 2)
    refusal.take(PROHIBITED, REMOTE, received=6, now=10)
    refusal.check(7, 15)
    assert refusal.sentence
    refusal.take(PROHIBITED, REMOTE, received=7, now=20)
    refusal.check(8, 25)
    assert refusal.sentence
    refusal.check(9, 20 + QUIET)
    assert not refusal.sentence
    refusal.take(PROHIBITED, REMOTE, received=9, now=20 + 3 * QUIET)
    refusal.check(10, 22 + 3 * QUIET)
    assert not refusal.sentence, "it is forgotten after a quiet while"


def test_a_remote_that_sends_is_not_believed_that_it_takes_nothing() -> None:
    """It says so too when its receive buffer is full."""
    refusal = Refusal()
    refusal.take(NO_PROTOCOL, REMOTE, received=5, now=0)
    assert not refusal.sentence
    refusal.take(NO_PROTOCOL, REMOTE, received=6, now=0.5)
    refusal.check(7, GRACE)
    assert not refusal.sentence
    assert not refusal.is_open


def test_a_silent_remote_is_believed() -> None:
    refusal = Refusal()
    refusal.take(NO_PROTOCOL, REMOTE, received=5, now=0)
    refusal.check(5, GRACE)
    assert refusal.sentence
    refusal.check(6, GRACE + 1)
    assert not refusal.sentence


def test_a_packet_too_big_is_no_refusal() -> None:
    refusal = Refusal()
    refusal.take(UnderlayError("t", ErrorKind.TOO_BIG, ROUTER, 1300), REMOTE, received=0, now=0)
    assert not refusal.is_open
