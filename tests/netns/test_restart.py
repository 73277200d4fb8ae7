"""A restart with a descriptor store: the interface and what it has stay, and packets go on."""

import contextlib
import hashlib
import json
import re
import secrets
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, events
from tests.netns.manager import Manager
from tests.netns.once import implementation  # noqa: F401 - control alone

BETWEEN = f"Local={LEFT[0]}\nRemote={RIGHT[0]}\n", f"Local={RIGHT[0]}\nRemote={LEFT[0]}\n"


def config(here: int, *numbers: int, extra: str = "") -> str:
    text = "[Daemon]\nLogFormat=json\n"
    for number in numbers or (1,):
        address = f"10.7.{number}.{here + 1}/24"
        text += f"[Tunnel t{number}]\n{BETWEEN[here]}Key={number}\nAddress={address}\n{extra}\n"
    return text


def link(host: Host, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.ip("-json", "link", "show", name))[0]
    return found


def has(host: Host, name: str) -> bool:
    return any(one["ifname"] == name for one in json.loads(host.ip("-json", "link", "show")))


@pytest.fixture
def manager(hosts: tuple[Host, Host], daemons: Daemons) -> Iterator[Manager]:
    manager = Manager(daemons, hosts[0])
    yield manager
    daemons.stop()
    manager.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_keeps_the_interface_and_its_packets(
    hosts: tuple[Host, Host], daemons: Daemons, manager: Manager, how: signal.Signals
) -> None:
    one, other = hosts
    daemons.start(other, config(1))
    first = manager.launch(config(0, extra="Route=10.77.0.0/16"))
    assert manager.names().count("tun-t1") == 1
    one.ip("route", "add", "10.88.0.0/16", "dev", "t1")  # somebody else's
    one.ip("address", "add", "10.7.9.1/24", "dev", "t1")
    before, routes = link(one, "t1"), one.ip("route")
    load = one.start(
        ["ping", "-q", "-i", "0.01", "-c", "400", "-W", "5", "10.7.1.2"], stdout=subprocess.PIPE
    )
    with transfer(one, other) as (sent, received):
        for _ in range(2):
            first.send_signal(how)
            first.wait(20)
            assert link(one, "t1")["ifindex"] == before["ifindex"], "no process has it"
            first = manager.launch(config(0, extra="Route=10.77.0.0/16"))
            # What waited has passed: what a process has read is lost if it is killed.
            assert ping(one, "10.7.1.2").received == 3
        assert load.poll() is None, "it ended before the restarts did"
    assert sent == received, "the stream of TCP went on"
    told = load.communicate(timeout=60)[0].decode()
    lost = 400 - int(re.search(r"(\d+) received", told)[1])  # type: ignore[index]
    assert lost <= 4, told
    assert link(one, "t1") == before
    assert one.ip("route") == routes
    (started,) = [event for event in events(first) if event["event"] == "started"]
    assert started["adopted"] == 1
    assert manager.names().count("tun-t1") == 1


