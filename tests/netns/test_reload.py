"""SIGHUP: the configuration is followed while packets pass, by a real daemon and a real kernel."""

import json
import re
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from gred.lab.daemon import Daemon
from gred.lab.flow import Flow
from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from gred.management.control.client import ask
from gred.management.places import socket_path
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, events, resident_kilobytes, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone

BETWEEN = f"Local={LEFT[0]}\nRemote={RIGHT[0]}\n", f"Local={RIGHT[0]}\nRemote={LEFT[0]}\n"


def config(here: int, changed: str = "", unchanged: str = "") -> str:
    ends = BETWEEN[here]
    return (
        "[Daemon]\nLogFormat=json\n"
        f"[Tunnel t1]\n{ends}Key=1\nAddress=10.7.1.{here + 1}/24\n{unchanged}\n"
        f"[Tunnel t2]\n{ends}Key=2\nAddress=10.7.2.{here + 1}/24\n{changed}\n"
    )


def configuration(daemons: Daemons, host: Host) -> Path:
    return daemons.lab.directory() / f"{host.name}.conf"


def reload(daemon: Daemon, path: Path, text: str) -> None:
    """Write *text* and have it followed."""
    before = len(events(daemon))
    path.write_text(text)
    daemon.send_signal(signal.SIGHUP)
    wait_for_event(daemon, "reloaded", after=before)


def index(host: Host, name: str) -> int:
    found: int = json.loads(host.ip("-json", "link", "show", name))[0]["ifindex"]
    return found


RELOADS, HISTORY = 1000, 600
GROWTH_KILOBYTES = 1000  # hundreds of reloads, each of which leaves nothing

IN_PLACE = (
    "TTL=9",
    "TOS=0x20",
    "AllowedSources=10.7.2.0/24",
    "MTUBytes=1300",
    "Keepalive=10s",
    "Carrier=always\nKeepalive=5s",
    "ClampMSS=no",
    "PacketSocket=no",
    "DiscoverPathMTU=no",
    "Repair=no",
    "InputChecksum=refuse",
    "Route=10.77.0.0/16",
    "Address=10.7.3.1/24",
)


def changing(options: str) -> str:
    """Return the configuration of the left host with *options* in its second tunnel."""
    if not options.startswith("Address"):
        return config(0, options)
    return config(0).replace("Address=10.7.2.1/24", "Address=10.7.2.1/24, 10.7.3.1/24")


@pytest.mark.parametrize("options", IN_PLACE)
def test_what_changes_in_place_loses_nothing(
    hosts: tuple[Host, Host], daemons: Daemons, options: str
) -> None:
    one, other = hosts
    path = configuration(daemons, one)
    near, _far = daemons.start(one, config(0)), daemons.start(other, config(1))
    wait_for_event(near, "tunnel_up", tunnel="t2")
    before = index(one, "t1"), index(one, "t2")
    text = changing(options)
    loads = [
        one.start(
            ["ping", "-q", "-i", "0.01", "-c", "150", f"10.7.{number}.2"],
            stdout=subprocess.PIPE,
        )
        for number in (1, 2)
    ]
    for _ in range(3):
        reload(near, path, text)
        reload(near, path, config(0))
    reload(near, path, text)
    for load in loads:
        told = load.communicate(timeout=30)[0].decode()
        assert re.search(r"150 packets transmitted, 150 received", told), told
    assert (index(one, "t1"), index(one, "t2")) == before
    names = [one["event"] for one in events(near) if one.get("tunnel") == "t1"]
    assert names == ["tunnel_up"], "the other is not touched"
    if "Route" in options:
        assert "10.77.0.0/16 dev t2" in one.ip("route")
    if "MTUBytes" in options:
        assert " mtu 1300 " in one.ip("link", "show", "t2")
    if "Address" in options:
        assert "10.7.3.1/24" in one.ip("address", "show", "t2")
    reload(near, path, config(0))
    assert "10.77.0.0/16" not in one.ip("route")
    assert "10.7.3.1/24" not in one.ip("address", "show", "t2")


def test_a_thousand_reloads_lose_nothing(
    hosts: tuple[Host, Host], daemons: Daemons, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the tunnel that stays nor in the one that is changed each time; nor do they cost.

    ``python -m benchmarks.reload`` has the figures.
    """
    one, other = hosts
    path = configuration(daemons, one)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(daemons.lab.directory()))
    near = daemons.start(one, config(0))
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    daemons.start(other, config(1))
    before = index(one, "t1"), index(one, "t2")
    control = daemons.lab.directory() / socket_path(path).name
    memory = []
    with ExitStack() as stack:
        flows = [
            stack.enter_context(Flow(*ends, address, rate=200))
            for ends, side in ((hosts, 2), (hosts[::-1], 1))
            for address in (f"10.7.1.{side}", f"10.7.2.{side}")
        ]
        for number in range(RELOADS):
            path.write_text(changing(IN_PLACE[number % len(IN_PLACE)]))
            *steps, _done = ask(control, "reload", patience=60)
            assert [(one["step"]["tunnel"], one["step"]["what"]) for one in steps] == [
                ("t2", "changed")
            ]
            memory.append(resident_kilobytes(near))
    assert [(flow.result().lost, flow.result().doubled) for flow in flows] == [((), 0)] * 4
    assert (index(one, "t1"), index(one, "t2")) == before
    # By then it remembers as many events as it ever does.
    assert max(memory[HISTORY:]) - memory[HISTORY] < GROWTH_KILOBYTES, memory[::100]


def test_a_key_changes_at_both_ends(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    paths = [configuration(daemons, host) for host in hosts]
    both = [daemons.start(host, config(here)) for here, host in enumerate(hosts)]
    before = index(one, "t2"), index(other, "t2")
    for here, daemon in enumerate(both):
        reload(daemon, paths[here], config(here).replace("Key=2", "Key=77"))
    assert ping(one, "10.7.2.2").received == 3
    assert (index(one, "t2"), index(other, "t2")) == before
    # Two that change places: each has the other's key in between.
    for here, daemon in enumerate(both):
        swapped = config(here).replace("Key=1\n", "Key=3\n").replace("Key=2\n", "Key=1\n")
        reload(daemon, paths[here], swapped.replace("Key=3\n", "Key=2\n"))
    for number in (1, 2):
        assert ping(one, f"10.7.{number}.2").received == 3


def test_tunnels_come_and_go(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    path = configuration(daemons, one)
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    first = config(0).split("[Tunnel t2]", maxsplit=1)[0]
    reload(near, path, first)
    assert "t2" not in one.ip("-brief", "link")
    reload(near, path, config(0))
    assert ping(one, "10.7.2.2").received == 3
    assert ping(one, "10.7.1.2").received == 3


def test_what_is_wrong_changes_nothing(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    one, other = hosts
    path = configuration(daemons, one)
    near = daemons.start(one, config(0))
    daemons.start(other, config(1))
    path.write_text(config(0, "TTL=300\nKye=1"))
    near.send_signal(signal.SIGHUP)
    wait_for(
        lambda: sum(one["event"] == "reload_refused" for one in events(near)) == 2, "both are said"
    )
    assert ping(one, "10.7.2.2").received == 3
    reload(near, path, config(0))


def test_the_mode_changes_by_another_interface(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    paths = [configuration(daemons, host) for host in hosts]
    both = [daemons.start(host, config(here)) for here, host in enumerate(hosts)]
    before = index(hosts[0], "t1")
    for here, daemon in enumerate(both):
        reload(daemon, paths[here], config(here, "Mode=gretap"))
    assert ping(hosts[0], "10.7.2.2").received > 0
    assert index(hosts[0], "t1") == before
