"""Waiting for what no event tells: a condition looked at again and again, up to a deadline."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T | None], what: str, timeout: float = 30.0, *, pause: float = 0.01
) -> T:
    """Return the first true value of *condition*, which is asked every *pause* seconds.

    Raises TimeoutError, which says *what* was waited for, when there was none in *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {timeout:g} s: {what}")
        time.sleep(pause)
    return value
