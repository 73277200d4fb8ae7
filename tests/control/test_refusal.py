"""Errors about outer packets: the sentences, and when they are over."""

from ipaddress import ip_address

import pytest

from gred.config.model import IPAddress
from gred.control.refusal import (
    ASKED,
    CHECK_EVERY,
    FORGOTTEN,
    SILENCE,
    SOON,
    STUBBORN,
    Evidence,
    Refusal,
    describe,
)
from gred.dataplane.plane import UnderlayError
from gred.dataplane.traffic import Traffic
from gred.wire.icmp import ErrorKind

REMOTE, ROUTER = ip_address("192.0.2.2"), ip_address("198.51.100.1")
PROHIBITED = UnderlayError("t", ErrorKind.PROHIBITED, ROUTER)
NO_PROTOCOL = UnderlayError("t", ErrorKind.PROTOCOL_UNREACHABLE, REMOTE)


class Story:
    """What happens to one tunnel, second by second, and what is said of it meanwhile."""

    def __init__(self) -> None:
        self.refusal = Refusal()
        self.now = 0.0
        self.sent = self.received = 0
        self.error_at, self.then, self.heard = float("-inf"), Traffic(), float("-inf")
        self.said = list[bool]()

    def error(self, error: UnderlayError) -> None:
        """Let an error come, a moment after the last check. It is always told."""
        self.error_at = self.heard = self.now
        self.then = Traffic(self.sent, self.received)
        self.refusal.take(error, REMOTE, self.then, self.now)
        self._note()

    def second(
        self,
        *,
        sent: int = 0,
        received: int = 0,
        error: UnderlayError | None = None,
        seconds: int = 1,
    ) -> bool:
        """Let *seconds* pass, each with so many packets; return whether it is refused then.

        *error*: told in each of them, about what is sent in it.
        """
        for _ in range(seconds):
            self.now += CHECK_EVERY / 2
            self.sent += sent
            if error is not None:
                self.error(error)
            self.received += received
            self.now += CHECK_EVERY / 2
            if self.refusal.is_open:
                traffic = Traffic(self.sent, self.received)
                evidence = Evidence(traffic, self.error_at, self.then, self.heard)
                self.refusal.check(evidence, self.now)
            self._note()
        return bool(self.refusal.sentence)

    def _note(self) -> None:
        if bool(self.refusal.sentence) != (self.said[-1] if self.said else False):
            self.said.append(bool(self.refusal.sentence))


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
    story = Story()
    story.error(PROHIBITED)
    assert story.refusal.sentence


def test_time_alone_ends_nothing() -> None:
    """Who sends nothing hears of no error."""
    story = Story()
    story.second(sent=1, error=PROHIBITED)
    assert story.second(seconds=1000)


def test_a_firewall_that_answers_everything_is_told_once() -> None:
    story = Story()
    for pause in (0, 0, 1, 5, 40, 700):
        story.second(sent=1, error=PROHIBITED)
        assert story.second(seconds=pause or 1)
    assert story.said == [True]


def test_silence_while_we_send_ends_it() -> None:
    story = Story()
    story.second(sent=9, error=PROHIBITED)
    assert story.second(sent=9, seconds=SILENCE - 1)
    assert not story.second(sent=9)
    assert not story.refusal.is_open


def test_silence_counts_only_seconds_in_which_something_was_sent() -> None:
    story = Story()
    story.second(sent=1, error=PROHIBITED)
    for number in range(SILENCE):
        assert story.second(seconds=10)
        assert story.second(sent=1) == (number < SILENCE - 1)


def test_errors_about_other_tunnels_explain_the_silence() -> None:
    """A host sends one error a second, whatever number of tunnels leads to it."""
    story = Story()
    story.second(sent=9, error=PROHIBITED)
    for _ in range(100):
        story.heard = story.now + CHECK_EVERY / 2
        assert story.second(sent=9, received=9)
    assert not story.second(sent=9, seconds=SILENCE + 1)


def test_answers_end_it_sooner() -> None:
    story = Story()
    story.second(sent=1, error=PROHIBITED)
    assert story.second(sent=1, received=1), "it may have been under way"
    assert story.second(sent=1, received=1, seconds=2), "a router may ask for its neighbour"
    assert not story.second(sent=1, received=1, seconds=2)


def test_one_direction_that_is_blocked_does_not_alternate() -> None:
    """What the remote sends by itself says nothing of the way to it."""
    story = Story()
    for _ in range(50):
        story.second(sent=1, error=PROHIBITED)
        story.second(received=1, seconds=9)
    assert story.said == [True]


def test_a_slow_sender_of_errors_makes_few_changes() -> None:
    """One error a minute, while packets go there and others come from there."""
    story = Story()
    for _ in range(60):
        story.second(sent=9, received=1, error=PROHIBITED)
        story.second(sent=9, received=1, seconds=59)
    assert len(story.said) <= 3


