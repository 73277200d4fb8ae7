"""Whether the other end of a tunnel is alive, from the keepalives it answers. Pure.

Times in, values out; seconds of any one clock. Nothing here sends, and no packet is parsed: what an
answer's trailer says is all that is looked at.

    DOWN --an answer--> HOLD --as many more as are asked for--> UP
      ^                   |                                      |
      `---- no answer for the interval times the retries --------'

As gre(4) of OpenBSD, but that who was never seen to fail is up with the first answer. Each
failure doubles the number of answers that are asked for, to 16 times the retries; each answer while
up takes one off again.
"""

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from gred.control.cookies import Cookies

WINDOW = 64  # requests that are remembered
AWAITED = 2  # of them are looked for among any number of forged answers
_REMAINS = (
    *("since", "transitions", "is_silent", "proven", "ignored"),
    *("_number", "_hold", "_missing", "_counted_from"),
)
_HOLD_AT_MOST = 16  # times the retries


@unique
class Life(StrEnum):
    """What is known of the other end."""

    DOWN = "down"  # it has not answered yet, or no more
    HOLD = "hold"  # it answers again, but not for long enough
    UP = "up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The last requests, in numbers; seconds; None where nothing was answered."""

    least: float | None
    mean: float | None
    greatest: float | None
    asked: int
    """Requests that were answered, or might have been by now."""
    lost: int
    """Those of them that were not."""


