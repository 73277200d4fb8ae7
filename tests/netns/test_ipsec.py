"""IPsec=require where nothing protects: in neither direction anything passes in clear.

With policies of a real kernel, which need not have ESP. What is protected is in the guest
(tests/interop/guest/ipsec.py).
"""

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gred.lab.capture import Capture
from gred.lab.daemon import Daemon
from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from gred.management.control.client import ask
from tests.netns import clear_text
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, events, wait_for_event
from tests.netns.manager import Manager
from tests.netns.once import implementation  # noqa: F401 - sockets are control's here
from tests.netns.service import as_service

pytestmark = pytest.mark.usefixtures("silence")
UNDERLAYS = pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])
TIMES = 3


def section(host: Host, underlay: int = 0, options: str = "IPsec=require") -> str:
    (local, remote), own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    ends = f"Local={local[underlay]}\nRemote={remote[underlay]}"
    return f"[Tunnel t]\n{ends}\nAddress=10.9.1.{own}/24\n{options}\n"


@pytest.fixture(autouse=True)
def flushed(hosts: tuple[Host, Host]) -> Iterator[None]:
    yield
    for host in hosts:
        host.ip("xfrm", "policy", "flush")


@pytest.fixture
def wire(hosts: tuple[Host, Host], lab: Lab) -> Iterator[Path]:
    """Return a file that has what the wire held, once the fixture's user is done."""
    path = lab.directory() / "wire.pcap"
    capture = Capture(hosts[0], UNDERLAY, path)
    with capture:
        yield path
    assert clear_text.count(path, clear_text.GRE) == 0, "not one packet in clear"
    assert capture.packets, "else this shows nothing"
    assert not capture.missed


def policy(host: Host, underlay: int, what: str, *, way: str = "out") -> None:
    local, remote = (LEFT, RIGHT) if host.name == "left" else (RIGHT, LEFT)
    ends = [local[underlay], remote[underlay]]
    source, destination = ends if way == "out" else ends[::-1]
    words = f"xfrm policy {what} src {source} dst {destination} proto 47 dir {way}"
    if what == "add":
        words += f" tmpl src {source} dst {destination} proto esp mode transport"
    host.ip(*words.split())


def shields(host: Host) -> int:
    """Return how many block policies gred has there."""
    listed = re.findall(r"action block priority (\d+)", host.ip("xfrm", "policy"))
    return sum(int(priority) >> 16 == 0x6772 for priority in listed)


def knock(left: Host, right: Host) -> None:
    """Send into the tunnel, and see that the wire works."""
    assert ping(left, "10.9.1.2", count=TIMES, timeout=0.1).received == 0
    assert ping(left, RIGHT[0], count=1).received == 1


def received(host: Host) -> int:
    return host.statistics("t")["rx_packets"]


@UNDERLAYS
def test_nothing_leaves_while_nothing_protects_it(
    hosts: tuple[Host, Host], daemons: Daemons, wire: Path, underlay: int
) -> None:
    left, right = hosts
    daemon = daemons.start(left, section(left, underlay))
    told = wait_for_event(daemon, "tunnel_unprotected", tunnel="t", level="warning")
    assert f"asks for protection of GRE to {RIGHT[underlay]}" in told["detail"]
    assert shields(left) == 2
    knock(left, right)
    assert daemon.stop() == 0
    assert drops(daemon) == {("t", "tx_denied"): TIMES}
    refused = [event for event in events(daemon) if event["event"] == "packet_refused"]
    assert {event["detail"] for event in refused} == {told["detail"]}
    assert shields(left) == 0
    assert wire.exists()


@UNDERLAYS
def test_neither_after_policies_are_flushed_nor_with_some_that_lead_nowhere(
    hosts: tuple[Host, Host], daemons: Daemons, wire: Path, underlay: int
) -> None:
    left, right = hosts
    daemon = daemons.start(left, section(left, underlay))
    with left_sending(left):
        for _ in range(5):
            left.ip("xfrm", "policy", "flush")
            wait_for(lambda: shields(left) == 2, "they are back")
        policy(left, underlay, "add")
        told = wait_for_event(daemon, "tunnel_unprotected", tunnel="t")
        wait_for(lambda: "no SA yet" in last_detail(daemon), "it is seen")
        assert told["detail"] != last_detail(daemon)
        policy(left, underlay, "delete")
        wait_for(lambda: "no IPsec policy" in last_detail(daemon), "it is seen")
        ends = f"src {LEFT[underlay]} dst {RIGHT[underlay]} proto 47"
        left.ip(*f"xfrm policy add {ends} dir out priority 9".split())
        wait_for(lambda: "pass in clear" in last_detail(daemon), "it is seen")
        knock(left, right)
    assert daemon.stop() == 0
    assert set(drops(daemon)) == {("t", "tx_denied")}
    assert wire.exists()


