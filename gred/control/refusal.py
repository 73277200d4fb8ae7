"""ICMP errors about a tunnel's packets: whether it is refused, and by whom, in one sentence.

Pure: errors, counts and times in. Nothing here stops a tunnel from sending: an error may be
forged, or over by the time it arrives.

Both ways the evidence must last. What a remote says of itself is believed when it says so again,
and nothing of what arrives contradicts it: a full receive buffer or a daemon that starts a moment
later make it say so once. Where it goes on saying so while packets arrive it is asked, and believed
when it answers nothing: a firewall there lets its own packets pass and ours not. Whoever else says
something of a tunnel that has worked is not believed at once either: an answer proves it wrong. A
refusal ends with evidence to the contrary: packets arrive, or packets are sent and no error answers
them. While nothing is sent nothing is learned, so time alone ends nothing. Each refusal that comes
back soon needs twice the evidence to begin and to end, so that a sender of errors that is slow, or
one direction that is blocked, makes no state that alternates.
"""

from typing import NamedTuple

from gred.config.model import IPAddress
from gred.dataplane.icmp_errors import UnderlayError
from gred.dataplane.traffic import Traffic
from gred.wire.icmp import ErrorKind

CHECK_EVERY = 1.0  # seconds; how often to call check while ``is_open``
LASTS = 2.0  # seconds between two errors of which nothing between them contradicts the first
# Seconds without an error before what arrives, and was perhaps under way, means something. Linux
# sends one error a second to each host (icmp_ratelimit), other routers two.
GRACE = 2.0
# And where a router cannot hand packets on: it asks for its neighbour for 3 s, then complains.
GRACE_OF_OTHERS = 4.5
SILENCE = 5  # seconds in which something was sent, and no error answered
FORGOTTEN = 30.0  # seconds until an error that was not believed is; the kernel's IPTUNNEL_ERR_TIMEO
STUBBORN = 10.0  # seconds of errors of a remote whose packets arrive, until it is believed
ASKED = 3  # inquiries that must have stayed without an answer by then
SOON = 600.0  # seconds without any error after which a refusal begins rather than comes back
PATIENCE = 6  # times that the evidence needed is doubled, at most

# What a remote says of itself. It also does so when its receive buffer is full for a moment, or
# when a GRE module of its kernel listens beside a program: packets from it prove it wrong.
_OF_ITSELF = frozenset({ErrorKind.PROTOCOL_UNREACHABLE, ErrorKind.PORT_UNREACHABLE})
_NEVER = float("-inf")


class Evidence(NamedTuple):
    """What is known of a tunnel at one moment.

    *traffic*: the packets it has sent and received so far. *error_at*: when the last error about
    one of them came, told or not, and *then*: its traffic at that moment. *heard*: when whoever
    sent it last sent an error about any tunnel: the errors of one host are few, and all tunnels
    that lead there share them.
    """

    traffic: Traffic
    error_at: float
    then: Traffic
    heard: float = _NEVER