class Liveness:
    """The keepalives to one remote, every *interval* seconds; down after *retries* in vain.

    A request carries a cookie, its number and a keyed hash of it, and *about*: whose request it is.
    Hardware may return an answer without it, which counts as well, until the other end has once
    returned a right one: from then on only who sees our requests can answer them. Each is answered
    once, however often its answer arrives.
    """

    def __init__(
        self,
        interval: float,
        retries: int,
        about: bytes = b"",
        *,
        secret: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.interval = interval
        self.retries = retries
        self.life = Life.DOWN
        self.since: float | None = None
        """When it took its present life; None: it was never up."""
        self.transitions = 0
        """How often it came up or went down."""
        self.is_silent = False
        """Whether it has not answered for so long that it is dead; at first it is only awaited."""
        self.proven = False
        """Whether a right cookie has come back: one is required from then on."""
        self.ignored = 0
        """Answers that were believed by nobody: forged, without the cookie, too late, or twice."""
        self.due = 0.0
        """When to ask next."""
        self._cookies = Cookies(about, secret)
        self._number = 0
        self._requests: deque[_Request] = deque(maxlen=WINDOW)
        self._silent_at = float("inf")
        self._hold = 0
        self._missing = 0
        self._counted_from = 0

    def presume(self, now: float) -> None:
        """Take the other end for alive at first, as nobody was asked before."""
        self.life, self.since = Life.UP, now

    def change(self, interval: float, retries: int, now: float) -> None:
        """Ask every *interval* seconds from now on; down after *retries* in vain."""
        self.interval, self.retries = interval, retries
        self.due = min(self.due, now + interval)
        if self._number and not self.is_silent:
            self._silent_at = now + self._patience

    def remains(self) -> dict[str, object]:
        """Return what another process may go on with, so that no answer under way is lost."""
        return {name: getattr(self, name) for name in _REMAINS} | {
            "life": str(self.life),
            "key": self._cookies.key.hex(),
            "silent_at": None if self._silent_at == float("inf") else self._silent_at,
            "requests": [(one.number, one.sent, one.answered) for one in self._requests],
        }

    def resume(self, remains: Mapping[str, Any], now: float) -> None:
        """Go on at *now* with what another process left, which asked nobody in between.

        Raises KeyError, ValueError and TypeError where it does not fit.
        """
        for name in _REMAINS:
            setattr(self, name, remains[name])
        self.life = Life(remains["life"])
        self._cookies.key = bytes.fromhex(remains["key"])
        self._requests.extend(_Request(*one) for one in remains["requests"])
        # Nobody has listened meanwhile.
        if remains["silent_at"] is not None:
            self._silent_at = max(remains["silent_at"], now + self._patience)
        self.due = now

    def ask(self, now: float) -> bytes:
        """Return the cookie of the next request, which leaves *now*."""
        if not self._number:
            self._silent_at = now + self._patience
        self._number += 1
        self._requests.append(_Request(self._number, now))
        self.due = now + self.interval
        return self._cookies.make(self._number)

    def awaited(self) -> list[bytes]:
        """Return the cookies that an answer may still bring, of the last requests."""
        numbers = [one.number for one in list(self._requests)[-AWAITED:] if one.answered is None]
        return [self._cookies.make(number) for number in numbers]

    def heard(self, trailer: bytes, now: float) -> bool:
        """Take an answer that arrived *now* with *trailer*; return whether that changed ``life``.

        A trailer may be longer than the cookie: what hardware pads it with means nothing.
        """
        request = self._find(trailer)
        if request is None or request.answered is not None or now - request.sent > self._patience:
            self.ignored += 1
            return False
        request.answered = now - request.sent
        self._silent_at = now + self._patience
        self.is_silent = False
        return self._advance(request.number, now)

    def look(self, now: float) -> bool:
        """Let time pass until *now*; return whether it has become silent."""
        if self.is_silent or now < self._silent_at:
            return False
        self.is_silent = True
        if self.life is not Life.DOWN:
            self._hold = min(max(2 * self._hold, self.retries), _HOLD_AT_MOST * self.retries)
        if self.life is Life.UP:
            self._turn(now)
        self.life = Life.DOWN
        return True

    @property
    def asked(self) -> int:
        """How many requests there were."""
        return self._number

    @property
    def missing(self) -> int:
        """How many more answers are asked for in HOLD."""
        return self._missing if self.life is Life.HOLD else 0

    def wakes(self) -> float:
        """Return when ``ask`` or ``look`` has something to do next."""
        return self.due if self.is_silent else min(self.due, self._silent_at)

    def figures(self, now: float) -> Figures:
        """Return what became of the last requests."""
        counted = [one for one in self._requests if one.number >= self._counted_from]
        times = [one.answered for one in counted if one.answered is not None]
        # An answer may take longer than the interval, as it does at that distance.
        slowest = min(max(self.interval, 2 * max(times, default=0.0)), self._patience)
        lost = sum(one.answered is None and now - one.sent >= slowest for one in counted)
        return Figures(
            least=min(times, default=None),
            mean=sum(times) / len(times) if times else None,
            greatest=max(times, default=None),
            asked=len(times) + lost,
            lost=lost,
        )

    @property
    def _patience(self) -> float:
        """How long an answer may be missing."""
        return self.interval * self.retries

    def _find(self, trailer: bytes) -> "_Request | None":
        """Return the request that is answered; None for an answer that is not to be believed."""
        if not self._requests:
            return None
        number = self._cookies.read(trailer)
        if number is not None:
            self.proven = True
            return next((one for one in self._requests if one.number == number), None)
        # What is padded to less than a cookie, or with zeros, has lost it on its way.
        return None if self.proven or any(trailer) else self._requests[-1]

    def _advance(self, number: int, now: float) -> bool:
        if self.life is Life.UP:
            self._hold = max(self._hold - 1, 0)
            return False
        if self.life is Life.DOWN:
            self.life, self._missing = Life.HOLD, self._hold
        elif self._missing:
            self._missing -= 1
        if self._missing:
            return False
        self.life = Life.UP
        # What was lost before says how long it was away, and nothing of the path.
        self._counted_from = number
        self._turn(now)
        return True

    def _turn(self, now: float) -> None:
        self.since = now
        self.transitions += 1


@dataclass(slots=True)
class _Request:
    number: int
    sent: float
    answered: float | None = None
    """Seconds until the answer."""
