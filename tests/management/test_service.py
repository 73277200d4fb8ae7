"""A daemon's life, with a daemon that does nothing, on both loops."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from gred.control.errors import ExitCode, SetupError
from gred.control.progress import Progress
from gred.dataplane.tunnels import Counters
from gred.management import service, signals
from gred.management.notify import Notifier
from gred.management.reloading import Outcome as Reloaded
from gred.management.service import Service
from gred.wire.drop import DropReason
from tests.management.doubles import RememberingLog, counters


async def _nothing() -> None:
    return


@dataclass
class FakeDaemon:
    """Remembers what it was told; *on_start* and *on_stop* are what it does then."""

    on_start: Callable[[], Awaitable[None]] = _nothing
    on_stop: Callable[[], Awaitable[None]] = _nothing
    calls: list[str] = field(default_factory=list)
    drops: dict[DropReason, int] = field(default_factory=dict)
    text: str = "1 tunnel, 0 up"
    work: Progress = field(default_factory=Progress)
    names: list[str] = field(default_factory=lambda: ["Tunnel-1"])
    problems: tuple[str, ...] = ()
    before: list[tuple[str | None, Counters]] = field(default_factory=list)

    async def reload(self) -> Reloaded:
        self.calls.append("reload")
        return Reloaded(problems=self.problems)

    async def start(self) -> None:
        self.calls.append("start")
        await self.on_start()
        self.calls.append("up")

    async def stop(self) -> None:
        self.calls.append("stop")
        await self.on_stop()

    def progress(self) -> str:
        return str(self.work)

    def facts(self) -> Mapping[str, object]:
        return {"tunnels": 1, "codec": "c"}

    def counters(self) -> Iterator[tuple[str | None, Counters]]:
        for name in self.names:
            yield name, counters(rx=self.drops)

    def past(self) -> list[tuple[str | None, Counters]]:
        return self.before

    def status(self) -> str:
        return self.text


class RememberingNotifier(Notifier):
    def __init__(self, watchdog_seconds: float | None = None) -> None:
        super().__init__({})
        self.watchdog_seconds = watchdog_seconds
        self.sent: list[str] = []
        self.heard = asyncio.Event()

    def _send(self, message: str, *_descriptors: int) -> bool:
        self.sent.append(message)
        self.heard.set()
        return True


@dataclass
class Outcome:
    code: int
    log: RememberingLog
    notifier: RememberingNotifier
    daemon: FakeDaemon
    aborted: list[int]


Script = Callable[[Service, RememberingNotifier], Awaitable[None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def live(request: pytest.FixtureRequest) -> Callable[..., Outcome]:
    """Run a service to its end; *script* runs beside it from READY=1 on."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def live(
        daemon: FakeDaemon,
        script: Script | None = None,
        *,
        watchdog_seconds: float | None = None,
        hangup_stops: bool = False,
        before: Callable[[RememberingNotifier], None] = lambda _notifier: None,
    ) -> Outcome:
        log = RememberingLog()
        aborted: list[int] = []

        async def main() -> Outcome:
            notifier = RememberingNotifier(watchdog_seconds)
            before(notifier)
            running = Service(
                daemon,
                log.logger,
                notifier,
                facts={"version": "1"},
                reload=daemon.reload,
                hangup_stops=hangup_stops,
                abort=aborted.append,
            )
            ending = asyncio.create_task(running.run())
            if script is not None:
                while not notifier.sent:
                    await asyncio.wait_for(notifier.heard.wait(), 10)
                await script(running, notifier)
            code = await asyncio.wait_for(ending, 10)
            return Outcome(code, log, notifier, daemon, aborted)

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    return live


async def terminate(_service: Service, _notifier: RememberingNotifier) -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_stops_cleanly(live: Callable[..., Outcome], number: signal.Signals) -> None:
    async def script(_service: Service, _notifier: RememberingNotifier) -> None:
        signal.raise_signal(number)

    outcome = live(FakeDaemon(), script)
    assert outcome.code == 0
    assert outcome.daemon.calls == ["start", "up", "stop"]
    assert outcome.log.events() == ["started", "stopping", "stopped"]
    assert outcome.log.only("stopping").fields == {"signal": number.name}


