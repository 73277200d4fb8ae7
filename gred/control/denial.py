"""Whether this host lets a tunnel's packets leave at all: counters and times in, one sentence out.

Pure. A rule that refuses some of what is sent is no state of the tunnel, but a drop with a reason.
"""

from gred.control.kernel.denier import UNKNOWN
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason

GRACE = 2.0  # seconds in which something may pass after all
# The same for one whose denial ended less than this ago: some pass and some do not, that is all.
QUIET = 30.0
CHECK_EVERY = 1.0  # seconds; how often to call check while ``is_open``


class Denial:
    """What became of the packets of one tunnel since one was denied."""

    def __init__(self) -> None:
        self.sentence = ""
        """What is wrong; empty when nothing is."""
        self.is_open = False
        """Whether what is counted from now on may change what is known."""
        self._how = ""
        self._who = UNKNOWN
        self._since = 0.0
        self._sent = 0
        self._denied = 0
        self._ended = -QUIET

    def take(self, counters: Counters, how: str, now: float, who: str = UNKNOWN) -> None:
        """Take in that a packet was denied at *now*; *how*: in the kernel's word; *who* did it."""
        self._how, self._who = how, who
        if not self.is_open:
            self._begin(counters, now)

    def check(self, counters: Counters, now: float) -> None:
        """Let time pass: what was sent ends it, what was denied and nothing else confirms it."""
        if counters.tx_packets != self._sent:
            if self.sentence:
                self._ended = now
            self.sentence = ""
            # As long as some are denied beside those that pass there will be a report.
            self.is_open = False
            return
        grace = QUIET if now - self._ended < QUIET else GRACE
        more = _denied(counters) > self._denied
        if not self.sentence and now - self._since >= grace:
            if more:
                self.sentence = f"{self._who} refuses every outer packet ({self._how})"
            else:
                self.is_open = False  # it was a single one

    def _begin(self, counters: Counters, now: float) -> None:
        self.is_open = True
        self._since = now
        self._sent = counters.tx_packets
        self._denied = _denied(counters)


def _denied(counters: Counters) -> int:
    return counters.tx_drops.get(DropReason.DENIED, 0)
