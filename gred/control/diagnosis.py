"""Why nothing arrives, or little: what is known of one tunnel's packets, and what follows. Pure.

It is told what was refused and shown, every few seconds, how much was sent and received; it answers
with one finding at most. Time is given to it. A finding lasts until packets prove it wrong: what is
refused or unanswered now and then makes no state that alternates. Nothing here asks anybody.

    refused by its settings     MISMATCH     at once where nothing ever arrived; else when it lasts
    none come back              UNANSWERED   after a while in which several were sent
    they arrive, none is sent   asks for a sample; UNDELIVERED if the kernel says that it drops it
    they arrive at all          asks for one now and then, which tells if both ends have one
                                address, and of pings whether this host itself gets them
    IPsec holds them back       DENIED       as long as the kernel says so
    many are lost               IMPAIRED     by sequence numbers
"""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum, unique
from typing import NamedTuple

from gred.config.model import IPAddress, TunnelConfig
from gred.control import sentences
from gred.dataplane.punt import Report
from gred.dataplane.traffic import Traffic
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason

LOOK_EVERY = 2.0  # seconds between two looks
FEW = 3  # packets that may stay without an answer: who is there first sends into the void
PATIENCE = 10.0  # seconds for which nothing comes back where nothing ever did
LONG_PATIENCE = 14.0  # and where something did: hosts may send and expect no answer for a while
SEVERAL = 10  # packets that must have been sent by then
LASTS = 5.0  # seconds for which nothing but refused packets arrives, where others did before
WINDOW = 20.0  # seconds over which losses are counted
MANY = 200  # packets within it that a share of losses is taken of
LOSSY = 0.02  # the share that is worth telling
WELL = 0.005  # the share that ends it
FORGOTTEN = 120.0  # seconds after which what was refused last says nothing of now
ASKED = 10  # keepalives that a share of losses is taken of
LOSSY_KEEPALIVES = 0.25  # the share that is worth telling
ASK_AGAIN = 30.0  # seconds between two samples, or two opinions, of one tunnel
PING_AGAIN = 6.0  # seconds until a second ping is looked at, where nothing has left
ROUTINE = 300.0  # seconds between two samples of a tunnel with which nothing seems to be wrong


@unique
class Fault(StrEnum):
    """What is wrong, as a state."""

    DENIED = "denied"
    MISMATCH = "mismatch"
    UNANSWERED = "unanswered"
    UNDELIVERED = "undelivered"
    IMPAIRED = "impaired"


class Finding(NamedTuple):
    """What is wrong, and the sentence that says who does what, and what to do."""

    fault: Fault
    sentence: str


class _Moment(NamedTuple):
    at: float
    sent: int
    received: int
    lost: int
    late: int


class _Ping(NamedTuple):
    at: float
    left: int  # packets that this host had given to the interface by then, sent or not


class _Count(NamedTuple):
    at: float
    echoes: Sequence[int]  # that this host itself had received by then, of each kind


class _Refused(NamedTuple):
    report: Report  # the last of its kind
    since: float
    last: float
    times: int


