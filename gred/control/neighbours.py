"""Looks for other receivers of GRE every few seconds, and tells when that has changed.

What is asked, and of whom, is in receivers.py; which tunnels are held down is the reconciler's.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence

from gred.control.events import Listener, OtherReceiver, OtherReceiverGone
from gred.control.receivers import Others, Receivers, kernels, rivals
from gred.control.threads import in_thread
from gred.control.twins import Claim, wider
from gred.dataplane.punt import Report
from gred.dataplane.receivers import Taken
from gred.wire.drop import DropReason

EVERY = 5.0  # seconds


class Neighbours:
    """Others in this network namespace. Used on *loop*; *changed* is called when they change.

    *present* is told whether anybody is there, and what they take. Without *receivers* nobody is
    looked for.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        receivers: Receivers | None,
        listener: Listener,
        *,
        changed: Callable[[], None],
        present: Callable[[bool, Sequence[Taken]], None],
    ) -> None:
        self._loop = loop
        self._receivers = receivers
        self._listener = listener
        self._changed = changed
        self._present = present
        self._task: asyncio.Task[None] | None = None
        self._claims: list[tuple[str, Claim]] = []
        self.others = Others()
        """Who was there at the last look."""

    async def start(self) -> None:
        """Look for the first time, and from now on."""
        if self._receivers is None:
            return
        self._receivers.open()
        await self._look()
        self._task = self._loop.create_task(self._watch())

    def close(self) -> None:
        """Look no more, answer no more. Harmless twice."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._receivers is not None:
            self._receivers.close()

    def holders(
        self, claims: Sequence[tuple[str, Claim]], ethernet: Collection[str] = ()
    ) -> dict[str, str]:
        """Say that *claims* are ours; return those that somebody else has, and why to wait.

        *ethernet*: the names of those that carry Ethernet.
        """
        if self._receivers is None:
            return {}
        if claims != self._claims:
            self._claims = list(claims)
            self._receivers.publish(claims)
        elsewhere = rivals(claims, self._receivers.rank, self.others.parties)
        return elsewhere | kernels(claims, ethernet, self.others.links)

    def may_have(self, report: Report) -> bool:
        """Tell whether the packet that *report* is of is another's, as far as we know."""
        if report.source is None or report.destination is None:
            return False
        version = report.destination.version
        if report.reason is DropReason.FOREIGN:
            return True
        if report.reason is DropReason.KEY_MISMATCH:
            theirs = Claim(version, report.destination, report.source, report.key)
            return any(self.others.have(one) for one in wider(theirs))
        return report.reason is DropReason.NO_TUNNEL and version in self.others.receiving

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            if await self._look():
                self._changed()

    async def _look(self) -> bool:
        if self._receivers is None:
            return False
        try:
            before, self.others = self.others, await in_thread(self._receivers.look)
        except OSError:  # as one who sees nobody
            return False
        if self.others != before:
            taken = [
                Taken(one.family, one.local, one.remote, one.key) for one in self.others.claims
            ]
            self._present(bool(self.others.receiving), taken)
        known, words = before.words, self.others.words
        for detail, level in words.items():
            if detail not in known:
                self._listener(OtherReceiver(detail=detail, severity=level))
        if known and not words:
            self._listener(OtherReceiverGone())
        return self.others != before
