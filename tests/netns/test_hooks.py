"""Programs that a tunnel runs, as a service runs them: another user, capabilities inherited."""

import json
from pathlib import Path

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.service import NOBODY, as_service


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    for directory in path.parents:
        if directory.owner() == path.owner() and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o055)
    return path


def section(here: int, options: str = "") -> str:
    near, far = ((LEFT, RIGHT), (RIGHT, LEFT))[here]
    return (
        f"[Tunnel t]\nLocal={near[0]}\nRemote={far[0]}\nAddress=10.9.1.{here + 1}/24\n{options}\n"
    )


def routes(host: Host) -> set[str]:
    return {route["dst"] for route in json.loads(host.ip("-json", "route"))}


def test_the_service_user_changes_routes_in_a_hook(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    ip = require.program("ip", package="iproute2")
    hook = script(
        daemons.lab.directory() / "hook",
        'echo "$GRED_HOOK $GRED_TUNNEL: $GRED_PREVIOUS_STATE to $GRED_STATE as $(id -u)"\n'
        'if [ "$GRED_STATE" = up ]; then\n'
        f"  {ip} route replace 10.78.0.0/16 via $GRED_REMOTE\n"
        f"else\n  {ip} route del 10.78.0.0/16\nfi\n",
    )
    daemons.start(right, section(1))
    own = f"PostUp={ip} route add 10.77.0.0/16 dev t\nPreDown={hook}\nOnStateChange={hook}"
    daemon = daemons.launch(left, section(0, own), wrapper=as_service())
    wait_for_event(daemon, "started")
    wait_for_event(daemon, "hook_ended", hook="PostUp")
    wait_for_event(daemon, "hook_ended", hook="OnStateChange", state="up")
    assert {"10.77.0.0/16", "10.78.0.0/16"} <= routes(left)
    assert ping(left, "10.9.1.2").received == 3

    left.ip("link", "set", "dev", "t", "down")
    wait_for_event(daemon, "hook_ended", hook="OnStateChange", state="disabled")
    assert "10.78.0.0/16" not in routes(left)
    before = len(events(daemon))
    left.ip("link", "set", "dev", "t", "up")
    wait_for_event(daemon, "hook_ended", after=before, hook="OnStateChange", state="up")
    assert daemon.stop() == 0
    told = [event["line"] for event in events(daemon) if event["event"] == "hook_output"]
    assert told[0] == f"OnStateChange t: down to up as {NOBODY}"
    ended = [event["hook"] for event in events(daemon) if event["event"] == "hook_ended"]
    assert ended == ["PostUp", *["OnStateChange"] * 3, "PreDown"]
    assert f"OnStateChange t: disabled to up as {NOBODY}" in told
    assert told[-1] == f"PreDown t: up to up as {NOBODY}"
    assert [event for event in events(daemon) if event["event"] == "hook_failed"] == []


def test_packets_pass_while_a_program_takes_its_time(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    sleep = require.program("sleep", package="coreutils")
    daemons.start(right, section(1))
    daemon = daemons.start(left, section(0, f"PostUp={sleep} 600\nHookTimeout=60min"))
    assert ping(left, "10.9.1.2").received == 3
    assert not [event for event in events(daemon) if event["event"].startswith("hook_")]
    assert daemon.stop() == 0
    told = wait_for_event(daemon, "hook_failed", hook="PostUp")
    assert told["detail"] == "ended because the tunnel goes"