@UNDERLAYS
def test_nothing_is_taken_in_clear(
    hosts: tuple[Host, Host], daemons: Daemons, underlay: int
) -> None:
    left, right = hosts
    daemons.start(right, section(right, underlay, ""))
    daemon = daemons.start(left, section(left, underlay))
    with left_sending(right, "10.9.1.1"):
        for _ in range(5):
            left.ip("xfrm", "policy", "flush")
            wait_for(lambda: shields(left) == 2, "they are back")
        sent = right.statistics("t")["tx_packets"]
        wait_for(lambda: right.statistics("t")["tx_packets"] > sent + 20, "it sends on")
    assert received(left) == 0
    assert daemon.stop() == 0


def test_shields_outlive_a_process_that_is_killed_and_are_taken_over(
    hosts: tuple[Host, Host], daemons: Daemons, wire: Path
) -> None:
    left, right = hosts
    daemon = daemons.start(left, section(left))
    daemon.stop(signal.SIGKILL)
    assert shields(left) == 2
    daemon = daemons.start(left, section(left))
    assert shields(left) == 2
    knock(left, right)
    daemon.stop(signal.SIGKILL)
    daemon = daemons.start(left, section(left, options="# nobody requires it any more"))
    assert shields(left) == 0
    assert daemon.stop() == 0
    assert wire.exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_shields_stay_over_a_restart_of_the_service(
    hosts: tuple[Host, Host], daemons: Daemons, wire: Path, how: signal.Signals
) -> None:
    left, right = hosts
    manager = Manager(daemons, left)
    for _ in range(2):
        daemon = manager.launch(f"[Daemon]\nLogFormat=json\n\n{section(left)}")
        knock(left, right)
        assert shields(left) == 2
        daemon.send_signal(how)
        daemon.wait(20)
        assert shields(left) == 2
    daemons.stop()
    manager.close()
    assert wire.exists()


def test_a_reload_that_asks_for_protection_shuts_the_tunnel_and_another_opens_it(
    hosts: tuple[Host, Host], daemons: Daemons, lab: Lab
) -> None:
    left, right = hosts
    daemons.start(right, section(right, options=""))
    daemon = daemons.start(left, section(left, options=""))
    assert ping(left, "10.9.1.2").received == 3
    for options, comes in (("IPsec=require", 0), ("", 3), ("IPsec=require\nKey=7", 0)):
        said = len(events(daemon))
        text = f"[Daemon]\nLogFormat=json\n\n{section(left, options=options)}"
        (lab.directory() / "left.conf").write_text(text)
        daemon.send_signal(signal.SIGHUP)
        wait_for_event(daemon, "reloaded", after=said)
        assert ping(left, "10.9.1.2", timeout=5.0 if comes else 0.1).received == comes
        assert shields(left) == (0 if comes else 2)
        assert daemon.pid


def test_others_policies_that_block_are_told(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, _right = hosts
    ends = f"src {LEFT[0]} dst {RIGHT[0]} proto 47 dir out action block"
    left.ip(*f"xfrm policy add {ends}".split())
    daemon = daemons.start(left, section(left))
    told = wait_for_event(daemon, "tunnel_unprotected", tunnel="t")
    assert "blocks GRE" in told["detail"]


def test_the_packet_socket_is_off_from_the_first_packet(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, _right = hosts
    daemon = daemons.start(left, section(left))
    assert wait_for_event(daemon, "started")["packet_socket"] == "no (IPsec=require)"


def test_the_capabilities_of_the_unit_are_enough(
    hosts: tuple[Host, Host], daemons: Daemons, wire: Path
) -> None:
    left, right = hosts
    daemons.lab.directory().chmod(0o755)  # it is another user's, too
    daemon = daemons.launch(left, section(left), wrapper=as_service())
    wait_for_event(daemon, "tunnel_unprotected", tunnel="t")
    assert shields(left) == 2
    knock(left, right)
    assert daemon.stop() == 0
    assert set(drops(daemon)) == {("t", "tx_denied")}
    assert shields(left) == 0
    assert wire.exists()


def test_status_tells_it(hosts: tuple[Host, Host], daemons: Daemons, lab: Lab) -> None:
    left, _right = hosts
    path = lab.directory() / "control"
    daemon = f"[Daemon]\nLogFormat=json\nControlSocket={path}\n\n"
    daemons.start(left, daemon + section(left))
    (one, _done) = ask(path, "status", tunnels=["t"], brief=False)
    assert one["tunnel"]["ipsec"] == {
        "required": True,
        "state": "no_policy",
        "detail": one["tunnel"]["detail"],
        **dict.fromkeys(("cipher", "mode", "until", "mtu")),
    }


class left_sending:  # noqa: N801
    """Pings as fast as it can, meanwhile."""

    def __init__(self, host: Host, to: str = "10.9.1.2") -> None:
        self._host, self._to = host, to

    def __enter__(self) -> None:
        command = ["ping", "-q", "-i", "0.002", "-W", "0.1", self._to]
        self._load = self._host.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __exit__(self, *_error: object) -> None:
        self._load.send_signal(signal.SIGINT)
        self._load.wait(10)


def last_detail(daemon: Daemon) -> str:
    """Return what was said last of the tunnel."""
    told = [event for event in events(daemon) if event["event"] == "tunnel_unprotected"]
    return str(told[-1]["detail"]) if told else ""
