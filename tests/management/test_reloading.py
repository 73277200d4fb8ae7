"""The file is read again; what is wrong with it changes nothing."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gred.config import Config, load
from gred.config.model import DaemonConfig
from gred.control.errors import ExitCode, SetupError
from gred.control.reload import Plan, plan
from gred.management.reloading import Reloading, Reloads
from tests.management.doubles import Clock, RememberingLog
from tests.waiting import until

GOOD = "[Tunnel t1]\nLocal=192.0.2.1\nRemote=192.0.2.2\n"


@dataclass
class FakeDaemon:
    config: Config
    refuses: SetupError | None = None
    followed: list[Config] = field(default_factory=list)

    async def reload(self, config: Config) -> Plan:
        if self.refuses is not None:
            raise self.refuses
        self.followed.append(config)
        before, self.config = self.config, config
        return plan(before, config)

    def plan(self, config: Config) -> Plan:
        return plan(self.config, config)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "gred.conf"
    path.write_text(GOOD)
    return path


def test_what_is_written_is_followed(path: Path) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))
    path.write_text(GOOD + "Key=5\n[Tunnel t2]\nRemote=192.0.2.3\n")
    outcome = asyncio.run(Reloading(daemon, lambda: load(path), log.logger).reload())
    assert outcome.exit_code is ExitCode.OK
    assert [tunnel.name for tunnel in daemon.followed[0].tunnels] == ["t1", "t2"]
    assert log.only("reloaded").fields == {"added": 1, "changed": 1}


def test_what_is_wrong_is_said_and_not_followed(path: Path) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))
    path.write_text(GOOD + "Kye=5\nTTL=300\n")
    outcome = asyncio.run(Reloading(daemon, lambda: load(path), log.logger).reload())
    assert outcome.exit_code is ExitCode.BAD_CONFIGURATION
    assert daemon.followed == []
    assert len(outcome.problems) == 2
    assert [line.fields["detail"] for line in log.lines] == list(outcome.problems)
    assert all(f"{path}:" in problem for problem in outcome.problems)


def test_a_kernel_that_is_deaf_is_said(path: Path) -> None:
    log = RememberingLog()
    daemon = FakeDaemon(load(path), refuses=SetupError("cannot ask the kernel"))
    outcome = asyncio.run(Reloading(daemon, lambda: load(path), log.logger).reload())
    assert outcome.problems == ("cannot ask the kernel",)
    assert outcome.exit_code is ExitCode.FAILURE


def test_a_dry_run_changes_nothing(path: Path) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))
    path.write_text(GOOD + "Key=5\n")
    reloading = Reloading(daemon, lambda: load(path), log.logger)
    outcome = asyncio.run(reloading.reload(dry_run=True))
    assert outcome.plan is not None
    assert list(map(str, outcome.plan.steps)) == ["changed t1: Key=none -> 5"]
    path.write_text(GOOD + "Kye=5\n")
    assert asyncio.run(reloading.reload(dry_run=True)).problems
    assert (daemon.followed, log.lines) == ([], [])


SOON, NEVER = 0.02, 3600.0


def write(path: Path, line: str) -> None:
    path.write_text(f"{GOOD}{line}\n")


async def reloaded(path: Path, reloading: Reloading, key: int, confirm: float | None) -> None:
    write(path, f"Key={key}")
    assert not (await reloading.reload(confirm=confirm)).problems


def test_what_nobody_confirms_goes_back(path: Path) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))
    first = daemon.config

    async def scenario() -> None:
        reloading = Reloading(daemon, lambda: load(path), log.logger)
        await reloaded(path, reloading, 5, NEVER)
        assert (reloading.remaining or 0) > NEVER - 60
        # A second one goes back to what was there before the first.
        await reloaded(path, reloading, 6, SOON)
        await until(lambda: "reload_undone" in log.events())
        assert daemon.config == first
        assert reloading.remaining is None
        assert not reloading.confirm(), "too late"
        assert "the file still has" in log.only("reload_undone").fields["detail"]

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["confirm", "reload"])
def test_what_is_confirmed_stays(path: Path, how: str) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))

    async def scenario() -> None:
        reloading = Reloading(daemon, lambda: load(path), log.logger)
        await reloaded(path, reloading, 5, NEVER)
        if how == "confirm":
            assert reloading.confirm()
        else:
            await reloaded(path, reloading, 5, None)
        assert reloading.remaining is None
        assert daemon.config.tunnels[0].input_key == 5
        await reloading.close()

    asyncio.run(scenario())


def test_one_that_is_refused_leaves_the_last_one_waiting(path: Path) -> None:
    log, daemon = RememberingLog(), FakeDaemon(load(path))

    async def scenario() -> None:
        reloading = Reloading(daemon, lambda: load(path), log.logger)
        await reloaded(path, reloading, 5, NEVER)
        write(path, "Kye=5")
        assert (await reloading.reload()).problems
        assert reloading.remaining is not None
        await reloading.close()
        assert reloading.remaining is None

    asyncio.run(scenario())


def test_who_follows_daemon_options_is_told_and_what_became_is_known(path: Path) -> None:
    log, daemon, clock = RememberingLog(), FakeDaemon(load(path)), Clock()
    told: list[DaemonConfig] = []

    async def follow(config: DaemonConfig) -> None:
        told.append(config)

    async def scenario() -> None:
        reloading = Reloading(daemon, lambda: load(path), log.logger, follow, clock)
        assert reloading.reloads() == Reloads(successful=True, succeeded_at=100.0)
        clock.now = 200.0
        write(path, "Kye=5")
        assert (await reloading.reload(dry_run=True)).problems
        assert reloading.reloads().successful
        assert (await reloading.reload()).problems
        assert reloading.reloads() == Reloads(successful=False, succeeded_at=100.0)
        assert told == []
        write(path, "[Daemon]\nMetricsListen=127.0.0.1:10047")
        outcome = await reloading.reload(confirm=SOON)
        assert outcome.plan is not None
        assert outcome.plan.detail == "changed [Daemon]: MetricsListen=none -> 127.0.0.1:10047"
        assert reloading.reloads() == Reloads(successful=True, succeeded_at=200.0)
        assert [str(one.metrics_listen) for one in told] == ["127.0.0.1:10047"]
        await until(lambda: "reload_undone" in log.events())
        assert [str(one.metrics_listen) for one in told] == ["127.0.0.1:10047", "None"]
        assert not reloading.reloads().successful

    asyncio.run(scenario())
