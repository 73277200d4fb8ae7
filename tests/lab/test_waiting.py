"""Waiting: the first true value, or a deadline that says what was waited for."""

import pytest

from gred.lab.waiting import wait_for


def test_the_first_true_value_is_returned() -> None:
    values = iter([0, "", None, 7, 8])
    assert wait_for(lambda: next(values), "a value", pause=0.0) == 7


def test_what_never_comes_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"^not in 0 s: a value$"):
        wait_for(lambda: False, "a value", 0.0)


def test_what_is_there_is_not_waited_for() -> None:
    assert wait_for(lambda: True, "a value", 0.0)