def test_the_service_manager_hears_of_start_and_stop(live: Callable[..., Outcome]) -> None:
    assert live(FakeDaemon(), terminate).notifier.sent == [
        "READY=1\nSTATUS=1 tunnel, 0 up",
        "STOPPING=1\nSTATUS=stopping",
    ]


@pytest.mark.parametrize("doing", ["starting", "stopping"])
def test_work_that_goes_on_extends_the_timeout(
    live: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    """A step of work that is done is told once; nothing more is told until another is."""
    monkeypatch.setattr(service, "WORK_SECONDS", 0.001)
    daemon = FakeDaemon()
    notifiers: list[RememberingNotifier] = []
    heard: list[str] = []

    async def work() -> None:
        (notifier,) = notifiers
        daemon.work.begin("configured", 300)
        for _ in range(2):
            daemon.work.advance(120)
            notifier.heard.clear()
            await asyncio.wait_for(notifier.heard.wait(), 10)
            heard.append(notifier.sent[-1])
        before = len(notifier.sent)
        for _turn in range(10):
            await asyncio.sleep(0.001)
        assert len(notifier.sent) == before
        heard.append("no more")

    async def terminate_when_ready(_service: Service, notifier: RememberingNotifier) -> None:
        while not any(message.startswith("READY=1") for message in notifier.sent):
            notifier.heard.clear()
            await asyncio.wait_for(notifier.heard.wait(), 10)
        signal.raise_signal(signal.SIGTERM)

    setattr(daemon, {"starting": "on_start", "stopping": "on_stop"}[doing], work)
    live(daemon, terminate_when_ready, before=notifiers.append)
    assert heard == [
        f"EXTEND_TIMEOUT_USEC=60000000\nSTATUS={doing}: {done} of 300 tunnels configured"
        for done in (120, 240)
    ] + ["no more"]


def test_the_start_up_line_says_what_runs(live: Callable[..., Outcome]) -> None:
    started = live(FakeDaemon(), terminate).log.only("started")
    assert started.fields == {"version": "1", "tunnels": 1, "codec": "c"}


def test_a_signal_during_the_start_abandons_it_and_stops(live: Callable[..., Outcome]) -> None:
    async def stuck() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    outcome = live(FakeDaemon(on_start=stuck))
    assert outcome.code == 0
    assert outcome.daemon.calls == ["start", "stop"]
    assert outcome.notifier.sent == ["STOPPING=1\nSTATUS=stopping"]


def test_a_start_that_fails_while_abandoned_is_no_failure(live: Callable[..., Outcome]) -> None:
    async def stubborn() -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            raise SetupError("half a start")

    outcome = live(FakeDaemon(on_start=stubborn))
    assert outcome.code == 0
    assert outcome.daemon.calls == ["start", "stop"]


def test_a_setup_error_is_one_line_and_its_exit_code(live: Callable[..., Outcome]) -> None:
    async def refused() -> None:
        raise SetupError("cannot open /dev/net/tun", ExitCode.NO_TUN)

    outcome = live(FakeDaemon(on_start=refused))
    assert outcome.code == 69
    assert outcome.log.only("start_failed").fields == {"detail": "cannot open /dev/net/tun"}
    assert outcome.daemon.calls == ["start", "stop"]


def test_a_bug_at_the_start_keeps_its_traceback(live: Callable[..., Outcome]) -> None:
    bug = ZeroDivisionError()

    async def broken() -> None:
        raise bug

    outcome = live(FakeDaemon(on_start=broken))
    assert outcome.code == 1
    assert outcome.log.only("bug").fields["exc_info"] is bug
    assert outcome.daemon.calls == ["start", "stop"]


def test_a_bug_in_a_callback_stops_the_daemon(live: Callable[..., Outcome]) -> None:
    bug = ZeroDivisionError()

    def broken() -> None:
        raise bug

    async def script(_service: Service, _notifier: RememberingNotifier) -> None:
        asyncio.get_running_loop().call_soon(broken)

    outcome = live(FakeDaemon(), script)
    assert outcome.code == 1
    assert outcome.log.only("bug").fields["exc_info"] is bug
    assert outcome.daemon.calls == ["start", "up", "stop"]


def test_a_bug_in_the_stop_is_told(live: Callable[..., Outcome]) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    outcome = live(FakeDaemon(on_stop=broken), terminate)
    assert outcome.code == 1
    assert outcome.log.events() == ["started", "stopping", "bug", "stopped"]


def test_a_second_sigint_does_not_wait_for_the_stop(live: Callable[..., Outcome]) -> None:
    async def slow() -> None:
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0.05)  # the loop gets to the signal meanwhile

    async def script(_service: Service, _notifier: RememberingNotifier) -> None:
        signal.raise_signal(signal.SIGINT)

    outcome = live(FakeDaemon(on_stop=slow), script)
    assert outcome.aborted == [1]
    assert outcome.log.events() == ["started", "stopping", "aborted", "stopped"]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_another_signal_after_sigterm_changes_nothing(
    live: Callable[..., Outcome], second: signal.Signals
) -> None:
    """Ctrl-C reaches a whole process group, whose parent may have sent SIGTERM already."""

    async def slow() -> None:
        signal.raise_signal(second)
        await asyncio.sleep(0.05)

    assert live(FakeDaemon(on_stop=slow), terminate).aborted == []


