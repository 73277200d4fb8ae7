"""What a path carries where nothing tells: the search of RFC 8899, keepalives as probes. Pure.

Two packets ask for an answer, and answers are all that is looked at: a probe, padded to the size in
question, and right behind it a small one. The probe was answered: its size passes. Only the small
one was: that is evidence against the size, and several times of it a proof. Neither was: nothing is
known, for a path that loses all, or an end that does not answer, is not a small one.

A queue that overflows loses long packets before short ones. So when the size in use is in doubt a
third goes between them, of a size that nearly all paths carry: if that one passes, it is the size
that does not; if it is lost as well, it takes twice the evidence.

    Search   which size to try next. No time, no packets
    Prober   when, how often, and what an answer or a silence says of a size

Seconds of any one clock, bytes of the outer packet. Nothing here sends or builds a packet; nothing
changes what the tunnel sends.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

from gred.config.model import TunnelConfig
from gred.control.cookies import Cookies
from gred.control.path_mtu import LEAST

# RFC 8899 section 5.1.1: PROBE_TIMER no less than a second; PMTU_RAISE_TIMER
ROUND = 1.0  # seconds until an answer is missing
ROUND_AT_MOST = 8.0  # where answers take longer
BEHIND = 0.25  # seconds that a probe may arrive behind the small one, in a search
GAP = 0.25  # seconds between two probes: the other end answers so many a second and no more
CONFIRM = 5.0  # seconds between probes of the size in use, while the tunnel sends
RAISE = 600.0  # seconds until a longer one is tried again,
RAISE_SOON = 30.0  # after what was found is new; twice as long each time it holds
SILENCE_AT_MOST = 60.0  # seconds between probes that are answered by nobody

# RFC 8899 section 5.1.2: MAX_PROBES is 3. A size in use is given up with more reluctance: loss
# takes long packets more often than short ones.
LOSSES = 3
LOSSES_IN_USE = 5
LOSSES_OF_BOTH = 10
_LOSSES_FORGIVEN = 5  # at most: small ones lost meanwhile, each of which asks for one more

# What is tried first once the ceiling does not pass: Ethernet, the least of IPv6, and the least
# that is believed at all. Who does not answer the last, which is hardly padded, answers no padded
# packets: that says nothing of the path.
_STEPS = {4: (1500, 1280, LEAST[4], 128), 6: (1500, LEAST[6])}


def is_probing(config: TunnelConfig) -> bool:
    """Whether the paths of a tunnel with *config* are probed, once somebody answers."""
    if not config.discover_path_mtu or config.probe_mtu == "no":
        return False
    return config.keepalive is not None or config.probe_mtu == "yes"


class Search:
    """Finds the longest packet that passes, of outer IP *version*, up to a ceiling.

    *known*: what an earlier search has found. That a longer packet passes where a shorter one did
    not is taken for a change of the path, and the longer one is believed.
    """

    def __init__(self, version: int, known: int | None = None) -> None:
        self.limit = known
        """The longest that passes, as far as it matters; None: all up to the ceiling may pass."""
        self.carries = known or 0
        """The longest that is known to pass; 0: none is."""
        self.ceiling = 0
        """The longest that makes sense; 0: not known yet."""
        self.hint: int | None = None
        """What somebody says that the path carries."""
        self._steps = _STEPS[version]
        self._refused = 1  # the shortest that is known not to pass; above the ceiling: none is
        self._by_one = bool(known)

    @property
    def size(self) -> int | None:
        """What to try next; None: the search is over."""
        if self.carries >= min(self._refused - 1, self.ceiling):
            return None
        if self._by_one:
            return self.carries + 1
        if self._refused > self.ceiling:
            return self.ceiling
        if self.carries:
            return (self.carries + self._refused) // 2
        steps = self._steps if self.hint is None else (self.hint, *self._steps)
        return max((step for step in steps if step < self._refused), default=None)

    @property
    def usual(self) -> int:
        """A size that nearly all paths carry, less than what is in use; 0: there is none."""
        return next((step for step in self._steps if step < self.in_use), 0)

    @property
    def in_use(self) -> int:
        """The longest packet that the tunnel sends, as far as this search decides."""
        return self.ceiling if self.limit is None else min(self.limit, self.ceiling)

    def aim(self, ceiling: int) -> None:
        """Search up to *ceiling* from now on."""
        if ceiling == self.ceiling:
            return
        self.ceiling, self._refused = ceiling, ceiling + 1
        self.carries = min(self.carries, ceiling)
        self._by_one = bool(self.carries)
        self._settle()

    def again(self) -> None:
        """Try longer ones than the search has found: the path may be another."""
        self._refused = self.ceiling + 1
        self._by_one = bool(self.carries)

    def passed(self, size: int) -> None:
        """Take in that a packet of *size* bytes has passed."""
        if size > self.ceiling:
            return
        if size >= self._refused:
            self._refused = self.ceiling + 1
        if size > self.carries:
            # Whoever told it told the truth if the next longer one does not pass.
            self._by_one = size == self.hint
            self.carries = size
        self._settle()

    def failed(self, size: int) -> None:
        """Take in that packets of *size* bytes do not pass, while shorter ones do."""
        self._refused = min(self._refused, size)
        self._by_one = False
        if self.carries >= size:
            self.carries = 0
        self._settle()

    def _settle(self) -> None:
        """Lower what is in use at once, raise it when the search is over."""
        if self.size is None:
            if self.carries:
                self.limit = None if self.carries >= self.ceiling else self.carries
        elif self.carries and self._refused <= self.ceiling and self.carries < self.in_use:
            self.limit = self.carries


@dataclass(frozen=True, slots=True)
class Probe:
    """A packet that wants an answer: *cookie* is to come back. *size*: 0 is as small as it gets."""

    cookie: bytes
    size: int


@dataclass(slots=True)
class _Round:
    """A probe, the small one behind it, and what has become of them."""

    size: int
    usual: int
    """Size of the one between them; 0: there is none."""
    began: float
    ends: float
    is_heard: bool = False
    """Whether the small one was answered."""
    is_usual_heard: bool = False


@dataclass(frozen=True, slots=True)
class _Sent:
    size: int
    at: float


_REMEMBERED = 8  # rounds whose answers may still come


class Prober:
    """Probes the path to one remote, whose answers are known by cookies *about* it.

    ``look`` is called when it is ``due``, and ``heard`` with what comes back.
    """

    def __init__(
        self,
        version: int,
        about: bytes,
        known: int | None = None,
        *,
        secret: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.search = Search(version, known)
        self.due = 0.0
        """When to look next."""
        self._cookies = Cookies(about, secret)
        self._number = 0
        self._under_way: dict[int, _Sent] = {}
        self._round: _Round | None = None
        self._wait = ROUND
        self._evidence = 0
        self._both_lost = 0
        self._small_lost = 0
        self._tried = 0
        self._silent = 0
        self._moved = -1
        self._found = known
        self._raise_after = RAISE_SOON
        self._raise_at = 0.0

    @property
    def asked(self) -> int:
        """How many packets there were."""
        return self._number

    def restart(self) -> None:
        """Begin anew, with what is known: the other end answers again, by whatever path."""
        self._under_way.clear()
        self._round, self._wait, self.due = None, ROUND, 0.0
        self._begin(0)
        self._silent = 0
        self._moved = -1
        self.search.again()

    def look(self, ceiling: int, moved: int, now: float) -> list[Probe]:
        """Let time pass until *now*; return what is to be sent, in this order, at once.

        *ceiling*: the longest packet that makes sense. *moved*: how many packets the tunnel has
        sent, others than ours.
        """
        self.search.aim(ceiling)
        if self._round is not None and now >= self._round.ends:
            self._judge(self._round, now)
        if self._round is not None or now < self.due:
            return []
        size = self._next(moved, now)
        if size is None:
            self.due = now + CONFIRM
            return []
        if size != self._tried:
            self._begin(size)
        is_doubtful = self._is_doubtful and size == self.search.in_use
        usual = self.search.usual if is_doubtful else 0
        self._round = _Round(size, usual, now, now + self._wait)
        self.due = self._round.ends
        return [self._make(one, now) for one in (size, *([usual] if usual else []), 0)]

    def heard(self, trailer: bytes, now: float) -> tuple[int, float] | None:
        """Take an answer that arrived *now*; None: it is none of ours, or was known.

        Return the size that has passed by it, 0 of a small one, and when that was sent.
        """
        number = self._cookies.read(trailer)
        sent = None if number is None else self._under_way.pop(number, None)
        if sent is None:
            return None
        self._silent = 0
        self._wait = min(max(ROUND, 3 * (now - sent.at)), ROUND_AT_MOST)
        current = self._round
        if not sent.size:
            if current is not None and sent.at == current.began:
                current.is_heard = True
                # What is in use is not given up so soon: it may be over in a second.
                if current.size != self.search.in_use:
                    late = now + max(BEHIND, now - sent.at)
                    current.ends = self.due = min(current.ends, late)
            return 0, sent.at
        if current is not None and (sent.size, sent.at) == (current.usual, current.began):
            current.is_usual_heard = True
        self._learn(lambda: self.search.passed(sent.size), now)
        if sent.size >= self._tried:
            self._begin(self._tried)
            if current is not None:
                self._round = None
                over = self.search.size is None
                self.due = now + CONFIRM if over else max(now, current.began + GAP)
        return sent.size, sent.at

    def awaited(self) -> list[bytes]:
        """Return the cookies that answers may still bring, of the last round."""
        if self._round is None:
            return []
        began = self._round.began
        numbers = [number for number, sent in self._under_way.items() if sent.at == began]
        return [self._cookies.make(number) for number in numbers]

    def _begin(self, size: int) -> None:
        """Know nothing against *size*, which is tried next."""
        self._tried = size
        self._evidence = self._both_lost = self._small_lost = 0

    @property
    def _is_doubtful(self) -> bool:
        """Whether there is evidence against the size that is tried."""
        return bool(self._evidence or self._both_lost)

    def _make(self, size: int, now: float) -> Probe:
        self._number += 1
        self._under_way[self._number] = _Sent(size, now)
        while len(self._under_way) > 3 * _REMEMBERED:
            del self._under_way[next(iter(self._under_way))]
        return Probe(self._cookies.make(self._number), size)

    def _next(self, moved: int, now: float) -> int | None:
        """Return the size to try; None: there is nothing to learn now."""
        size = self.search.size
        if size is None and self.search.carries < self.search.ceiling and now >= self._raise_at:
            self.search.again()
            size = self.search.size
        if size is not None:
            return size
        if not self.search.carries:
            return None
        # Where nothing was sent nothing was lost. What somebody tells can be refuted all the same.
        is_doubted = self.search.hint is not None and self.search.hint < self.search.carries
        if moved == self._moved and not self._is_doubtful and not is_doubted:
            return None
        self._moved = moved
        return self.search.carries

    def _judge(self, ended: _Round, now: float) -> None:
        """Weigh a round whose probe was not answered."""
        self._round = None
        if not ended.is_heard and not ended.is_usual_heard:
            self._small_lost = min(self._small_lost + 1, _LOSSES_FORGIVEN)
            self._silent += 1
            self._wait = min(2 * self._wait, ROUND_AT_MOST)
            self.due = now + min(2.0**self._silent, SILENCE_AT_MOST)
            return
        self.due = now
        if ended.usual and not ended.is_usual_heard:
            self._both_lost += 1
        else:
            self._evidence += 1
        is_in_use = ended.size == self.search.in_use
        enough = LOSSES_IN_USE if is_in_use else LOSSES
        enough += min(self._small_lost + self._both_lost, _LOSSES_FORGIVEN)
        if self._evidence >= enough or self._both_lost >= LOSSES_OF_BOTH:
            self._begin(self._tried)
            self._learn(lambda: self.search.failed(ended.size), now)

    def _learn(self, step: Callable[[], None], now: float) -> None:
        """Let the search take a *step*; when that ends it, longer ones are tried after a while."""
        was_over = self.search.size is None
        step()
        if self.search.size is None and not was_over:
            holds, self._found = self._found == self.search.limit, self.search.limit
            self._raise_after = min(2 * self._raise_after, RAISE) if holds else RAISE_SOON
            self._raise_at = now + self._raise_after
