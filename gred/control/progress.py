"""How far a long piece of work is, for whoever waits for its end. Decides and tells nothing.

Written from the loop or the one thread that works for it, read on the loop.
"""


class Progress:
    """Counts tunnels through one step of the work after the other.

    *str()* is a line such as ``120 of 300 tunnels configured``, empty before the first step. Two
    that are equal mean that nothing was done in between.
    """

    def __init__(self) -> None:
        self._what = ""
        self._total = 0
        self._done = 0

    def begin(self, what: str, total: int) -> None:
        """Begin a step: *what* is done to each of *total* tunnels, as a participle."""
        self._what, self._total, self._done = what, total, 0

    def advance(self, count: int = 1) -> None:
        """Note that *count* more are done."""
        self._done += count

    def __str__(self) -> str:
        if not self._what:
            return ""
        noun = "tunnel" if self._total == 1 else "tunnels"
        return f"{self._done} of {self._total} {noun} {self._what}"
