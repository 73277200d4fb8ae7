"""A token bucket that remembers what it refused.

Nothing here reads a clock: the caller's is handed in.
"""

from collections.abc import Callable


class TokenBucket:
    """Lets *rate* lines per second through, *burst* at once."""

    def __init__(self, *, rate: float, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._filled = clock()
        self._refused = 0

    def take(self) -> bool:
        """Take one token. False, and counted, when none is left."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            self._refused += 1
            return False
        self._tokens -= 1
        return True

    def suppressed(self) -> int:
        """Return how many were refused since the last call."""
        refused, self._refused = self._refused, 0
        return refused