class Diagnosis:
    """What the packets of one tunnel tell."""

    def __init__(self, config: TunnelConfig) -> None:
        self.finding: Finding | None = None
        """What is wrong; None when nothing is known to be."""
        self.wants_opinion = False
        """Whether somebody should look why nothing comes back, and then call ``second``."""
        self.is_looked_into = False
        """Whether somebody does: until then nothing is said."""
        self.wants_sample = False
        """Whether somebody should look what becomes of what arrives, and then call ``verdict``."""
        self.is_routine = False
        """Whether that is asked though packets leave as well, which only one verdict explains."""
        self._config = config
        self._alive = False
        self._keepalives = 0, 0
        self._refused: _Refused | None = None
        self._stray: Report | None = None
        self._opinion = ""
        self._asked_at = self._sampled_at = float("-inf")
        self._routine_at: float | None = None
        self._ping: _Ping | None = None
        self._count: _Count | None = None
        self._doubts = 0
        self._received = self._sent = self._left = 0
        self._received_at = float("-inf")
        self._sent_before = 0  # until the last one was received
        self._unanswered_since: float | None = None
        self._moments: deque[_Moment] = deque()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has arrived lately: then packets of others may be meant for it."""
        return self._unanswered_since is not None or not self._received

    def refused(self, report: Report, now: float) -> None:
        """Take in that a packet of it was refused at *now*."""
        if not sentences.refused(report, self._config):
            return
        known = self._refused
        if known is not None and (known.report.reason, known.report.key) == (
            report.reason,
            report.key,
        ):
            self._refused = _Refused(report, known.since, now, known.times + 1)
        else:
            self._refused = _Refused(report, now, now, 1)

    def stray(self, report: Report) -> None:
        """Take in that a packet arrived between other addresses that is otherwise as its own."""
        self._stray = report

    def keepalives(self, lost: int, asked: int, *, alive: bool) -> None:
        """Take in how many of the last keepalives were lost, and whether somebody is alive."""
        self._alive, self._keepalives = alive, (lost, asked)

    def second(self, opinion: str) -> None:
        """Take in why nothing comes back; empty: nobody knows."""
        self.wants_opinion = self.is_looked_into = False
        self._opinion = opinion

    def excuse(self) -> None:
        """Take in that what was sent so far calls for no answer: the kernel's own announcements."""
        self.wants_opinion = self.is_looked_into = False
        self._sent_before, self._unanswered_since = self._sent, None
        self._asked_at = float("-inf")

    def hold(self, sentence: str) -> None:
        """Take in that IPsec holds back what is sent; empty: it does not, or no more."""
        if sentence:
            self.finding = Finding(Fault.DENIED, sentence)
        elif self.is_held:
            self.finding = None

    @property
    def is_held(self) -> bool:
        """Whether IPsec holds back what is sent, as far as is known."""
        return self.finding is not None and self.finding.fault is Fault.DENIED

    def verdict(self, sentence: str) -> None:
        """Take in what becomes of what arrives; empty: it is delivered.

        In routine two packets must say so: one may have gone round in a loop.
        """
        self.wants_sample = False
        self._doubts = self._doubts + 1 if sentence else 0
        if self.is_routine and self._doubts == 1:
            self._routine_at = float("-inf")  # at once
            return
        if sentence:
            self.finding = Finding(Fault.UNDELIVERED, sentence)
        elif self.finding is not None and self.finding.fault is Fault.UNDELIVERED:
            self.finding = None

    def pinged(self, now: float) -> bool:
        """Take in that a ping was delivered to this host itself; return whether it answers none.

        That is so when this host has given the interface nothing at all since an earlier one, which
        has had its time.
        """
        if self.is_routine:
            return False  # packets leave as well
        known = self._ping
        if known is not None and known.left == self._left and now - known.at < FORGOTTEN:
            return now - known.at >= PING_AGAIN
        self._ping = _Ping(now, self._left)
        self._sampled_at = now - ASK_AGAIN + PING_AGAIN
        return False

    def counted(self, echoes: Sequence[int], kind: int, now: float) -> bool | None:
        """Take in that an echo message of a *kind* was delivered to this host itself.

        *echoes*: how many it had received of each kind. For a tunnel by which packets leave as
        well. Return whether it has got none of this kind since an earlier message; None: there was
        none, and another one is asked for.
        """
        before, self._count = self._count, _Count(now, echoes)
        if before is None or now - before.at >= FORGOTTEN:
            self._routine_at = now
            return None
        return before.echoes[kind] == echoes[kind]

    @property
    def received_at(self) -> float | None:
        """When the last look was that found packets delivered; None: none has."""
        return None if self._received_at == float("-inf") else self._received_at

    @property
    def traffic(self) -> Traffic:
        """What had been sent and received at the last look."""
        return Traffic(self._sent, self._received)

    @property
    def sent_unanswered(self) -> int:
        """How many packets were sent since the last one arrived."""
        return self._sent - self._sent_before

    @property
    def is_open(self) -> bool:
        """Whether time alone may change what is known."""
        return bool(
            self.finding or self._refused or self._stray or self._unanswered_since is not None
        )

    def look(
        self, counters: Counters, remote: IPAddress | None, local: IPAddress | None, now: float
    ) -> bool:
        """Take in what was counted so far; return whether the finding is another one.

        *remote*: the other end, None: there are many. *local*: where packets leave from, if known.
        """
        before = self.finding
        self._note(counters, now)
        if counters.rx_packets != self._received:
            self._hear(counters, now)
        if counters.tx_packets != self._sent_before and self._unanswered_since is None:
            self._unanswered_since = now
        self._received, self._sent = counters.rx_packets, counters.tx_packets
        self._left = counters.tx_packets + sum(counters.tx_drops.values())
        self._judge(remote, local, now)
        return self.finding != before

    def _hear(self, counters: Counters, now: float) -> None:
        """Take in that packets have arrived since the last look."""
        self._received_at = now
        self._sent_before, self._unanswered_since = counters.tx_packets, None
        self._opinion, self._stray = "", None
        self._refused = None
        if self.finding is not None and self.finding.fault in {Fault.MISMATCH, Fault.UNANSWERED}:
            self.finding = None

    def _judge(self, remote: IPAddress | None, local: IPAddress | None, now: float) -> None:
        sentence = "" if self.is_held else self._mismatch(local, now)
        if sentence and not self._is(Fault.MISMATCH, sentence):
            self.finding = Finding(Fault.MISMATCH, sentence)
        if self.finding is not None and self.finding.fault in {Fault.MISMATCH, Fault.DENIED}:
            self.wants_opinion = False
            return
        self._judge_silence(remote, now)
        self._judge_delivery(now)
        if self.finding is None or self.finding.fault is Fault.IMPAIRED:
            losses = self._losses(remote, now)
            if losses is not None:
                self.finding = Finding(Fault.IMPAIRED, losses) if losses else None

    def _is(self, fault: Fault, sentence: str) -> bool:
        return self.finding is not None and self.finding == (fault, sentence)

    def _mismatch(self, local: IPAddress | None, now: float) -> str:
        """Say how the other end's packets differ from what is expected, once it is certain."""
        if self._refused is not None:
            known = self._refused
            if now - known.last >= FORGOTTEN:
                self._refused = None
                if self.finding is not None and self.finding.fault is Fault.MISMATCH:
                    self.finding = None
            elif not self._received or (known.times > 1 and now - known.since >= LASTS):
                return sentences.refused(known.report, self._config)
        if self._stray is not None and self.is_quiet:
            return sentences.stray(self._stray, self._config, local)
        return ""

    def _judge_silence(self, remote: IPAddress | None, now: float) -> None:
        since = self._unanswered_since
        if since is None:
            self.wants_opinion = False
            return
        sent = self._sent - self._sent_before
        patience = LONG_PATIENCE if self._received else PATIENCE
        # Where something arrived before, a stream that nobody answers is no news.
        few = SEVERAL if self._received else FEW
        if sent < few or now - since < patience or self._alive:
            return  # who answers keepalives need not answer anything else
        if now - self._asked_at >= ASK_AGAIN:
            self._asked_at, self.wants_opinion = now, True
            return
        if self.wants_opinion or self.is_looked_into:
            return
        is_known = self.finding is not None and self.finding.fault is Fault.UNANSWERED
        if is_known and (not self._opinion or self._opinion in str(self.finding)):
            return
        self.finding = Finding(
            Fault.UNANSWERED, sentences.unanswered(remote, sent, now - since, self._opinion)
        )

    def _judge_delivery(self, now: float) -> None:
        """Ask what becomes of what arrives, where nothing goes back."""
        if len(self._moments) < 2:
            return
        then, here = self._moments[-2], self._moments[-1]
        arrives = here.received > then.received
        if self.finding is not None and self.finding.fault is Fault.UNDELIVERED:
            # What was found in routine is asked again: both ways there were packets before.
            if here.sent > then.sent and arrives and not self.is_routine:
                self.finding = None
            elif arrives and self.is_routine and now - self._sampled_at >= ASK_AGAIN:
                self._sampled_at, self.wants_sample = now, True
            return
        if not arrives:
            return
        if self._routine_at is None:
            self._routine_at = now + PATIENCE
        if here.sent == then.sent and now - self._sampled_at >= ASK_AGAIN:
            self._sampled_at, self.wants_sample, self.is_routine = now, True, False
        elif here.sent > then.sent and now >= self._routine_at and not self.wants_sample:
            self._routine_at = now + ROUTINE
            self.wants_sample = self.is_routine = True

    def _note(self, counters: Counters, now: float) -> None:
        late = counters.rx_drops.get(DropReason.OUT_OF_SEQ, 0)
        moment = _Moment(now, counters.tx_packets, counters.rx_packets, counters.rx_lost, late)
        self._moments.append(moment)
        while now - self._moments[0].at > WINDOW:
            self._moments.popleft()

    def _losses(self, remote: IPAddress | None, now: float) -> str | None:
        """Say what is lost, by sequence numbers; empty: little; None: not known."""
        first, last = self._moments[0], self._moments[-1]
        late, lost = last.late - first.late, last.lost - first.lost
        total = last.received - first.received + late + lost
        if total < MANY:
            return self._lost_keepalives(remote)
        seconds = max(now - first.at, LOOK_EVERY)
        if late > LOSSY * total and lost < late / 2:
            return sentences.doubled(remote, late, total, seconds)
        # What comes late was counted as lost before.
        lost = max(lost - late, 0)
        if late > LOSSY * total and late >= lost:
            return sentences.unordered(remote, late, total, seconds)
        if lost > LOSSY * total:
            return sentences.lossy(remote, lost, total, seconds)
        return "" if late + lost < WELL * total else None

    def _lost_keepalives(self, remote: IPAddress | None) -> str | None:
        """Say that keepalives are lost, while enough are answered; as ``_losses``."""
        lost, asked = self._keepalives
        if asked < ASKED or not self._alive:
            return None
        if lost >= LOSSY_KEEPALIVES * asked:
            return sentences.lossy_keepalives(remote, lost, asked)
        return "" if not lost else None
