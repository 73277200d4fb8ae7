"""Which programs of a tunnel run, and when: real programs, everything else fake."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gred.config.model import TunnelConfig
from gred.control import hooks, programs
from gred.control.events import Event, HookEnded, HookFailed, HookOutput
from tests.control.conftest import Run
from tests.control.fakes import REMOTE, House, configuration, tunnel
from tests.waiting import until

LONG = 3600.0
SAYS = 'echo "$GRED_HOOK $GRED_TUNNEL $GRED_PREVIOUS_STATE $GRED_STATE"'


def script(text: str) -> tuple[str, ...]:
    return "/bin/sh", "-c", text


def hooked(name: str = "t1", text: str = SAYS, **fields: Any) -> TunnelConfig:
    """Return a tunnel that runs *text* whenever there is something to run."""
    own: dict[str, Any] = dict.fromkeys(("post_up", "pre_down", "on_state_change"), script(text))
    return replace(tunnel(name), **{**own, "hook_timeout": LONG, **fields})


def lines(house: House) -> list[str]:
    return [event.line for event in house.events if isinstance(event, HookOutput)]


def ended(house: House) -> list[Event]:
    return [event for event in house.events if isinstance(event, HookEnded | HookFailed)]


def failures(house: House) -> list[str]:
    return [event.detail for event in house.events if isinstance(event, HookFailed)]


def test_the_life_of_a_tunnel_is_told_in_order(run: Run) -> None:
    async def scenario() -> None:
        house = House((hooked(),))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        house.kernel.no_route(REMOTE)
        await house.change()
        await until(lambda: len(ended(house)) == 3)
        house.kernel.route_outside(REMOTE)
        await house.change()
        await until(lambda: len(ended(house)) == 4)
        await house.daemon.stop()
        assert lines(house) == [
            "PostUp t1 down up",
            "OnStateChange t1 down up",
            "OnStateChange t1 up no_route",
            "OnStateChange t1 no_route up",
            "PreDown t1 up up",
        ]
        assert failures(house) == []
        assert house.names()[-1] == "tunnel_down", "PreDown comes before the interface goes"
        assert house.nothing_is_left()

    run(scenario())


def test_the_facts_are_in_the_environment_and_nothing_else(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")

    async def scenario() -> None:
        own = replace(hooked(text="env | sort"), post_up=(), pre_down=())
        house = House((own,))
        house.kernel.no_route(REMOTE)
        await house.daemon.start()
        await until(lambda: ended(house))
        await house.daemon.stop()
        assert [line for line in lines(house) if not line.startswith(("PWD=", "_=", "SHLVL="))] == [
            "GRED_HOOK=OnStateChange",
            "GRED_LOCAL=192.0.2.1",
            "GRED_MODE=gre",
            "GRED_MTU=1476",
            "GRED_PREVIOUS_STATE=down",
            "GRED_REASON=no route to 192.0.2.2: Network is unreachable",
            "GRED_REMOTE=192.0.2.2",
            "GRED_STATE=no_route",
            "GRED_TUNNEL=t1",
            "LANG=C.UTF-8",
            f"PATH={hooks._PATH}",
        ]

    run(scenario())


def test_a_tunnel_without_programs_runs_none(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(), hooked("t2")))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        assert {event.tunnel for event in ended(house)} == {"t2"}
        await house.daemon.stop()
        assert {event.tunnel for event in ended(house)} == {"t2"}

    run(scenario())


def gate(path: Path) -> str:
    """Return a script that says what it is told, then waits until *path* exists."""
    return f"{SAYS}; while ! [ -e {path} ]; do sleep 0.01; done"


def test_one_at_a_time_and_of_what_changed_meanwhile_the_newest(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House((hooked(text=gate(tmp_path / "go"), post_up=(), pre_down=()),))
        await house.daemon.start()
        await until(lambda: lines(house) == ["OnStateChange t1 down up"])
        for way in (house.kernel.no_route, house.kernel.route_outside, house.kernel.no_route):
            way(REMOTE)
            await house.change()
        assert len(lines(house)) == 1
        assert ended(house) == []
        (tmp_path / "go").touch()
        await until(lambda: len(ended(house)) == 2)
        assert lines(house)[1:] == ["OnStateChange t1 up no_route"]
        await house.daemon.stop()

    run(scenario())


def test_a_state_that_was_told_is_not_told_again(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        house = House((hooked(text=gate(tmp_path / "go"), post_up=()),))
        await house.daemon.start()
        await until(lambda: lines(house))
        for way in (house.kernel.no_route, house.kernel.route_outside):
            way(REMOTE)
            await house.change()
        (tmp_path / "go").touch()
        await until(lambda: ended(house))
        await house.daemon.stop()
        assert lines(house) == ["OnStateChange t1 down up", "PreDown t1 up up"]

    run(scenario())


def test_an_interface_that_is_made_anew_is_told_again(run: Run) -> None:
    async def scenario() -> None:
        house = House((hooked(),))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        house.events.clear()
        house.kernel.interfaces.pop(house.kernel.devices[0].index)
        await house.change()
        await until(lambda: "tunnel_up" in [event.name for event in house.events])
        await until(lambda: "PostUp t1 down up" in lines(house))
        await house.daemon.stop()
        assert lines(house)[-1] == "PreDown t1 up up"

    run(scenario())


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (("/nowhere/x",), "cannot run /nowhere/x: No such file or directory"),
        (("/etc/passwd",), "cannot run /etc/passwd: Permission denied"),
        (script("exit 7"), "exit status 7"),
    ],
)
def test_a_program_that_fails_is_told_and_changes_nothing(
    run: Run, command: tuple[str, ...], detail: str
) -> None:
    async def scenario() -> None:
        house = House((hooked(post_up=command, pre_down=command),))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        assert house.daemon.status() == "1 tunnel: 1 up"
        await house.daemon.stop()
        assert failures(house) == [detail, detail]
        assert lines(house) == ["OnStateChange t1 down up"]
        assert house.nothing_is_left()

    run(scenario())


def test_a_program_has_its_time(run: Run) -> None:
    async def scenario() -> None:
        house = House((hooked(post_up=script("exec sleep 600"), hook_timeout=0.1),))
        await house.daemon.start()
        await until(lambda: failures(house))
        assert failures(house) == ["ended because it took 0.1 s (HookTimeout=)"]
        await until(lambda: lines(house) == ["OnStateChange t1 down up"])
        await house.daemon.stop()

    run(scenario())


@pytest.fixture
def little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "STOP_SECONDS", 1.5)
    monkeypatch.setattr(hooks, "_FINISH_SECONDS", 0.05)
    monkeypatch.setattr(programs, "GRACE_SECONDS", 0.05)


@pytest.mark.usefixtures("little_time")
def test_a_stop_ends_what_is_under_way_and_what_does_not_end(run: Run) -> None:
    stubborn = "trap '' TERM; while :; do sleep 0.01; done"

    async def scenario() -> None:
        house = House((hooked(text=f"echo $GRED_HOOK; {stubborn}"),))
        await house.daemon.start()
        await until(lambda: lines(house) == ["PostUp"])
        await house.daemon.stop()
        assert lines(house) == ["PostUp", "PreDown"]
        assert failures(house) == [
            "ended because the tunnel goes",
            "ended because there was no more time to stop",
        ]
        assert house.nothing_is_left()

    run(scenario())


@pytest.mark.usefixtures("little_time")
def test_many_tunnels_share_the_time_of_a_stop(run: Run) -> None:
    count = 2 * hooks.AT_ONCE

    async def scenario() -> None:
        own: dict[str, Any] = {"post_up": (), "on_state_change": ()}
        tunnels = (hooked(f"t{n}", "exec sleep 600", **own) for n in range(1, count + 1))
        house = House(tuple(tunnels))
        await house.daemon.start()
        await house.daemon.stop()
        told = sorted(failures(house))
        assert len(told) == count
        assert set(told) == {
            "ended because there was no more time to stop",
            "not run: those of other tunnels took all the time",
        }
        assert house.nothing_is_left()

    run(scenario())


def test_so_many_run_at_once_and_the_others_wait(run: Run, tmp_path: Path) -> None:
    count = hooks.AT_ONCE + 3
    text = gate(tmp_path / "go")

    async def scenario() -> None:
        own: dict[str, Any] = {"pre_down": (), "on_state_change": ()}
        house = House(tuple(hooked(f"t{n}", text, **own) for n in range(1, count + 1)))
        await house.daemon.start()
        await until(lambda: len(lines(house)) == hooks.AT_ONCE)
        assert ended(house) == []
        (tmp_path / "go").touch()
        await until(lambda: len(ended(house)) == count)
        await house.daemon.stop()
        assert failures(house) == []

    run(scenario())


def reloaded(change: Callable[[TunnelConfig], tuple[TunnelConfig, ...]], *then: str) -> None:
    async def scenario() -> None:
        house = House((hooked(),))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        house.events.clear()
        await house.daemon.reload(configuration(*change(hooked())))
        await until(lambda: len(lines(house)) >= len(then))
        await until(lambda: len(ended(house)) >= len(then))
        assert lines(house) == list(then)
        await house.daemon.stop()

    asyncio.run(scenario())


def test_a_tunnel_that_goes_with_a_reload_is_told() -> None:
    reloaded(lambda _one: (), "PreDown t1 up up")


def test_a_tunnel_that_is_made_anew_is_told() -> None:
    again = ("PreDown t1 up up", "PostUp t1 down up", "OnStateChange t1 down up")
    reloaded(lambda one: (replace(one, offload=not one.offload),), *again)


def test_another_command_takes_effect_with_a_reload_and_runs_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = House((hooked(),))
        await house.daemon.start()
        await until(lambda: len(ended(house)) == 2)
        house.events.clear()
        plan = await house.daemon.reload(configuration(hooked(pre_down=script("echo another"))))
        assert plan.names("changed") == ["t1"]
        await house.daemon.stop()
        assert lines(house) == ["another"]

    run(scenario())


def test_a_start_that_fails_leaves_no_program(run: Run) -> None:
    async def scenario() -> None:
        house = House((hooked(),))
        starting = asyncio.ensure_future(house.daemon.start())
        await until(lambda: "tunnel_up" in [event.name for event in house.events])
        starting.cancel()
        await asyncio.wait([starting])
        await house.daemon.stop()
        assert house.nothing_is_left()
        assert len(asyncio.all_tasks()) == 1

    run(scenario())
