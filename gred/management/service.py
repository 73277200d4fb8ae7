"""A daemon's life: start, signals, signs of life to the service manager, summaries, stop.

Nothing here knows how a tunnel works: it starts and stops a daemon and reads its counters. Runs on
any asyncio loop.
"""

import asyncio
import gc
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from gred.control.errors import ExitCode, SetupError
from gred.control.kernel import xfrm
from gred.management import signals
from gred.management.drops import DropSummary

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.dataplane.tunnels import Counters
    from gred.management.notify import Notifier
    from gred.management.reloading import Outcome

SUMMARY_SECONDS = 10.0
# While a start or a stop goes on, the service manager hears of it this often, and waits for this
# long from the last time that something was done.
WORK_SECONDS = 2.0
PATIENCE_SECONDS = 60.0
SLICE_SECONDS = 0.001  # of a summary, until packets have their turn
STATUS_SECONDS = 1.0  # between two words to the service manager


class Startable(Protocol):
    """What a service needs of a daemon."""

    async def start(self) -> None:
        """Set everything up. Raises SetupError."""

    async def stop(self) -> None:
        """Take everything down, however far the start got."""

    def progress(self) -> str:
        """Return how far start or stop is; the same again when nothing was done meanwhile."""
        ...

    def facts(self) -> Mapping[str, object]:
        """Return what the start-up line says besides the version."""
        ...

    def counters(self) -> Iterator[tuple[str | None, "Counters"]]:
        """Yield each tunnel's name and a snapshot; ``None`` is what belongs to no tunnel.

        Tunnels may come and go in between.
        """
        ...

    def past(self) -> Iterable[tuple[str | None, "Counters"]]:
        """Return what was counted, and told, before the start."""
        ...

    def status(self) -> str:
        """Return one line for the service manager."""
        ...


