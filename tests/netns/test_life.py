"""How a daemon starts, ends and comes back: signals, lacks, a peer that restarts, idling."""

import signal
import time
from pathlib import Path

import pytest

from gred.control.errors import ExitCode
from gred.lab.daemon import Daemon, DaemonError
from gred.lab.hosts import Host
from gred.lab.traffic import ping
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, resident_kilobytes, wait_for, wait_for_event

MEMORY_KILOBYTES = 60_000
IDLE_S = 0.5
STOPPED_WITHIN_S = 30.0  # a daemon that has not ended by then does not end


def tunnel(host: Host, options: str = "") -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    return (
        f"[Tunnel t]\nLocal={ends[0][0]}\nRemote={ends[1][0]}\n"
        f"Address=10.9.1.{own}/24\nRoute=10.99.{own}.0/24\n{options}\n"
    )


def interfaces(host: Host) -> str:
    return host.ip("-br", "link", "show")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_stops_it_and_leaves_nothing(
    hosts: tuple[Host, Host], daemons: Daemons, number: int
) -> None:
    left, _right = hosts
    before = interfaces(left), left.ip("route", "show")
    daemon = daemons.start(left, tunnel(left))
    assert (interfaces(left), left.ip("route", "show")) != before
    assert daemon.stop(number) == 0
    assert (interfaces(left), left.ip("route", "show")) == before


