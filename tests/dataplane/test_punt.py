"""Reports are few, whatever happens."""

from gred.dataplane.punt import Allowance


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