@pytest.mark.parametrize("problems", [(), ("gred.conf:3: expected a number", "and more")])
def test_sighup_reloads_and_the_service_manager_is_told(
    live: Callable[..., Outcome], problems: tuple[str, ...]
) -> None:
    async def script(service: Service, notifier: RememberingNotifier) -> None:
        before = len(notifier.sent)
        signal.raise_signal(signal.SIGHUP)
        while not any("READY=1" in one for one in notifier.sent[before:]):
            notifier.heard.clear()
            await asyncio.wait_for(notifier.heard.wait(), 10)
        await terminate(service, notifier)

    outcome = live(FakeDaemon(problems=problems), script)
    assert outcome.code == 0
    assert outcome.daemon.calls == ["start", "up", "reload", "stop"]
    reloading, done = outcome.notifier.sent[1:3]
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    said = "reload refused: gred.conf:3: expected a number; " if problems else ""
    assert done == f"READY=1\nSTATUS={said}1 tunnel, 0 up"


def test_a_reload_that_raises_is_a_bug(live: Callable[..., Outcome]) -> None:
    class Broken(FakeDaemon):
        async def reload(self) -> Reloaded:
            raise RuntimeError("no")

    async def script(_service: Service, _notifier: RememberingNotifier) -> None:
        signal.raise_signal(signal.SIGHUP)

    outcome = live(Broken(), script)
    assert outcome.code == 1
    assert outcome.log.only("bug").fields["detail"] == "reload raised"


def test_sighup_stops_when_it_means_that_the_terminal_is_gone(
    live: Callable[..., Outcome],
) -> None:
    async def script(_service: Service, _notifier: RememberingNotifier) -> None:
        signal.raise_signal(signal.SIGHUP)

    outcome = live(FakeDaemon(), script, hangup_stops=True)
    assert outcome.log.only("stopping").fields == {"signal": "SIGHUP"}


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGIO, signal.SIGRTMIN + 3])
def test_a_signal_that_means_nothing_is_said_and_ends_nothing(
    live: Callable[..., Outcome], number: int
) -> None:
    async def script(service: Service, notifier: RememberingNotifier) -> None:
        signal.raise_signal(number)
        await asyncio.sleep(0.05)
        await terminate(service, notifier)

    outcome = live(FakeDaemon(), script)
    assert outcome.code == 0
    assert outcome.log.events() == ["started", "signal_ignored", "stopping", "stopped"]
    assert outcome.log.only("signal_ignored").fields == {"signal": signals.name(number)}