def test_after_kill_9_nothing_is_left_and_the_next_start_works(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    before = interfaces(left)
    daemon = daemons.start(left, tunnel(left))
    daemon.send_signal(signal.SIGKILL)
    assert daemon.wait(10) == -signal.SIGKILL
    wait_for(lambda: interfaces(left) == before, "the interface is gone")
    daemons.start(left, tunnel(left))
    assert ping(left, "10.9.1.2").received == 3


def test_sigterm_under_load_stops_it(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    flood = (
        "import socket,time\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "end = time.monotonic() + 20\n"
        "while time.monotonic() < end:\n"
        "    try: s.sendto(bytes(1000), ('10.9.1.%d', 9))\n"
        "    except OSError: time.sleep(0.001)\n"
    )
    loads = []
    for host, other in ((left, 2), (right, 1)):
        loads.append(host.start(["python3", "-c", flood % other]))
    try:
        ways = "rx_bytes", "tx_bytes"
        wait_for(lambda: all(left.statistics("t")[way] > 100_000 for way in ways), "load both ways")
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(STOPPED_WITHIN_S) == 0
    finally:
        for load in loads:
            daemons.lab.stop(load)


def test_what_means_nothing_to_it_does_not_end_it(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    useless = [signal.SIGUSR2, signal.SIGALRM, signal.SIGIO, signal.SIGPWR, signal.SIGRTMAX]
    for number in (signal.SIGHUP, signal.SIGUSR1, *useless):
        daemon.send_signal(number)
    wait_for_event(daemon, "reloaded")
    wait_for_event(daemon, "status", detail="1 tunnel: 1 up")
    for number in useless:
        wait_for_event(daemon, "signal_ignored", signal=number.name)
    assert ping(left, "10.9.1.2").received == 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("true", "cannot open /dev/net/tun: No such file or directory"),
        ("touch /dev/net/tun", "/dev/net/tun is a plain file, expected"),
        ("mkdir /dev/net/tun", "/dev/net/tun is a directory, expected"),
        ("mknod /dev/net/tun c 1 3", "/dev/net/tun is character device 1, 3, expected"),
        ("mknod /dev/net/tun b 10 200", "/dev/net/tun is a block device, expected"),
        ("mkfifo /dev/net/tun", "/dev/net/tun is a pipe, expected"),
        ("ln -s nowhere /dev/net/tun", "cannot open /dev/net/tun: No such file or directory"),
    ],
    ids=["nothing", "file", "directory", "null", "block", "pipe", "link"],
)
def test_without_dev_net_tun_it_says_so(
    hosts: tuple[Host, Host], daemons: Daemons, make: str, said: str
) -> None:
    unshare = require.program("unshare", package="util-linux")
    hide = f'mount -t tmpfs none /dev/net && {make} && exec "$@"'
    wrapper = [unshare, "--mount", "sh", "-c", hide, "sh"]
    daemon = daemons.launch(hosts[0], tunnel(hosts[0]), wrapper=wrapper)
    with pytest.raises(DaemonError):
        daemon.wait_ready()
    assert daemon.status == ExitCode.NO_TUN
    told = wait_for_event(daemon, "start_failed")
    assert told["detail"].startswith(said)
    assert "--device /dev/net/tun" in told["detail"]
    assert "Traceback" not in daemon.log()


def test_a_device_node_that_may_not_be_opened_is_said(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """As root without CAP_DAC_OVERRIDE, as any user; or on a file system mounted nodev."""
    unshare = require.program("unshare", package="util-linux")
    hide = 'mount -t tmpfs -o nodev none /dev/net && mknod /dev/net/tun c 10 200 && exec "$@"'
    wrapper = [unshare, "--mount", "sh", "-c", hide, "sh"]
    daemon = daemons.launch(hosts[0], tunnel(hosts[0]), wrapper=wrapper)
    with pytest.raises(DaemonError):
        daemon.wait_ready()
    assert daemon.status == ExitCode.NO_PERMISSION
    assert "mounted nodev" in wait_for_event(daemon, "start_failed")["detail"]


@pytest.mark.parametrize("missing", ["net_admin", "net_raw"])
def test_without_a_capability_it_names_it(
    hosts: tuple[Host, Host], daemons: Daemons, missing: str
) -> None:
    setpriv = require.program("setpriv", package="util-linux")
    wrapper = [setpriv, f"--bounding-set=-{missing}", f"--inh-caps=-{missing}"]
    before = interfaces(hosts[0])
    daemon = daemons.launch(hosts[0], tunnel(hosts[0]), wrapper=wrapper)
    with pytest.raises(DaemonError):
        daemon.wait_ready()
    assert daemon.status == ExitCode.NO_PERMISSION
    assert f"CAP_{missing.upper()}" in daemon.log()
    assert interfaces(hosts[0]) == before


def test_with_its_two_capabilities_it_needs_no_root(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    setpriv = require.program("setpriv", package="util-linux")
    two = "-all,+net_admin,+net_raw"
    wrapper = [setpriv, f"--bounding-set={two}", f"--inh-caps={two}", "--no-new-privs"]
    daemons.start(right, tunnel(right))
    daemons.start(left, tunnel(left), wrapper=wrapper)
    assert ping(left, "10.9.1.2").received == 3


def test_a_taken_name_is_said_and_waited_for(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, _right = hosts
    left.ip("link", "add", "name", "t", "type", "veth", "peer", "name", "other")
    try:
        daemon = daemons.start(left, tunnel(left))
        told = wait_for_event(daemon, "tunnel_down", tunnel="t", level="error")
        assert "the name is taken" in told["detail"]
        assert "t@other" in interfaces(left), "what was there is untouched"
    finally:
        left.ip("link", "delete", "dev", "t")
    wait_for_event(daemon, "tunnel_up", tunnel="t")


def test_sequence_numbers_find_their_way_after_the_peer_restarts(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    """RFC 2890 §2.2 alone would drop everything until the numbers have caught up."""
    left, right = hosts
    numbered = "SerializeTunneledPackets=yes"
    receiver = daemons.start(right, tunnel(right, numbered))
    sender = daemons.start(left, tunnel(left, numbered))
    assert ping(left, "10.9.1.2", count=2000, size=0).received == 2000
    assert sender.stop() == 0
    daemons.start(left, tunnel(left, numbered))
    assert ping(left, "10.9.1.2", count=10).received == 10
    assert receiver.stop() == 0
    assert not drops(receiver)


def test_a_peer_that_restarts_early_costs_few_packets(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    numbered = "SerializeTunneledPackets=yes"
    daemons.start(right, tunnel(right, numbered))
    sender = daemons.start(left, tunnel(left, numbered))
    assert ping(left, "10.9.1.2", count=100).received == 100
    assert sender.stop() == 0
    daemons.start(left, tunnel(left, numbered))
    ping(left, "10.9.1.2", count=8, timeout=0.05)
    assert ping(left, "10.9.1.2", count=10).received == 10


@pytest.mark.usefixtures("silence")
def test_an_address_that_disappears_and_returns(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    assert ping(left, "10.9.1.2").received == 3
    left.ip("addr", "del", f"{LEFT[0]}/24", "dev", "under0")
    try:
        wait_for_event(daemon, "tunnel_no_local", tunnel="t")
        assert ping(left, "10.9.1.2", count=2, timeout=0.1).received == 0
    finally:
        left.address(f"{LEFT[0]}/24")
    wait_for_event(daemon, "tunnel_up", tunnel="t", after=lines_until(daemon, "tunnel_no_local"))
    assert ping(left, "10.9.1.2").received == 3
    assert daemon.stop() == 0
    assert drops(daemon)["t", "tx_no_route"] == 2


def lines_until(daemon: Daemon, name: str) -> int:
    lines = daemon.log().splitlines()
    return next(n for n, line in enumerate(lines, 1) if name in line)


def test_an_idle_daemon_is_small_and_sleeps(hosts: tuple[Host, Host], daemons: Daemons) -> None:
    left, right = hosts
    daemons.start(right, tunnel(right))
    daemon = daemons.start(left, tunnel(left))
    ping(left, "10.9.1.2")
    assert resident_kilobytes(daemon) < MEMORY_KILOBYTES

    def sleeps() -> bool:
        before = wake_ups(daemon)
        time.sleep(IDLE_S)  # the window is what is measured; nothing is waited for
        return wake_ups(daemon) == before

    wait_for(sleeps, "nothing wakes it")


def wake_ups(daemon: Daemon) -> int:
    """Count how often the daemon's threads gave up the processor and got it back."""
    total = 0
    for status in Path(f"/proc/{daemon.pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total
