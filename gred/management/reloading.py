"""Reads the configuration again, and has the running daemon follow it: all of it, or nothing.

What is wrong with the file is said and changes nothing. Nothing here knows how a tunnel works.
"""

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from gred.control.errors import ExitCode, SetupError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from structlog.typing import FilteringBoundLogger

    from gred.config import Config
    from gred.config.model import DaemonConfig
    from gred.control.reload import Plan


class Reloadable(Protocol):
    """What is needed of a daemon."""

    @property
    def config(self) -> "Config":
        """What it runs with."""
        ...

    async def reload(self, config: "Config") -> "Plan":
        """Run with another configuration. Raises SetupError."""
        ...

    def plan(self, config: "Config") -> "Plan":
        """Return what a reload would do."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it. *problems*: a line each; with any of them nothing was changed.

    *terms*: what each step does in the words of ip(8), by tunnel; only of a dry run.
    """

    plan: "Plan | None" = None
    problems: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK
    terms: "Mapping[str, tuple[str, ...]]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """A reload that goes back by itself: to which configuration, and when, on the loop's clock."""

    config: "Config"
    due: float
    timer: asyncio.Task[None]


@dataclass(frozen=True, slots=True)
class Reloads:
    """Whether the last one was taken and stayed; *succeeded_at*: when one was, since the epoch.

    The start counts as one.
    """

    successful: bool
    succeeded_at: float


async def _nobody(_config: "DaemonConfig") -> None:
    pass


@dataclass(slots=True)
class Reloading:
    """Reloads one at a time. *read* returns the configuration, or raises ConfigurationError.

    *follow* is called with the ``[Daemon]`` section that is followed from now on.
    """

    daemon: Reloadable
    read: "Callable[[], Config]"
    log: "FilteringBoundLogger"
    follow: "Callable[[DaemonConfig], Awaitable[None]]" = _nobody
    clock: "Callable[[], float]" = time.time
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _pending: Pending | None = None
    _reloads: Reloads = field(init=False)

    def __post_init__(self) -> None:
        self._reloads = Reloads(successful=True, succeeded_at=self.clock())

    def reloads(self) -> Reloads:
        """Return what became of reloads so far."""
        return self._reloads

    @property
    def remaining(self) -> float | None:
        """Seconds until what was reloaded goes back; None: it stays."""
        if self._pending is None:
            return None
        return max(self._pending.due - asyncio.get_running_loop().time(), 0.0)

    async def reload(self, *, dry_run: bool = False, confirm: float | None = None) -> Outcome:
        """Read the file and follow it; what was done, or what is wrong, is logged and returned.

        *dry_run*: only return it. *confirm*: go back after so many seconds, to the configuration
        that was last confirmed, unless ``confirm`` is called; a reload without it confirms, too.
        """
        from gred.config.problems import ConfigurationError  # noqa: PLC0415 - only now needed

        async with self._lock:
            before = self.daemon.config
            try:
                config = await asyncio.get_running_loop().run_in_executor(None, self.read)
                if dry_run:
                    from gred.management import terms  # noqa: PLC0415 - only now needed

                    plan = self.daemon.plan(config)
                    return Outcome(plan, terms=terms.reload(plan, before.tunnels, config.tunnels))
                outcome = Outcome(await self.daemon.reload(config))
                await self.follow(config.daemon)
            except ConfigurationError as error:
                problems = tuple(map(str, error.problems))
                outcome = Outcome(None, problems, ExitCode.BAD_CONFIGURATION)
            except SetupError as error:
                outcome = Outcome(None, (str(error),), ExitCode(error.exit_code))
            if dry_run:
                return outcome
            good = outcome.plan is not None
            at = self.clock() if good else self._reloads.succeeded_at
            self._reloads = Reloads(successful=good, succeeded_at=at)
            for problem in outcome.problems:
                self.log.error("reload_refused", detail=problem)
            if outcome.plan is not None:
                told = outcome.plan.counts
                self.log.info("reloaded", **told, detail=outcome.plan.detail or None)
                self._await_confirmation(before, confirm)
            return outcome

    def confirm(self) -> bool:
        """Let what was reloaded stay; return whether it would have gone back."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.timer.cancel()
            self.log.info("reload_confirmed")
        return pending is not None

    async def close(self) -> None:
        """Go back no more. Harmless twice."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.timer.cancel()
            await asyncio.wait([pending.timer])

    def _await_confirmation(self, before: "Config", seconds: float | None) -> None:
        """Go back in *seconds* to *before*, or to what an unconfirmed one would have gone back to.

        None: stay.
        """
        if seconds is None:
            self.confirm()
            return
        if self._pending is not None:
            before = self._pending.config
            self._pending.timer.cancel()
        loop = asyncio.get_running_loop()
        timer = loop.create_task(self._go_back(before, seconds))
        self._pending = Pending(before, loop.time() + seconds, timer)

    async def _go_back(self, config: "Config", seconds: float) -> None:
        await asyncio.sleep(seconds)
        async with self._lock:
            # From here on it is too late to confirm.
            self._pending = None
            why = "nobody confirmed it in time; the file still has what was given up"
            try:
                told = (await self.daemon.reload(config)).counts
                await self.follow(config.daemon)
            except SetupError as error:
                told, why = {}, f"{why}; the kernel could not be asked: {error}"
            self._reloads = replace(self._reloads, successful=False)
        self.log.warning("reload_undone", **told, detail=why)
