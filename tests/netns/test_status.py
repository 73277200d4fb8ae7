"""The control socket of a real daemon: status, events, reload, and clients that misbehave."""

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import jsonschema
import pytest

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from gred.management.places import socket_path
from tests.management.test_schema import SCHEMA
from tests.netns.daemons import Daemons, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.test_reload import config, configuration


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))


def gred(daemons: Daemons, host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = str(configuration(daemons, host))
    command = [sys.executable, "-m", "gred", "-c", path, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_newcomers_path(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    """Up, asked, its key changed by a reload, and gone."""
    one, other = hosts
    assert gred(daemons, one, "status").returncode == 1
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    assert ping(one, "10.7.1.2").received == 3
    table = gred(daemons, one, "status")
    assert [line.split()[:2] for line in table.stdout.splitlines()] == [["t1", "up"], ["t2", "up"]]
    block = gred(daemons, one, "status", "t1")
    assert block.returncode == 0
    assert block.stdout.startswith("t1: up for ")
    assert "  key: 1\n" in block.stdout
    status = json.loads(gred(daemons, one, "status", "t1", "--json").stdout)
    jsonschema.validate(status, SCHEMA)
    (tunnel,) = status["tunnels"]
    assert tunnel["tx_packets"] >= 3
    assert tunnel["addresses"] == ["10.7.1.1/24"]
    for here, host in enumerate(hosts):
        configuration(daemons, host).write_text(config(here).replace("Key=2", "Key=77"))
    dry = gred(daemons, one, "reload", "--dry-run")
    change, term = dry.stdout.splitlines()
    assert change == "changed t2: Key=2 -> 77"
    assert term.startswith("  ip link set dev t2 type gre local ")
    assert "key 77" in term
    assert gred(daemons, one, "reload").stdout == f"{change}\n"
    deaf = gred(daemons, one, "status", "t2")
    assert deaf.returncode == 0, "nothing was refused yet"
    assert gred(daemons, other, "reload").returncode == 0
    assert ping(one, "10.7.2.2").received == 3
    assert gred(daemons, one, "reload").stdout == ""
    told = gred(daemons, one, "events", "t2").stdout
    assert "tunnel_up t2" in told
    assert "tunnel_changed t2 detail=Key=2 -> 77" in told
    near.stop()
    gone = gred(daemons, one, "status")
    assert (gone.returncode, gone.stdout) == (1, "")
    assert "systemctl start gred" in gone.stderr


def test_a_bad_configuration_is_told_by_line(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one = hosts[0]
    daemons.start(one, config(0))
    configuration(daemons, one).write_text(config(0, "TTL=300"))
    for arguments in (["reload"], ["reload", "--dry-run"]):
        refused = gred(daemons, one, *arguments)
        assert refused.returncode == 78
        assert "TTL: expected" in refused.stderr
        assert "nothing was changed" in refused.stderr
    assert gred(daemons, one, "status", "t3").stderr == (
        "gred: there is no tunnel t3; there is t1, t2\n"
    )


def test_rates_are_shown_while_packets_pass(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    daemons.start(one, config(0))
    daemons.start(other, config(1))
    load = one.start(
        ["ping", "-q", "-i", "0.01", "-c", "1000", "10.7.2.2"], stdout=subprocess.DEVNULL
    )
    head, busy, idle = gred(daemons, one, "top", "-n", "1").stdout.splitlines()
    load.terminate()
    load.wait(10)
    assert head.split()[:2] == ["tunnel", "state"]
    assert busy.split()[:2] == ["t2", "up"]
    assert "kbit/s" in busy
    assert idle.split()[0] == "t1"


def test_a_reload_that_nobody_confirms_goes_back(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one, other = hosts
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    path = configuration(daemons, one)
    path.write_text(config(0).replace("Key=2", "Key=77"))
    assert gred(daemons, one, "reload", "--confirm", "never").returncode == 2
    assert "unless you type" in gred(daemons, one, "reload", "--confirm", "1s").stdout
    wait_for_event(near, "reload_undone")
    assert ping(one, "10.7.2.2").received == 3
    assert "unless you type" in gred(daemons, one, "reload", "--confirm", "60min").stdout
    assert ping(one, "10.7.2.2").received == 0
    assert "unless you type" in gred(daemons, one, "status").stdout
    assert gred(daemons, one, "confirm").returncode == 0
    assert gred(daemons, one, "confirm").returncode == 1
    assert "key: 77\n" in gred(daemons, one, "status", "t2").stdout


def test_who_sends_what_no_tunnel_takes(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    daemons.start(one, config(0))
    daemons.start(other, config(1).replace("Key=2", "Key=77"))
    assert ping(one, "10.7.1.2").received == 3
    assert ping(other, "10.7.2.1").received == 0
    told = json.loads(gred(daemons, one, "peers", "--json").stdout)
    assert {peer["tunnel"] for peer in told["peers"]} == {"t1", "t2"}
    (sender,) = told["unknown_senders"]
    assert (sender["key"], sender["nearest"]) == (77, "t2")
    assert sender["differs"] == "it has key 77, t2 takes key 2"
    drops = json.loads(gred(daemons, one, "drops", "--json").stdout)["drops"]
    # Of the three, and of what the interface at the other end sends for itself.
    assert sum(drop["count"] for drop in drops if drop["reason"] == "key_mismatch") >= 3
    assert "no tunnel has this key" in gred(daemons, one, "drops").stdout


def test_what_is_killed_leaves_nothing_in_the_way(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    one = hosts[0]
    first = daemons.start(one, config(0))
    first.send_signal(9)
    first.wait(10)
    assert "is gone" in gred(daemons, one, "status").stderr
    wait_for(lambda: "t1" not in one.ip("-brief", "link"), "its interfaces go")
    second = daemons.start(one, config(0))
    assert gred(daemons, one, "status").returncode == 0
    assert not [line for line in events(second) if line["event"] == "control_socket_failed"]


def test_clients_that_misbehave_cost_packets_nothing(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """Some ask without end, some never read, some send garbage; a ping goes on beside them."""
    one, other = hosts
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    wait_for_event(near, "tunnel_up", tunnel="t2")
    path = socket_path(configuration(daemons, one))
    question = b'{"version":1,"command":"status"}\n'
    with ExitStack() as clients:
        loud = []
        for number in range(20):
            client = clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.connect(str(path))
            client.setblocking(False)
            loud.append((client, question if number % 2 else os.urandom(50) + b"\n"))
        result = one.start(
            ["ping", "-q", "-i", "0.01", "-c", "300", "10.7.1.2"], stdout=subprocess.PIPE
        )
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for client, text in loud:
                try:
                    client.send(text * 20)
                except BlockingIOError:
                    continue
                except OSError:
                    continue  # let go
            time.sleep(0.01)  # 40,000 requests a second at most
        told = result.communicate(timeout=30)[0].decode()
    assert "300 packets transmitted, 300 received" in told, told
    assert gred(daemons, one, "status").returncode == 0
