"""Who removes again and again is met more and more seldom, and forgotten after a while."""

from gred.control.contest import AT_MOST, FIRST, MANY, WINDOW, Contest


def waits(contest: Contest, count: int, *, start: float = 100.0) -> list[float]:
    """Remove what was put back at once, *count* times; return how long each was waited with."""
    now, found = start, []
    for _ in range(count):
        contest.removed(now)
        found.append(contest.due - now)
        now = contest.due
    return found


def test_the_first_removals_are_answered_at_once_and_later_ones_wait_ever_longer() -> None:
    contest = Contest()
    found = waits(contest, 15)
    assert found[: MANY - 1] == [0.0] * (MANY - 1)
    assert found[MANY - 1 : MANY + 3] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert max(found) == found[-1] == AT_MOST
    assert contest.told == f"removed {MANY} times in 1 s"


def test_seldom_removals_are_no_contest() -> None:
    contest = Contest()
    for number in range(20):
        contest.removed(number * WINDOW / 3)
        assert contest.due == number * WINDOW / 3
    assert contest.told == ""


def test_it_tells_in_how_long_a_time() -> None:
    contest = Contest()
    for number in range(MANY):
        contest.removed(100.0 + 8 * number)
    assert contest.told == f"removed {MANY} times in 32 s"


def test_after_a_quiet_time_it_is_forgotten() -> None:
    contest = Contest()
    waits(contest, 8)
    last = contest.due
    contest.removed(last + WINDOW - 1)
    assert contest.due > last + WINDOW - 1, "not yet"
    quiet = contest.due + WINDOW
    contest.removed(quiet)
    assert contest.due == quiet
    assert contest.told == ""


def test_what_is_put_back_must_hold_for_as_long_as_was_waited() -> None:
    contest = Contest()
    waits(contest, MANY + 1)
    assert contest.holds_at() - contest.due == 2 * FIRST