@contextlib.contextmanager
def transfer(one: Host, other: Host) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Send by TCP from *one* to *other* all the while; digests of what was, and what came."""
    sent, received = [], []
    with other.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        listening.bind(("10.7.1.2", 0))
        listening.listen()
        sender = one.socket(socket.AF_INET, socket.SOCK_STREAM)
        sender.settimeout(30)
        sender.connect(listening.getsockname())
        receiver, _address = listening.accept()
    ending = threading.Event()

    def send() -> None:
        digest = hashlib.sha256()
        while not ending.wait(0.005):
            data = secrets.token_bytes(20000)
            digest.update(data)
            sender.sendall(data)
        sender.shutdown(socket.SHUT_WR)
        sent.append(digest.digest())

    def receive() -> None:
        digest = hashlib.sha256()
        while data := receiver.recv(65536):
            digest.update(data)
        received.append(digest.digest())

    both = [threading.Thread(target=each, daemon=True) for each in (send, receive)]
    for each in both:
        each.start()
    try:
        yield sent, received
    finally:
        ending.set()
        for each in both:
            each.join(30)
        sender.close()
        receiver.close()


@pytest.mark.parametrize(
    ("extra", "socket_name"), [("", "gre4"), ("Transport=udp\nSourcePort=4754", "udp4-4754")]
)
def test_what_arrives_meanwhile_waits(
    hosts: tuple[Host, Host], daemons: Daemons, manager: Manager, extra: str, socket_name: str
) -> None:
    """Nobody is told that it is unreachable, and each packet is for its tunnel."""
    other = hosts[1]
    far = daemons.start(other, config(1, 1, 2, extra=extra))
    first = manager.launch(config(0, 1, 2, extra=extra))
    assert {socket_name, "tun-t1", "tun-t2"} <= set(manager.names())
    first.stop()
    loads = [
        other.start(
            ["ping", "-q", "-i", "0.01", "-c", "50", "-W", "10", f"10.7.{number}.1"],
            stdout=subprocess.PIPE,
        )
        for number in (1, 2)
    ]
    wait_for(lambda: other.statistics("t2")["tx_packets"] > 40, "they are on their way")
    before = manager.launch(config(0, 1, 2, extra=extra))
    for load in loads:
        told = load.communicate(timeout=30)[0].decode()
        assert " 50 received" in told, told
    assert not drops(before)
    far.stop()
    assert not any("refused" in str(event) for event in events(far)), far.log()


def test_what_is_kept_for_no_tunnel_goes(
    hosts: tuple[Host, Host], daemons: Daemons, manager: Manager
) -> None:
    one, other = hosts
    daemons.start(other, config(1, 1, 2))
    first = manager.launch(config(0, 1, 2))
    assert [name for name in manager.names() if name.startswith("tun")] == ["tun-t1", "tun-t2"]
    first.stop()
    manager.launch(config(0, 2))
    wait_for(lambda: "tun-t1" not in manager.names(), "it is not kept")
    wait_for(lambda: not has(one, "t1"), "its interface is gone")
    assert ping(one, "10.7.2.2").received == 3


def test_a_device_of_another_kind_is_made_anew(hosts: tuple[Host, Host], manager: Manager) -> None:
    one = hosts[0]
    first = manager.launch(config(0))
    before = link(one, "t1")["ifindex"]
    for extra in ("Mode=gretap", "Mode=gretap\nOffload=no"):
        first.stop()
        first = manager.launch(config(0, extra=extra))
        assert link(one, "t1")["ifindex"] != before
        before = link(one, "t1")["ifindex"]
        wait_for(lambda: manager.names().count("tun-t1") == 1, "it is kept, once")


def test_an_interface_deleted_meanwhile_is_made_anew(
    hosts: tuple[Host, Host], manager: Manager
) -> None:
    one = hosts[0]
    first = manager.launch(config(0))
    first.stop()
    one.ip("link", "delete", "t1")
    first = manager.launch(config(0))
    assert has(one, "t1")
    wait_for(lambda: manager.names().count("tun-t1") == 1, "it is kept, once")
    one.ip("link", "delete", "t1")
    wait_for(lambda: [e["event"] for e in events(first)].count("tunnel_up") == 2, "made again")
    wait_for(lambda: manager.names().count("tun-t1") == 1, "it is kept, once")


def test_a_reload_keeps_the_store_in_step(hosts: tuple[Host, Host], manager: Manager) -> None:
    one = hosts[0]
    daemon = manager.launch(config(0, 1, 2))
    path = manager.directory / f"{one.name}.conf"
    path.write_text(config(0, 2, 3))
    daemon.send_signal(signal.SIGHUP)
    wait_for(lambda: "reloaded" in [e["event"] for e in events(daemon)], "reloaded")
    devices = [name for name in manager.names() if name.startswith("tun")]
    assert devices == ["tun-t2", "tun-t3"]
    assert not has(one, "t1")


def test_a_stop_for_good_leaves_nothing(hosts: tuple[Host, Host], manager: Manager) -> None:
    one = hosts[0]
    manager.launch(config(0)).stop()
    assert has(one, "t1"), "as long as the manager has it"
    manager.close()
    wait_for(lambda: not has(one, "t1"), "it is gone")


def test_a_manager_without_room_keeps_nothing(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    manager = Manager(daemons, hosts[0], room=0)
    daemon = manager.launch(config(0))
    daemon.stop()
    assert not has(hosts[0], "t1")
    assert not any(b"FDSTORE" in one for one in manager.said)
    manager.close()


def test_sequence_numbers_and_counters_go_on(
    hosts: tuple[Host, Host], daemons: Daemons, manager: Manager
) -> None:
    """The other end, as strict as a kernel, sees no restart."""
    one, other = hosts
    numbers = "SerializeTunneledPackets=yes\nKeepalive=3s\n"
    far = daemons.start(other, config(1, extra=numbers))
    first = manager.launch(config(0, extra=numbers))
    wait_for(lambda: {host.state("t1") for host in hosts} == {"UP"}, "each end has answered")
    assert ping(one, "10.7.1.2").received == 3
    first.stop()
    again = manager.launch(config(0, extra=numbers))
    assert one.state("t1") == "UP", "it never lost its carrier"
    assert ping(one, "10.7.1.2").received == 3
    assert "state" in manager.names()
    assert not [event for event in events(again) if event["event"] in {"state_ignored", "drops"}]
    again.send_signal(signal.SIGKILL)
    again.wait(20)
    last = manager.launch(config(0, extra=numbers))
    assert ping(one, "10.7.1.2").received == 3
    far.stop()
    assert not drops(far), far.log()
    for daemon in (again, last):
        told = [event["event"] for event in events(daemon)]
        assert "peer_silent" not in told, daemon.log()
        assert "tunnel_troubled" not in told, daemon.log()


def test_a_route_that_left_the_configuration_goes(
    hosts: tuple[Host, Host], manager: Manager
) -> None:
    one = hosts[0]
    manager.launch(config(0, extra="Route=10.77.0.0/16")).stop()
    one.ip("route", "add", "10.88.0.0/16", "dev", "t1")
    manager.launch(config(0, extra="Route=10.78.0.0/16"))
    routes = one.ip("route")
    assert "10.77.0.0/16" not in routes
    assert "10.78.0.0/16" in routes
    assert "10.88.0.0/16" in routes, "somebody else's"


def test_learned_peers_and_counters_are_known_again(
    hosts: tuple[Host, Host], daemons: Daemons, manager: Manager
) -> None:
    one, other = hosts
    hub = (
        f"[Daemon]\nLogFormat=json\n[Tunnel t1]\nLocal={LEFT[0]}\nLearnPeers=yes\n"
        "Key=1\nAddress=10.7.1.1/24\n"
    )
    daemons.start(other, config(1))
    first = manager.launch(hub)
    assert ping(other, "10.7.1.1").received == 3
    first.stop()
    again = manager.launch(hub)
    assert ping(one, "10.7.1.2").received == 3, "it knows where that is"
    before = len(events(again))
    again.send_signal(signal.SIGUSR1)
    wait_for(lambda: len(events(again)) > before, "it says how it is")
    assert not [event for event in events(again) if event["event"] == "drops"]