def test_sigusr1_tells_drops_and_states_at_once(live: Callable[..., Outcome]) -> None:
    async def script(service: Service, notifier: RememberingNotifier) -> None:
        signal.raise_signal(signal.SIGUSR1)
        await asyncio.sleep(0.05)
        await terminate(service, notifier)

    outcome = live(FakeDaemon(drops={DropReason.CSUM_ERR: 4}), script)
    assert outcome.log.events() == ["started", "drops", "status", "stopping", "stopped"]
    assert outcome.log.only("status").fields == {"detail": "1 tunnel, 0 up"}


def test_the_watchdog_is_petted(live: Callable[..., Outcome]) -> None:
    async def script(service: Service, notifier: RememberingNotifier) -> None:
        while notifier.sent.count("WATCHDOG=1") < 3:
            notifier.heard.clear()
            await asyncio.wait_for(notifier.heard.wait(), 10)
        await terminate(service, notifier)

    assert live(FakeDaemon(), script, watchdog_seconds=0.02).code == 0


def test_drops_are_told_at_the_end(live: Callable[..., Outcome]) -> None:
    outcome = live(FakeDaemon(drops={DropReason.CSUM_ERR: 4}), terminate)
    assert outcome.log.events() == ["started", "stopping", "drops", "stopped"]


def test_drops_are_told_at_intervals(
    live: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SUMMARY_SECONDS", 0.02)
    daemon = FakeDaemon(drops={DropReason.CSUM_ERR: 4})

    async def script(running: Service, notifier: RememberingNotifier) -> None:
        told = asyncio.Event()
        remembered: Any = running._log
        remembered.on_line = told.set
        await asyncio.wait_for(told.wait(), 10)
        await terminate(running, notifier)

    assert live(daemon, script).log.events() == ["started", "drops", "stopping", "stopped"]


def test_a_summary_of_many_tunnels_lets_packets_pass_in_between(
    live: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SUMMARY_SECONDS", 0.02)
    monkeypatch.setattr(service, "SLICE_SECONDS", 0.0)  # each tunnel is a slice
    daemon = FakeDaemon(drops={DropReason.CSUM_ERR: 4})
    daemon.names = [f"Tunnel-{number}" for number in range(20)]
    seen: list[int] = []

    async def script(running: Service, notifier: RememberingNotifier) -> None:
        told = asyncio.Event()
        remembered: Any = running._log

        def look() -> None:
            seen.append(remembered.events().count("drops"))
            told.set()

        remembered.on_line = lambda: asyncio.get_running_loop().call_soon(look)
        await asyncio.wait_for(told.wait(), 10)
        await terminate(running, notifier)

    lines = live(daemon, script).log.events()
    assert seen[0] < len(daemon.names)
    assert lines.count("drops") == len(daemon.names)


def test_the_status_is_not_told_again_and_again(
    live: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STATUS_SECONDS", 60.0)
    daemon = FakeDaemon()

    async def script(running: Service, notifier: RememberingNotifier) -> None:
        for number in range(1, 4):
            notifier.heard.clear()
            daemon.text = f"1 tunnel, {number} up"
            running.status_changed()
            if number == 1:
                await asyncio.wait_for(notifier.heard.wait(), 10)
        await terminate(running, notifier)

    sent = live(daemon, script).notifier.sent
    assert [line for line in sent if line.startswith("STATUS")] == ["STATUS=1 tunnel, 1 up"]


def test_changes_of_the_status_are_told_together(live: Callable[..., Outcome]) -> None:
    daemon = FakeDaemon()

    async def script(service: Service, notifier: RememberingNotifier) -> None:
        daemon.text = "1 tunnel, 1 up"
        notifier.heard.clear()
        service.status_changed()
        service.status_changed()
        await asyncio.wait_for(notifier.heard.wait(), 10)
        await terminate(service, notifier)

    assert live(daemon, script).notifier.sent == [
        "READY=1\nSTATUS=1 tunnel, 0 up",
        "STATUS=1 tunnel, 1 up",
        "STOPPING=1\nSTATUS=stopping",
    ]
