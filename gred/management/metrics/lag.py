"""How late the event loop is: by how much a timer is, four times a second.

A loop that is late moves packets late.
"""

import asyncio
import time
from bisect import bisect_left
from dataclasses import dataclass

EVERY = 0.25  # seconds
# Seconds; the loop's own timers are exact to a millisecond.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class Lags:
    """How often a timer was late by at most each of BOUNDS, one more: by more. *total* in seconds.

    *counts* are not cumulative.
    """

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    total: float = 0.0


class LagMeter:
    """Measures from ``start`` to ``stop``; what was measured stays."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._due = time.monotonic() + EVERY
        self._timer = self._loop.call_later(EVERY, self._fire)

    def stop(self) -> None:
        """Measure no more. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def lags(self) -> Lags:
        """Return what was measured so far."""
        return Lags(tuple(self._counts), self._total)

    def note(self, late: float) -> None:
        """Count a timer that was *late* seconds late."""
        late = max(late, 0.0)
        self._counts[bisect_left(BOUNDS, late)] += 1
        self._total += late

    def _fire(self) -> None:
        self.note(time.monotonic() - self._due)
        self.start()