@pytest.mark.parametrize("every", [3, 5, 8, 20])
def test_whatever_the_interval_of_errors_states_do_not_alternate_for_long(every: int) -> None:
    story = Story()
    for _ in range(1800 // every):
        story.second(sent=9, received=1, error=PROHIBITED)
        story.second(sent=9, received=1, seconds=every - 1)
    assert len(story.said) <= 7
    settled = len(story.said)
    for _ in range(1800 // every):
        story.second(sent=9, received=1, error=PROHIBITED)
        story.second(sent=9, received=1, seconds=every - 1)
    assert len(story.said) - settled <= 2


def test_a_remote_is_believed_when_it_says_so_again_and_sends_nothing() -> None:
    story = Story()
    assert not story.second(sent=1, error=NO_PROTOCOL, seconds=2)
    assert story.second(sent=1, error=NO_PROTOCOL)
    assert story.second(seconds=60)
    story.second(received=1)
    assert story.said == [True, False]


def test_a_daemon_that_starts_a_moment_later_is_not_blamed() -> None:
    story = Story()
    story.second(sent=1, error=NO_PROTOCOL)
    story.second(seconds=1000)
    assert story.said == []
    assert not story.refusal.is_open


def test_a_full_buffer_for_a_moment_is_no_refusal() -> None:
    """Nothing ever comes back: the remote only listens."""
    story = Story()
    for _ in range(20):
        story.second(sent=99, error=NO_PROTOCOL, seconds=2)
        story.second(sent=99, seconds=SILENCE + 1)
    assert story.said == []


def test_a_remote_that_stops_and_goes_on_is_refused_no_longer_than_it_lasts() -> None:
    story = Story()
    story.second(sent=99, error=NO_PROTOCOL, seconds=10)
    assert story.refusal.sentence
    assert not story.second(sent=99, seconds=SILENCE + 1)
    assert story.said == [True, False]


def test_a_remote_that_sends_is_not_believed_that_it_takes_nothing() -> None:
    """It says so too when its receive buffer is full."""
    story = Story()
    story.second(sent=99, received=1, error=NO_PROTOCOL, seconds=100)
    assert story.said == []


def test_a_remote_that_sends_now_and_then_does_not_alternate_for_long() -> None:
    """A kernel that rejects what a program beside it takes."""
    story = Story()
    for _ in range(200):
        story.second(sent=9, error=NO_PROTOCOL, seconds=9)
        story.second(sent=9, received=1, error=NO_PROTOCOL)
    assert len(story.said) <= 6


def test_one_that_is_not_believed_is_forgotten() -> None:
    story = Story()
    story.second(sent=1, error=NO_PROTOCOL)
    story.second(seconds=int(FORGOTTEN))
    assert not story.refusal.is_open


def test_long_after_its_end_a_refusal_begins_as_the_first_did() -> None:
    story = Story()
    story.second(sent=1, error=PROHIBITED)
    story.second(sent=1, seconds=SILENCE + 1)
    story.second(sent=1, seconds=int(SOON))
    story.error(PROHIBITED)
    assert story.said == [True, False, True]


def test_what_stopped_taking_packets_is_not_said_to_have_nothing() -> None:
    sentence = describe(NO_PROTOCOL, REMOTE, is_known=True)
    assert sentence == "192.0.2.2 takes GRE no more, or does not keep up (protocol unreachable)"


def test_a_packet_too_big_is_no_refusal() -> None:
    refusal = Refusal()
    error = UnderlayError("t", ErrorKind.TOO_BIG, ROUTER, 1300)
    refusal.take(error, REMOTE, Traffic(), now=0)
    assert not refusal.is_open


def test_a_remote_that_refuses_and_sends_is_believed_after_a_while_if_it_answers_nothing() -> None:
    """Its firewall lets its own packets pass."""
    story = Story()
    for _ in range(ASKED):
        story.second(sent=1, received=1, error=NO_PROTOCOL)
        story.refusal.note_inquiry()
    assert not story.refusal.sentence
    assert story.second(sent=1, received=1, error=NO_PROTOCOL, seconds=int(STUBBORN))
    assert story.second(sent=1, received=1, seconds=SILENCE - 2), "what arrives means nothing"
    assert not story.second(sent=1, received=1, seconds=3)
    assert story.said == [True, False]


def test_a_remote_that_was_not_asked_is_not_believed() -> None:
    story = Story()
    assert not story.second(sent=1, received=1, error=NO_PROTOCOL, seconds=100)


def test_an_answer_disproves_what_a_stranger_says_of_a_tunnel_that_works() -> None:
    story = Story()
    story.second(sent=1, received=1)
    for _ in range(50):
        story.second(sent=1, received=1, error=PROHIBITED)
        story.refusal.note_inquiry()
        story.refusal.disprove()
    assert story.said == []
    assert story.second(sent=1, received=1, error=PROHIBITED, seconds=4), "it answers no more"


def test_one_error_about_a_tunnel_that_has_worked_asks_the_remote() -> None:
    """The inquiry brings the next error, though nobody else sends."""
    story = Story()
    story.second(sent=1, received=1)
    story.second(sent=1, error=PROHIBITED)
    evidence = Evidence(Traffic(2, 1), story.now, Traffic(2, 1))
    assert story.refusal.wants_inquiry(evidence)
    assert not story.refusal.sentence
    assert story.second(sent=1, error=PROHIBITED, seconds=2)
    assert not story.refusal.wants_inquiry(evidence), "until something arrives"
    assert story.refusal.wants_inquiry(evidence._replace(traffic=Traffic(5, 2)))


@pytest.mark.parametrize(
    ("kind", "offender", "is_known", "sentence"),
    [
        (
            *(ErrorKind.PROHIBITED, ROUTER, False),
            "a firewall at 198.51.100.1 refuses UDP port 4754 (administratively prohibited)",
        ),
        (
            *(ErrorKind.PORT_UNREACHABLE, REMOTE, False),
            "192.0.2.2 runs nothing that takes GRE at UDP port 4754 (port unreachable)",
        ),
        (
            *(ErrorKind.PORT_UNREACHABLE, REMOTE, True),
            "192.0.2.2 takes GRE at UDP port 4754 no more (port unreachable)",
        ),
    ],
)
def test_in_udp_it_is_the_port(
    kind: ErrorKind, offender: IPAddress, is_known: bool, sentence: str
) -> None:
    error = UnderlayError("t", kind, offender, port=4754)
    assert describe(error, REMOTE, is_known=is_known) == sentence
