"""When to try again what failed. Pure: times in, times out; seconds of any one clock."""

FIRST = 1.0  # until the second attempt; each further wait is twice as long
AT_MOST = 30.0
STEADY = 30.0  # what ran for so long has left its earlier failures behind
ECHO = 1.0  # what the kernel tells of so soon after an attempt is of our own making


class Retry:
    """The attempts at one thing, one after another; due at once at first.

    A change in the kernel hastens the next attempt: the cause may be gone. An attempt makes changes
    of its own, however, and so would hasten the next for ever: what follows it closely does not
    count, and no change cuts a wait to less than a quarter.
    """

    __slots__ = ("_at", "_wait", "due")

    def __init__(self) -> None:
        self.due = 0.0
        """When to try next."""
        self._wait = 0.0
        self._at = 0.0

    def failed(self, now: float) -> None:
        """Note that an attempt failed, at *now*."""
        self._wait = min(2 * self._wait, AT_MOST) or FIRST
        self._at = now
        self.due = now + self._wait

    def worked(self, now: float) -> None:
        """Note that an attempt worked, at *now*."""
        self._at = now

    def broke(self, now: float) -> None:
        """Note that what had worked is broken: to be tried at once, unless it breaks ever again."""
        if now - self._at >= STEADY:
            self._wait = 0.0
        if self._wait:
            self.failed(now)
        else:
            self._wait, self._at, self.due = FIRST / 2, now, now

    def hasten(self, now: float) -> None:
        """Note that something changed, at *now*."""
        if now - self._at >= ECHO:
            self.due = min(self.due, max(now, self._at + self._wait / 4))
