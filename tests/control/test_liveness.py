"""Keepalives against a clock of our own: who is up, when, and what forgeries are worth."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.control.cookies import COOKIE
from gred.control.liveness import WINDOW, Life, Liveness

INTERVAL, RETRIES = 10.0, 3


def made(interval: float = INTERVAL, retries: int = RETRIES, about: bytes = b"") -> Liveness:
    return Liveness(interval, retries, about)


def answer(liveness: Liveness, now: float, rtt: float = 0.02) -> bool:
    """Ask at *now* and let the answer arrive after *rtt*."""
    return liveness.heard(liveness.ask(now), now + rtt)


def die(liveness: Liveness, now: float) -> float:
    """Answer nothing until it is down; return when that was."""
    while liveness.life is not Life.DOWN:
        now = liveness.wakes()
        liveness.look(now)
        if liveness.due <= now:
            liveness.ask(now)
    return now


def revive(liveness: Liveness, now: float) -> int:
    """Answer everything until it is up; return how many answers that took."""
    count = 0
    while liveness.life is not Life.UP:
        answer(liveness, now + count * INTERVAL)
        count += 1
        assert count < 1000
    return count


class TestLife:
    def test_it_begins_down_and_asks_at_once(self) -> None:
        liveness = made()
        assert (liveness.life, liveness.due, liveness.since) == (Life.DOWN, 0.0, None)

    def test_who_never_answers_is_awaited_for_as_long_as_who_no_longer_does(self) -> None:
        liveness = made()
        liveness.ask(100.0)
        assert liveness.wakes() == 110.0
        assert (liveness.look(129.9), liveness.is_silent) == (False, False)
        assert (liveness.look(130.0), liveness.is_silent) == (True, True)
        assert not liveness.look(1000.0), "it is silent once"
        assert liveness.transitions == 0

    def test_the_first_answer_is_enough_at_first(self) -> None:
        liveness = made()
        assert answer(liveness, 100.0)
        assert (liveness.life, liveness.since) == (Life.UP, 100.02)

    def test_it_goes_down_when_nothing_is_heard_for_the_interval_times_the_retries(self) -> None:
        liveness = made()
        answer(liveness, 100.0)
        for at in (110.0, 120.0, 130.0):
            liveness.ask(at)
            assert not liveness.look(at)
        assert liveness.wakes() == pytest.approx(130.02)
        assert not liveness.look(130.01)
        assert liveness.look(130.02)
        assert liveness.life is Life.DOWN
        assert liveness.is_silent
        assert liveness.since == 130.02
        assert not liveness.look(200.0), "it is down once"

    def test_one_answer_of_three_keeps_it_up(self) -> None:
        liveness = made()
        for at in range(100, 1000, 10):
            cookie = liveness.ask(at)
            if at % 30 == 10:
                liveness.heard(cookie, at + 0.1)
            assert not (at > 110 and liveness.look(at + 5))
        assert liveness.life is Life.UP

    def test_each_failure_asks_for_more_answers(self) -> None:
        liveness, now, taken = made(), 100.0, []
        for _ in range(8):
            taken.append(revive(liveness, now) - 1)
            now = die(liveness, now + 10_000)
            now += 10_000
        assert taken == [0, 3, 6, 12, 24, 48, 48, 48]

    def test_each_answer_while_up_forgives_one(self) -> None:
        liveness = made()
        for at in (0.0, 1000.0, 2000.0):
            revive(liveness, at)
            die(liveness, at + 500)
        revive(liveness, 3000.0)
        for at in range(10):
            answer(liveness, 4000.0 + at)
        die(liveness, 5000.0)
        assert revive(liveness, 6000.0) - 1 == 2 * (12 - 10)

    def test_silence_in_hold_begins_anew(self) -> None:
        liveness = made()
        answer(liveness, 0.0)
        die(liveness, 100.0)
        answer(liveness, 200.0)
        assert (liveness.life, liveness.missing) == (Life.HOLD, 3)
        transitions = liveness.transitions
        assert liveness.look(300.0)
        assert liveness.life is Life.DOWN
        assert liveness.transitions == transitions


class TestBelief:
    def test_a_bare_answer_counts_until_a_cookie_came_back(self) -> None:
        liveness = made()
        liveness.ask(0.0)
        assert liveness.heard(b"", 0.1)
        cookie = liveness.ask(10.0)
        liveness.heard(cookie, 10.1)
        assert liveness.proven
        liveness.ask(20.0)
        liveness.heard(b"", 20.1)
        assert liveness.ignored == 1
        assert liveness.look(40.1), "a forged answer keeps nobody alive"

    def test_padding_is_no_forgery(self) -> None:
        liveness = made()
        liveness.ask(0.0)
        assert liveness.heard(bytes(22), 0.1)
        assert liveness.heard(liveness.ask(10.0) + bytes(6), 10.1) is False
        assert liveness.ignored == 0

    @given(st.binary(max_size=40).filter(any))
    def test_other_bytes_are_never_believed(self, trailer: bytes) -> None:
        liveness = made()
        liveness.ask(0.0)
        assert not liveness.heard(trailer, 0.1)
        assert liveness.life is Life.DOWN

    def test_a_cookie_of_another_is_not_believed(self) -> None:
        one, other = made(about=b"Tunnel-1"), made(about=b"Tunnel-2")
        other.ask(0.0)
        assert not other.heard(one.ask(0.0), 0.1)

    def test_nor_is_one_for_another_remote_by_the_same_secret(self) -> None:
        secret = bytes(16)
        one, other = (
            Liveness(INTERVAL, RETRIES, about, secret=lambda _size: secret)
            for about in (b"Tunnel-1\0a", b"Tunnel-1\0b")
        )
        other.ask(0.0)
        assert not other.heard(one.ask(0.0), 0.1)

    def test_an_answer_counts_once(self) -> None:
        """Who records an answer can play it back for ever."""
        liveness = made()
        cookie = liveness.ask(0.0)
        liveness.heard(cookie, 0.1)
        for at in (10.0, 20.0, 29.0):
            liveness.ask(at)
            liveness.heard(cookie, at + 0.1)
        assert liveness.ignored == 3
        assert liveness.look(30.1)

    def test_an_answer_that_comes_too_late_does_not_count(self) -> None:
        liveness = made()
        cookie = liveness.ask(0.0)
        assert not liveness.heard(cookie, 30.1)

    def test_a_late_answer_of_an_earlier_request_counts(self) -> None:
        liveness = made()
        cookie = liveness.ask(0.0)
        liveness.ask(10.0)
        assert liveness.heard(cookie, 12.0)

    def test_before_anything_was_asked_nothing_is_an_answer(self) -> None:
        liveness = made()
        assert not liveness.heard(b"", 0.0)
        assert not liveness.heard(bytes(COOKIE), 0.0)

    def test_what_is_awaited_is_of_the_last_requests(self) -> None:
        liveness = made()
        first, second, third = (liveness.ask(at) for at in (0.0, 10.0, 20.0))
        assert liveness.awaited() == [second, third]
        liveness.heard(third, 20.1)
        assert liveness.awaited() == [second]
        assert not liveness.heard(first, 30.0)

    def test_no_cookie_comes_twice(self) -> None:
        liveness = made()
        cookies = {liveness.ask(float(at)) for at in range(200)}
        assert len(cookies) == 200
        assert {len(cookie) for cookie in cookies} == {COOKIE}


class TestFigures:
    def test_nothing_is_known_at_first(self) -> None:
        figures = made().figures(0.0)
        assert (figures.least, figures.mean, figures.greatest) == (None, None, None)
        assert (figures.asked, figures.lost) == (0, 0)

    def test_round_trips_and_losses(self) -> None:
        liveness = made()
        for at, rtt in ((0.0, 0.01), (10.0, 0.03), (20.0, 0.02)):
            answer(liveness, at, rtt)
        liveness.ask(30.0)
        figures = liveness.figures(35.0)
        assert (figures.asked, figures.lost) == (3, 0), "the last may still be answered"
        figures = liveness.figures(40.0)
        assert (figures.asked, figures.lost) == (4, 1)
        assert figures.least == pytest.approx(0.01)
        assert figures.mean == pytest.approx(0.02)
        assert figures.greatest == pytest.approx(0.03)

    def test_what_takes_longer_than_the_interval_is_not_lost(self) -> None:
        """As over a satellite: three requests are always under way."""
        liveness, cookies = made(interval=0.2), []
        for number in range(20):
            at = number * 0.2
            cookies.append(liveness.ask(at))
            if number >= 3:
                liveness.heard(cookies[number - 3], at - 0.05)
        figures = liveness.figures(19 * 0.2 + 0.1)
        assert figures.least == pytest.approx(0.55)
        assert (figures.asked, figures.lost) == (17, 0)

    def test_only_the_last_are_remembered(self) -> None:
        liveness = made()
        for at in range(WINDOW * 3):
            liveness.ask(float(at))
        assert liveness.figures(1e6).asked == WINDOW


@given(
    st.lists(st.sampled_from(["answered", "lost", "forged"]), min_size=1, max_size=200),
    st.integers(1, 5),
)
def test_whatever_happens(steps: list[str], retries: int) -> None:
    """Up only after an answer, down only after silence, and always due within the interval."""
    liveness, now, changes = made(retries=retries), 0.0, []
    answered = float("-inf")
    for step in steps:
        cookie = liveness.ask(now)
        assert now < liveness.wakes() <= now + INTERVAL
        if step == "answered":
            answered = now + 0.5
            if liveness.heard(cookie, answered):
                changes.append((liveness.life, answered))
        elif step == "forged":
            assert not liveness.heard(b"\1" * COOKIE, now + 0.5)
        now += INTERVAL
        was = liveness.life
        if liveness.look(now) and was is Life.UP:
            changes.append((liveness.life, now))
        assert liveness.is_silent is (now - max(answered, 0.0) >= INTERVAL * retries)
        if liveness.life is Life.UP:
            assert now - answered < INTERVAL * retries
    for (one, _), (other, _) in pairwise(changes):
        assert one != other
    assert liveness.transitions == len(changes)
