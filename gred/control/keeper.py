"""Keeps many interfaces as they are to be: orders what is due, tells what was put back.

What is due is decided in upkeep.py, one interface each; here are the kernel, the clock, the timer.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from gred.control.events import Listener, Repaired
from gred.control.kernel.parts import Actual, Device, Kernel
from gred.control.ordering import Work, order
from gred.control.slices import in_slices
from gred.control.threads import in_thread
from gred.control.tunnel import Tunnel

_SOMEBODY = "another network manager"


class Keeper:
    """Used on *loop*, by one caller at a time. *again* is called when it is time to look again."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        kernel: Kernel,
        listener: Listener,
        again: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._kernel = kernel
        self._listener = listener
        self._again = again
        self._timer: asyncio.TimerHandle | None = None

    async def keep(
        self, tunnels: Iterable[tuple[Tunnel, Device]], actual: Mapping[str, Actual]
    ) -> None:
        """Make the interfaces of *tunnels*, which are *actual* now, as they are to be.

        What is refused one is that one's trouble, and is tried again. Those that wait for their
        time must all be among *tunnels*.
        """
        now = self._loop.time()
        kept: list[Tunnel] = []
        work: list[Work] = []
        async for tunnel, device in in_slices(tunnels):
            now_is = actual.get(tunnel.name)
            if now_is is None or tunnel.device is not device:
                tunnel.upkeep.leave()
                continue
            settings = tunnel.settings(device)
            kept.append(tunnel)
            work.append((settings, tunnel.upkeep.plan(settings, now_is, now)))
        await self._suspect(kept, work)
        ordered = [(settings, plan) for settings, plan in work if plan]
        answers = await order(self._kernel, ordered)
        refused = {id(plan): one for (_settings, plan), one in zip(ordered, answers, strict=True)}
        now = self._loop.time()
        due = []
        async for tunnel, (settings, plan) in in_slices(zip(kept, work, strict=True)):
            put_back = tunnel.upkeep.take(settings, plan, refused.get(id(plan), {}), now)
            if plan:
                tunnel.stale = True  # what was seen is not so any more
            if put_back:
                self._listener(Repaired(tunnel=tunnel.name, detail=put_back))
            if (seconds := tunnel.upkeep.due(now)) is not None:
                due.append(seconds)
        self.close()
        if due:
            self._timer = self._loop.call_later(min(due), self._again)

    def close(self) -> None:
        """Let no more time pass. Harmless twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _suspect(self, tunnels: Iterable[Tunnel], work: Iterable[Work]) -> None:
        """Find out who else configures interfaces that are contested; once for each."""
        asked = [
            (tunnel, settings)
            for tunnel, (settings, _plan) in zip(tunnels, work, strict=True)
            if tunnel.upkeep.is_contested and not tunnel.upkeep.suspect
        ]
        if not asked:
            return
        wanted = [settings for _tunnel, settings in asked]
        managers = await in_thread(lambda: list(map(self._kernel.manager, wanted)))
        for (tunnel, _settings), manager in zip(asked, managers, strict=True):
            tunnel.upkeep.suspect = manager or _SOMEBODY
