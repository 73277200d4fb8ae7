"""When what failed is tried again. No clock: times are numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gred.control.retry import AT_MOST, ECHO, FIRST, STEADY, Retry


def test_it_is_due_at_once_and_then_after_longer_and_longer_waits() -> None:
    retry, now, waits = Retry(), 1000.0, []
    assert retry.due <= now
    for _ in range(8):
        retry.failed(now)
        waits.append(retry.due - now)
        now = retry.due
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_change_hastens_the_next_attempt() -> None:
    retry = Retry()
    for now in range(100, 200, 10):
        retry.failed(now)
    retry.hasten(190 + AT_MOST / 2)
    assert retry.due == 190 + AT_MOST / 2


def test_what_an_attempt_stirs_up_itself_hastens_nothing() -> None:
    retry = Retry()
    for now in (100.0, 101.0, 103.0):
        retry.failed(now)
    due = retry.due
    retry.hasten(103.0 + ECHO / 2)
    assert retry.due == due


def test_what_breaks_after_a_steady_while_is_tried_at_once() -> None:
    retry = Retry()
    for now in (1.0, 2.0, 4.0):
        retry.failed(now)
    retry.worked(8.0)
    retry.broke(8.0 + STEADY)
    assert retry.due == 8.0 + STEADY
    retry.worked(8.5 + STEADY)
    retry.broke(9.0 + STEADY)
    assert retry.due == 9.0 + STEADY + FIRST, "but not what breaks again and again"


@given(st.lists(st.tuples(st.sampled_from(["hasten", "attempt"]), st.floats(0.05, 2.0))))
def test_changes_without_end_never_make_a_busy_loop(steps: list[tuple[str, float]]) -> None:
    retry, now, attempts = Retry(), 1000.0, [1000.0]
    retry.failed(now)
    for step, seconds in steps:
        now += seconds
        retry.hasten(now)
        if step == "attempt" and retry.due <= now:
            retry.failed(now)
            attempts.append(now)
    waits = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    for number, wait in enumerate(waits):
        assert wait >= min(max(FIRST, FIRST * 2**number / 4), AT_MOST / 4) - 1e-6