class Refusal:
    """The errors about the packets of one tunnel, and whether they are over."""

    def __init__(self) -> None:
        self.sentence = ""
        """What is wrong; empty when nothing is."""
        self.offender: IPAddress | None = None
        """Who said so last."""
        self._doubtful = ""
        self._since = 0.0
        self._received = 0
        self._is_of_itself = False
        self._had_worked = False
        self._begun = 0.0
        self._asked = 0
        self._is_contradicted = False
        self._last = _NEVER
        self._comebacks = 0
        self._silence = 0
        self._checked_at = _NEVER
        self._sent = 0

    @property
    def is_open(self) -> bool:
        """Whether time, or packets sent or received, may change what is known."""
        return bool(self.sentence or self._doubtful)

    def take(
        self, error: UnderlayError, remote: IPAddress | None, traffic: Traffic, now: float
    ) -> None:
        """Take in an *error* at *now*. *traffic*: what was sent and received so far."""
        if error.kind is ErrorKind.TOO_BIG or error.offender is None:
            return
        if not self.is_open:
            self._checked_at, self._sent = now, traffic.sent
        if now - self._last >= SOON:
            self._comebacks = 0
        self.offender, self._last, self._silence = error.offender, now, 0
        self._is_of_itself = error.kind in _OF_ITSELF
        sentence = describe(error, remote, is_known=traffic.received > 0)
        if self.sentence:
            self.sentence = sentence
            return
        if not self._doubtful:
            self._since, self._received = now, traffic.received
            self._begun, self._asked, self._is_contradicted = now, 0, False
            self._had_worked = traffic.received > 0
        self._doubtful = sentence
        self._weigh(traffic.received)

    def disprove(self) -> None:
        """End it: the remote has answered, so that packets get there and back."""
        if self.sentence:
            self._comebacks = min(self._comebacks + 1, PATIENCE)
        self.sentence = self._doubtful = ""

    def wants_inquiry(self, evidence: Evidence) -> bool:
        """Tell whether to ask the remote: errors and packets contradict each other, or had done."""
        is_doubted = bool(self._doubtful) and self._had_worked
        return is_doubted or evidence.traffic.received > evidence.then.received

    def note_inquiry(self) -> None:
        """Note that the remote was asked whether packets get there: an answer will disprove it."""
        self._asked += 1

    def check(self, evidence: Evidence, now: float) -> None:
        """Let time pass: believe what lasts, end what is over."""
        self._listen(evidence, now)
        if self._doubtful:
            self._weigh(evidence.traffic.received)
            if self._silence >= SILENCE or now - self._last >= FORGOTTEN:
                self._doubtful = ""
        if self.sentence and self._is_over(evidence, now):
            self.sentence = ""
            self._comebacks = min(self._comebacks + 1, PATIENCE)

    def _listen(self, evidence: Evidence, now: float) -> None:
        """Count the seconds in which packets were sent and nobody complained."""
        was_sent = evidence.traffic.sent != self._sent
        self._last = max(self._last, evidence.error_at)
        if self._last >= self._checked_at:
            self._silence = 0
        elif was_sent and evidence.heard < self._checked_at:
            self._silence += 1
        self._checked_at, self._sent = now, evidence.traffic.sent

    def _weigh(self, received: int) -> None:
        """Believe what was doubtful once it has lasted; begin anew where it was contradicted."""
        if self._is_of_itself and received != self._received:
            self._since, self._received = self._last, received
            self._is_contradicted = True
        is_new = not (self._comebacks or self._is_of_itself or self._had_worked)
        has_lasted = self._last - self._since >= (0.0 if is_new else LASTS * self._patience)
        is_stubborn = self._last - self._begun >= STUBBORN * self._patience and self._asked >= ASKED
        if has_lasted or is_stubborn:
            self.sentence, self._doubtful = self._doubtful, ""

    def _is_over(self, evidence: Evidence, now: float) -> bool:
        if self._silence >= SILENCE * self._patience:
            return True
        if self._is_contradicted:
            return False  # what arrives means nothing here
        grace = (GRACE if self._is_of_itself else GRACE_OF_OTHERS) * self._patience
        if evidence.traffic.received == evidence.then.received or now - self._last < grace:
            return False
        # What a remote sends proves that it runs, not that a path the other way is free.
        was_sent = evidence.traffic.sent != evidence.then.sent
        return self._is_of_itself or (was_sent and now - evidence.heard >= grace)

    @property
    def _patience(self) -> int:
        return 1 << self._comebacks


def describe(error: UnderlayError, remote: IPAddress | None, *, is_known: bool = False) -> str:
    """Say in one sentence what *error* means for packets to *remote*.

    *is_known*: packets have arrived from it.
    """
    who = str(error.offender)
    is_remote = error.offender == remote
    carrier = f"UDP port {error.port}" if error.port else "protocol 47"
    match error.kind:
        case ErrorKind.PROHIBITED:
            return f"a firewall at {who} refuses {carrier} ({error.kind})"
        case ErrorKind.PORT_UNREACHABLE if is_remote and error.port and is_known:
            return f"{who} takes GRE at {carrier} no more ({error.kind})"
        case ErrorKind.PORT_UNREACHABLE if is_remote and error.port:
            return f"{who} runs nothing that takes GRE at {carrier} ({error.kind})"
        case ErrorKind.PROTOCOL_UNREACHABLE if is_remote and is_known:
            return f"{who} takes GRE no more, or does not keep up ({error.kind})"
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
