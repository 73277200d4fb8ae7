"""ICMP errors about a tunnel's packets: whether it is refused, and by whom, in one sentence.

Pure: errors, counters and times in. Nothing here stops a tunnel from sending: an error may be
forged, or over by the time it arrives.
"""

from gred.config.model import IPAddress
from gred.dataplane.icmp_errors import UnderlayError
from gred.wire.icmp import ErrorKind

QUIET = 30.0  # seconds without an error until it counts as over; the kernel's IPTUNNEL_ERR_TIMEO
GRACE = 1.0  # seconds that packets from the remote have to contradict
CHECK_EVERY = 1.0  # seconds; how often to call check while ``is_open``

# What a remote says of itself. It also does so when its receive buffer is full for a moment, or
# when a GRE module of its kernel listens beside a program: packets from it prove it wrong.
_OF_ITSELF = frozenset({ErrorKind.PROTOCOL_UNREACHABLE, ErrorKind.PORT_UNREACHABLE})


class Refusal:
    """The errors about the packets of one tunnel, and whether they are over."""

    def __init__(self) -> None:
        self.sentence = ""
        """What is wrong; empty when nothing is."""
        self._doubtful = ""
        self._doubtful_since = 0.0
        self._last = 0.0
        self._received = 0
        self._cleared = -QUIET
        self._is_stubborn = False

    @property
    def is_open(self) -> bool:
        """Whether time or a packet received may change what is known."""
        return bool(self.sentence or self._doubtful)

    def take(
        self, error: UnderlayError, remote: IPAddress | None, received: int, now: float
    ) -> None:
        """Take in an *error* at *now*. *received*: the count of packets from the remote so far."""
        if error.kind is ErrorKind.TOO_BIG or error.offender is None:
            return
        self._last = now
        sentence = describe(error, remote)
        if not self.sentence and error.kind in _OF_ITSELF:
            if not self._doubtful:
                self._doubtful_since, self._received = now, received
            self._doubtful = sentence
            return
        self._received = received
        self._begin(sentence, now)

    def check(self, received: int, now: float) -> None:
        """Let time pass: confirm what was doubtful, end what is over."""
        if self._doubtful and now - self._doubtful_since >= GRACE:
            if received == self._received:
                self._begin(self._doubtful, now)
            self._doubtful = ""
        if not self.sentence:
            return
        quiet = now - self._last
        answered = received != self._received and quiet >= GRACE and not self._is_stubborn
        if quiet >= QUIET or answered:
            self._is_stubborn = False
            self._cleared = now
            self.sentence = ""

    def _begin(self, sentence: str, now: float) -> None:
        # Packets arrive, and ours are refused again: that is one trouble, not one at every error.
        if not self.sentence and now - self._cleared < QUIET:
            self._is_stubborn = True
        self.sentence = sentence
        self._doubtful = ""


def describe(error: UnderlayError, remote: IPAddress | None) -> str:
    """Say in one sentence what *error* means for packets to *remote*."""
    who = str(error.offender)
    is_remote = error.offender == remote
    match error.kind:
        case ErrorKind.PROHIBITED:
            return f"a firewall at {who} refuses protocol 47 ({error.kind})"
        case ErrorKind.PROTOCOL_UNREACHABLE if is_remote:
            return f"{who} runs nothing that takes GRE ({error.kind})"
        case ErrorKind.PORT_UNREACHABLE if is_remote:
            return f"{who} takes GRE, but knows no such tunnel or rejects it ({error.kind})"
        case ErrorKind.TIME_EXCEEDED:
            return f"TTL too small or a routing loop: {error.kind} at {who}"
        case ErrorKind.PARAMETER_PROBLEM:
            return f"{who} does not understand the outer header ({error.kind})"
        case _:
            return f"{who} does not reach {remote} ({error.kind})"
