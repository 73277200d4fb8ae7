"""When to put back what somebody removes again and again. Pure: times in, times out; seconds."""

from math import ceil

MANY = 5  # removals; the first ones are answered at once
WINDOW = 60.0  # within so long they are no coincidence; and after so long without one it is over
FIRST = 1.0  # until the repair after that; each further wait is twice as long
AT_MOST = 60.0


class Contest:
    """The removals of one tunnel's settings, one after another; each is to be repaired at *due*."""

    __slots__ = ("_times", "_wait", "due", "told")

    def __init__(self) -> None:
        self.due = 0.0
        """When to put back what is missing."""
        self.told = ""
        """How often it was removed, in words; empty while that is no trouble."""
        self._times: tuple[float, ...] = ()
        self._wait = 0.0

    def removed(self, now: float) -> None:
        """Note that what was there is missing, at *now*."""
        if self._times and now - max(self._times[-1], self.due) >= WINDOW:
            self._times, self._wait, self.told = (), 0.0, ""
        self._times = (*self._times, now)[-MANY:]
        self.due = now
        span = now - self._times[0]
        if self._wait or (len(self._times) == MANY and span <= WINDOW):
            self.told = self.told or f"removed {MANY} times in {max(ceil(span), 1)} s"
            self._wait = min(2 * self._wait, AT_MOST) or FIRST
            self.due = now + self._wait

    def holds_at(self) -> float:
        """Return when what is put back when it is due has held for long enough to be believed."""
        return self.due + self._wait
