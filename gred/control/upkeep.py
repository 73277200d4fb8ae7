"""Keeps one interface as it is to be: what to change now, what to wait with, what to say. Pure.

It is shown what is and answers with changes; it is told what was refused. Time is given to it.
Nothing here asks the kernel or orders anything.
"""

from collections.abc import Sequence

from gred.control.contest import Contest
from gred.control.interfaces import Difference, as_given, changes, compare
from gred.control.kernel.changes import OPTIONAL, Change
from gred.control.kernel.parts import Actual, InterfaceSettings, Refusals
from gred.control.retry import Retry


class Upkeep:
    """One interface, from its first configuration on.

    *repair*: whether what somebody removed is put back. First ``plan``, then ``take`` what became
    of the plan, also of an empty one.
    """

    __slots__ = (
        *("_contest", "_due", "_lacks", "_refusal", "_removed", "_retry", "_was_whole"),
        *("given", "is_down", "repair", "sentence", "suspect"),
    )

    def __init__(self, *, repair: bool) -> None:
        self.given: InterfaceSettings | None = None
        """What it was given last; None: it is new."""
        self.is_down = False
        """Whether somebody has set it down."""
        self.sentence = ""
        """What is not as it is to be, and why it is not put back; empty when all is well."""
        self.suspect = ""
        """Who else may be configuring it; empty: not known."""
        self.repair = repair
        self._retry = Retry()
        self._contest = Contest()
        self._was_whole = True
        self._lacks: Difference | None = None
        self._removed: Difference | None = None
        self._refusal = ""
        self._due: float | None = None

    @property
    def is_contested(self) -> bool:
        """Whether somebody removes again and again what is put back."""
        return bool(self._contest.told)

    def due(self, now: float) -> float | None:
        """Return in how many seconds to look again; None: not before something changes."""
        return None if self._due is None else max(self._due - now, 0.0)

    def hasten(self, now: float) -> None:
        """Note that something has changed in the kernel: what was refused may not be any more."""
        if self._due is not None:
            self._retry.hasten(now)

    def leave(self) -> None:
        """Note that it is elsewhere: nothing of it is known."""
        self.is_down, self.sentence, self._due = False, "", None

    def plan(self, wanted: InterfaceSettings, actual: Actual, now: float) -> list[Change]:
        """Return the changes to make now, so that *actual* becomes as *wanted*."""
        self._lacks = self._removed = None
        if self.given is None:
            return changes(wanted, actual)
        self._lacks = lacks = compare(wanted, actual)
        self.is_down = lacks.down
        if not (lacks.down or lacks.incomplete or actual.made) and wanted == self.given:
            self._was_whole = True
            return []
        granted = as_given(actual, self.given)
        if lacks.down:
            self._was_whole = False  # what is lost meanwhile nobody has removed
            return changes(wanted, granted, self.given)
        removed = lacks.without(compare(wanted, granted))
        if removed.incomplete and self._was_whole:
            self._contest.removed(now)
        self._was_whole = not removed.incomplete
        if not (removed.incomplete or actual.made):
            return changes(wanted, actual, self.given)
        if not self.repair or now < max(self._contest.due, self._retry.due):
            return changes(wanted, granted, self.given)
        self._removed = removed
        return changes(wanted, actual, self.given)

    def take(
        self, wanted: InterfaceSettings, plan: Sequence[Change], refused: Refusals, now: float
    ) -> str:
        """Take in what was *refused* of the *plan*; return what was put back, in words."""
        lacks, removed = self._lacks, self._removed
        self._lacks = None
        refusals = [error for change, error in refused.items() if not isinstance(change, OPTIONAL)]
        self._refusal = next((str(error) for error in refusals), "" if plan else self._refusal)
        if refusals:
            self._retry.failed(now)
        elif plan:
            self._retry = Retry()
        if (self.repair or not refusals) and self.given != wanted:
            self.given = wanted
        if lacks is None or lacks.down:
            self.sentence, self._due = lacks.sentence if lacks else "", None
            return ""
        if not (plan or lacks.incomplete):
            self._say(lacks, now)
            return ""
        done = lacks.of(change for change in plan if change not in refused)
        remains = lacks.without(done)
        self._was_whole = not remains.incomplete
        self._say(remains, now)
        put_back = None if removed is None else removed.without(remains)
        return f"{put_back.past}: put back" if put_back and put_back.incomplete else ""

    def _say(self, remains: Difference, now: float) -> None:
        """Say what *remains* to be put back, and note when to look again."""
        self._due = None
        if remains.incomplete:
            parts = [remains.sentence, self._refusal.removeprefix(f"{remains.wanted.place}: ")]
            if self.repair:
                # Where nothing could be ordered, as in a VRF, no time helps.
                waits = self._removed is None or self._refusal
                self._due = max(self._contest.due, self._retry.due) if waits else None
                parts.append(self._whom_to_ask(remains.wanted.name))
            self.sentence = ": ".join(filter(None, parts))
        elif self.is_contested and now < self._contest.holds_at():
            self._due = self._contest.holds_at()  # until then it is believed to last no longer
        else:
            self.sentence, self._refusal = "", ""

    def _whom_to_ask(self, name: str) -> str:
        if not self._contest.told:
            return ""
        who = self.suspect or "another network manager"
        return f"{self._contest.told}: is {who} configuring {name}? (Repair=no leaves it alone)"