class Service:
    """Runs one daemon until a signal or a bug ends it; made and used on its running loop.

    *reload* is called at SIGHUP. *on_interval* is called with every summary. *hangup_stops*: the
    terminal is gone with SIGHUP, so gred goes too. *abort* is called at a second SIGINT and must
    not return.
    """

    def __init__(
        self,
        daemon: Startable,
        log: "FilteringBoundLogger",
        notifier: "Notifier",
        *,
        facts: Mapping[str, object],
        reload: Callable[[], Awaitable["Outcome"]],
        on_interval: Callable[[], None] = lambda: None,
        hangup_stops: bool = False,
        abort: Callable[[int], Any] = os._exit,
    ) -> None:
        self._daemon = daemon
        self._log = log
        self._notifier = notifier
        self._facts = facts
        self._reload = reload
        self._reloads: set[asyncio.Task[None]] = set()
        self._on_interval = on_interval
        self._hangup_stops = hangup_stops
        self._abort = abort
        self._drops = DropSummary(log, xfrm.refused)
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._started = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._status: str | None = None
        self._status_told = float("-inf")
        self._exit_code = ExitCode.OK
        self._interrupted = False

    async def run(self) -> int:
        """Start, serve until told to stop, stop; return the exit code."""
        self._loop.set_exception_handler(self._on_bug)
        for stopping in signals.STOP:
            self._loop.add_signal_handler(stopping, self._on_stop_signal, stopping)
        if signal.getsignal(signals.HANGUP) is not signal.SIG_IGN:  # as nohup(1) leaves it
            self._loop.add_signal_handler(signals.HANGUP, self._on_hangup)
        self._loop.add_signal_handler(signals.REPORT, self._report)
        useless = signals.useless()
        for number in useless:
            self._loop.add_signal_handler(number, self._ignore, number)
        try:
            if await self._start():
                await self._stop.wait()
        except SetupError as error:
            self._exit_code = ExitCode(error.exit_code)
            self._log.error("start_failed", detail=str(error))
        except Exception as error:  # noqa: BLE001 - logged with its traceback; the stop follows
            self._fail("start raised", error)
        await self._finish()
        for number in (*useless, signals.REPORT):
            # The loop would leave a deadly default behind, or itself: neither while we leave.
            self._loop.remove_signal_handler(number)
            signals.ignore(number)
        return int(self._exit_code)

    @property
    def ready(self) -> bool:
        """Whether it has started, and is not told to stop."""
        return self._started.is_set() and not self._stop.is_set()

    def status_changed(self) -> None:
        """Tell the service manager soon; many changes, at once or one after another, together."""
        if self._status is not None and "status" not in self._timers:
            wait = max(0.0, self._status_told + STATUS_SECONDS - self._loop.time())
            self._timers["status"] = self._loop.call_later(wait, self._tell_status)

    async def _start(self) -> bool:
        """Start the daemon. False when told to stop meanwhile: the start is then abandoned."""
        self._tell_work("starting")
        for tunnel, counted in self._daemon.past():
            self._drops.begin(tunnel, counted)
        starting = self._loop.create_task(self._daemon.start())
        stopping = self._loop.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled():
                starting.exception()  # too late to matter; looked at so that nobody is told
            return False
        starting.result()
        self._timers.pop("work").cancel()
        gc.freeze()  # what is there stays: to look through it again and again would stop packets
        self._log.info("started", **self._facts, **self._daemon.facts())
        self._status = self._daemon.status()
        self._notifier.ready(self._status)
        self._started.set()
        self._every("summary", SUMMARY_SECONDS, self._begin_summary)
        if self._notifier.watchdog_seconds is not None:
            self._every("watchdog", self._notifier.watchdog_seconds / 2, self._notifier.alive)
        return True

    async def _finish(self) -> None:
        self._stop.set()
        self._notifier.stopping()
        for timer in self._timers.values():
            timer.cancel()
        for task in self._reloads:
            task.cancel()
        if self._reloads:
            await asyncio.wait(self._reloads)
        if self._status is not None:
            self._summarize()
        self._tell_work("stopping")
        try:
            await self._daemon.stop()
        except Exception as error:  # noqa: BLE001 - logged with its traceback, and exit code 1
            self._fail("stop raised", error)
        if self._status is not None:
            self._note_drops()  # of what was under way
        self._timers.pop("work").cancel()
        self._log.info("stopped")

    def _tell_work(self, doing: str) -> None:
        """Tell again and again how far *doing* is, as long as it goes on."""
        told = self._daemon.progress()

        def tell() -> None:
            nonlocal told
            progress = self._daemon.progress()
            if progress != told:
                told = progress
                self._notifier.working(f"{doing}: {progress}", PATIENCE_SECONDS)

        self._every("work", WORK_SECONDS, tell)

    def _every(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        def fire() -> None:
            self._every(name, seconds, action)
            action()

        self._timers[name] = self._loop.call_later(seconds, fire)

    def _begin_summary(self) -> None:
        if "slice" not in self._timers:  # else the last one is still under way
            self._go_on(self._daemon.counters())

    def _go_on(self, counters: Iterator[tuple[str | None, "Counters"]]) -> None:
        """Take one slice of a summary, and arrange the next."""
        self._timers.pop("slice", None)
        end = time.monotonic() + SLICE_SECONDS
        for tunnel, counted in counters:
            self._drops.note(tunnel, counted)
            if time.monotonic() >= end:
                self._timers["slice"] = self._loop.call_later(0, self._go_on, counters)
                return
        self._on_interval()

    def _summarize(self) -> None:
        """Make a whole summary at once: the last one."""
        self._note_drops()
        self._on_interval()

    def _note_drops(self) -> None:
        for tunnel, counters in self._daemon.counters():
            self._drops.note(tunnel, counters)

    def _tell_status(self) -> None:
        self._timers.pop("status", None)
        self._status_told = self._loop.time()
        status = self._daemon.status()
        if status != self._status:
            self._status = status
            self._notifier.status(status)

    def _on_stop_signal(self, number: signal.Signals) -> None:
        again = number == signal.SIGINT and self._interrupted
        self._interrupted |= number == signal.SIGINT
        if not self._stop.is_set():
            self._log.info("stopping", signal=number.name)
            self._stop.set()
        elif again:
            # The kernel takes tunnel interfaces down with their descriptors, and routes and
            # addresses with the interfaces: leaving at once leaves nothing behind.
            self._log.warning("aborted", signal=number.name)
            self._abort(int(ExitCode.FAILURE))

    def _on_hangup(self) -> None:
        if self._hangup_stops:
            self._on_stop_signal(signal.SIGHUP)
        elif not self._stop.is_set():
            task = self._loop.create_task(self._follow_configuration())
            self._reloads.add(task)
            task.add_done_callback(self._reload_ended)

    async def _follow_configuration(self) -> None:
        """Reload, and tell the service manager when that begins and ends, and what was wrong."""
        await self._started.wait()  # what it starts with was read already
        self._notifier.reloading()
        outcome = await self._reload()
        if self._stop.is_set():
            return
        self._status = self._daemon.status()
        wrong = f"reload refused: {outcome.problems[0]}; " if outcome.problems else ""
        self._notifier.ready(wrong + self._status)

    def _reload_ended(self, task: asyncio.Task[None]) -> None:
        self._reloads.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail("reload raised", error)
            self._stop.set()

    def _report(self) -> None:
        """Say at once what is otherwise said at intervals, and in which states the tunnels are."""
        if self._status is not None and not self._stop.is_set():
            self._summarize()
            self._log.info("status", detail=self._daemon.status())

    def _ignore(self, number: int) -> None:
        self._log.warning("signal_ignored", signal=signals.name(number))

    def _on_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Stop at an exception that nobody caught: half a daemon that looks whole is worse."""
        self._fail(str(context.get("message", "")), context.get("exception"))
        self._stop.set()

    def _fail(self, message: str, exception: BaseException | None) -> None:
        self._exit_code = ExitCode.FAILURE
        self._log.error("bug", detail=message, exc_info=exception)
