"""Reads the configuration again, and has the running daemon follow it: all of it, or nothing.

What is wrong with the file is said and changes nothing. Nothing here knows how a tunnel works.
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gred.control.errors import ExitCode, SetupError

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from gred.config import Config
    from gred.control.reload import Plan


class Reloadable(Protocol):
    """What is needed of a daemon."""

    async def reload(self, config: "Config") -> "Plan":
        """Run with another configuration. Raises SetupError."""
        ...

    def plan(self, config: "Config") -> "Plan":
        """Return what a reload would do."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it. *problems*: a line each; with any of them nothing was changed."""

    plan: "Plan | None" = None
    problems: tuple[str, ...] = ()
    exit_code: ExitCode = ExitCode.OK


@dataclass(slots=True)
class Reloading:
    """Reloads one at a time. *read* returns the configuration, or raises ConfigurationError."""

    daemon: Reloadable
    read: "Callable[[], Config]"
    log: "FilteringBoundLogger"
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def reload(self, *, dry_run: bool = False) -> Outcome:
        """Read the file and follow it; what was done, or what is wrong, is logged and returned.

        *dry_run*: only return it.
        """
        from gred.config.problems import ConfigurationError  # noqa: PLC0415 - only now needed

        async with self._lock:
            try:
                config = await asyncio.get_running_loop().run_in_executor(None, self.read)
                if dry_run:
                    return Outcome(self.daemon.plan(config))
                outcome = Outcome(await self.daemon.reload(config))
            except ConfigurationError as error:
                problems = tuple(map(str, error.problems))
                outcome = Outcome(None, problems, ExitCode.BAD_CONFIGURATION)
            except SetupError as error:
                outcome = Outcome(None, (str(error),), ExitCode(error.exit_code))
            if dry_run:
                return outcome
            for problem in outcome.problems:
                self.log.error("reload_refused", detail=problem)
            if outcome.plan is not None:
                told = outcome.plan.counts
                self.log.info("reloaded", **told, detail=outcome.plan.detail or None)
            return outcome
