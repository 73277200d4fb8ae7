"""What the service must do in a guest. One function for each cell, by its name.

A check returns a figure worth knowing or nothing, and raises AssertionError. It leaves the
configuration as it found it; whether the service runs is for the next one to see to.
"""

import contextlib
import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.systemd.guest import system
from tests.systemd.guest.service import details, drop_in, interface, starts, until
from tests.systemd.guest.system import INNER, UNIT, log, messages, pings, run, show
from tests.systemd.matrix import MANY

_CAPABILITIES = 1 << 12 | 1 << 13  # CAP_NET_ADMIN, CAP_NET_RAW. linux/capability.h


def the_system_is_up() -> str:
    failed = run("systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert failed == "", failed
    return run("systemd-analyze", "time").splitlines()[0]


def the_service_runs_as_its_user() -> None:
    assert show("ActiveState") == "active", messages()
    assert show("NRestarts") == "0", messages()
    status = system.process()
    user = run("id", "--user", "gred").strip()
    assert user != "0"
    assert set(status["Uid"]) == {user}
    assert int(status["CapEff"][0], 16) == _CAPABILITIES
    assert int(status["CapBnd"][0], 16) == _CAPABILITIES


def pings_cross_both_ways() -> None:
    there = pings(INNER["peer"], count=5)
    back = pings(INNER["gred"], count=5, namespace="peer")
    assert (there, back) == (5, 5), f"{there} and {back} of 5\n{messages()}"


def the_packet_socket_is_used() -> None:
    """systemd has loaded ip_tables; that there are no rules in it only root can read."""
    assert Path("/proc/net/ip_tables_names").exists()
    told = [entry for entry in log() if "GRED_PACKET_SOCKET" in entry]
    assert {str(entry["MESSAGE"]).split()[0] for entry in told} == {"tunnel_up", "started"}
    assert {entry["GRED_PACKET_SOCKET"] for entry in told} == {"yes"}, messages()


def the_status_is_told() -> str:
    status = show("StatusText")
    assert "1 tunnel" in status, status
    assert "1 up" in status, status
    return status


def what_is_flushed_is_put_back() -> str:
    """By the service as it is shipped: its user, its capabilities, its sandbox."""
    before = len(details("repaired"))
    run("ip", "address", "flush", "dev", "tunnel")
    began = time.monotonic()
    until(lambda: len(details("repaired")) > before)
    seconds = time.monotonic() - began
    pings_cross_both_ways()
    return f"told after {seconds:.1f} s: {details('repaired')[-1]}"


def what_networkd_strips_is_put_back() -> str:
    """When it is told to configure the interface, and when it finds it new."""
    with _networkd_configures_the_tunnel():
        before = len(details("repaired"))
        run("networkctl", "reconfigure", "tunnel")
        until(lambda: len(details("repaired")) > before)
        pings_cross_both_ways()
        starts()
        until(lambda: "configured" in run("networkctl", "status", "tunnel", check=False))
        until(lambda: INNER["gred"] in run("ip", "address", "show", "dev", "tunnel"))
        until(lambda: "1 up" in show("StatusText"))
        pings_cross_both_ways()
    starts()
    return run("networkctl", "--no-legend", "list", "tunnel").strip()


def networkd_is_named_when_it_strips_again_and_again() -> str:
    with _networkd_configures_the_tunnel():

        def contested() -> bool:
            if INNER["gred"] in run("ip", "address", "show", "dev", "tunnel"):
                run("networkctl", "reconfigure", "tunnel")
            return bool(details("tunnel_incomplete"))

        until(contested)
        said = details("tunnel_incomplete")[0]
        assert "removed 5 times" in said, said
        assert f"is systemd-networkd ({_NETWORK_FILE}) configuring tunnel?" in said, said
    starts()
    pings_cross_both_ways()
    return said


_NETWORK_FILE = Path("/etc/systemd/network/50-everything.network")


@contextlib.contextmanager
def _networkd_configures_the_tunnel() -> Iterator[None]:
    """Have a file of networkd match the tunnel, with nothing in it of what gred gives it."""
    _NETWORK_FILE.write_text("[Match]\nName=tunnel\n[Network]\nLinkLocalAddressing=no\n")
    try:
        run("networkctl", "reload")
        yield
    finally:
        _NETWORK_FILE.unlink()
        run("networkctl", "reload")


def nothing_is_compiled_at_start() -> None:
    """Python takes bytecode only if it was made of the source as it is: mtime and size."""
    package = next(Path("/opt/gred/lib").glob("python3*/site-packages/gred"))
    sources = list(package.rglob("*.py"))
    assert len(sources) > 40, package
    for source in sources:
        compiled = next(source.parent.glob(f"__pycache__/{source.stem}.*.pyc"), None)
        assert compiled is not None, f"{source} is compiled at each start"
        stamp = int.from_bytes(compiled.read_bytes()[8:12], "little")
        assert stamp == int(source.stat().st_mtime), f"{source} is newer than what was compiled"


def the_doctor_sees_the_service() -> str:
    """And what a real kernel has loaded for the peer's GRE, which is the only finding."""
    facts, findings = _doctor()
    service = facts["service"]
    assert (service["state"], service["enabled"]) == ("active", True), service
    assert service["pid"] == int(show("MainPID")), service
    assert service["since"], service
    assert [one["kind"] for one in findings] == ["kernel_answers"], findings
    (running,) = facts["receivers"]["running"]
    assert running == {"pid": service["pid"], "tunnels": ["tunnel"]}
    assert all(one["gred"] for one in facts["receivers"]["holders"]), facts["receivers"]
    run("ip", "link", "set", "dev", "gre0", "up")
    try:
        assert [one["kind"] for one in _doctor()[1]] == ["kernel_takes_all"]
    finally:
        run("ip", "link", "set", "dev", "gre0", "down")
    with drop_in(system.many(1)):
        kinds = [one["kind"] for one in _doctor()[1]]
        assert "configuration_newer" in kinds, kinds
    return run("runuser", "-u", "nobody", "--", "gred", "doctor", check=False)


def _doctor() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told = json.loads(run("gred", "doctor", "--json", check=False))
    return told["facts"], told["findings"]


def the_status_is_asked() -> str:
    """By root, by a member of group gred, and by nobody else."""
    assert "tunnel: up for " in run("gred", "status", "tunnel")
    member = ("setpriv", "--reuid=65534", "--regid=gred", "--clear-groups")
    assert "tunnel" in run(*member, "gred", "status")
    refused = run(*member, "gred", "reload", check=False)
    assert "only root and gred's own user may" in refused, refused
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    denied = run(*nobody, "gred", "status", check=False)
    assert "be a member of group gred" in denied, denied
    return run("gred", "status").strip()


def a_reload_is_followed() -> str:
    """A tunnel comes and goes; the other stays as it is, and loses no ping meanwhile."""
    index = Path("/sys/class/net/tunnel/ifindex").read_text()
    load = subprocess.Popen(
        ["ping", "-q", "-i", "0.2", "-c", "100", INNER["peer"]], stdout=subprocess.PIPE, text=True
    )
    began = time.monotonic()
    with drop_in(system.many(1)):
        run("systemctl", "reload", UNIT)
        until(lambda: "2 tunnels: 2 up" in show("StatusText"))
        seconds = time.monotonic() - began
        assert list(Path("/sys/class/net").glob("many*"))
    run("systemctl", "reload", UNIT)
    until(lambda: "1 tunnel: 1 up" in show("StatusText"))
    assert not list(Path("/sys/class/net").glob("many*"))
    told = load.communicate(timeout=120)[0]
    assert " 0% packet loss" in told, told
    assert Path("/sys/class/net/tunnel/ifindex").read_text() == index
    return f"followed after {seconds:.1f} s"


def a_silent_tunnel_has_no_carrier() -> str:
    """The service, in its sandbox, pings the peer, and the carrier follows the answers."""
    before = system.CONFIGURATION.read_text()
    carrier = Path("/sys/class/net/tunnel/operstate")
    try:
        system.CONFIGURATION.write_text(
            f"{before}Keepalive=500ms\nKeepaliveTarget={INNER['peer']}\n"
        )
        run("systemctl", "reload", UNIT)
        run("ip", "-n", "peer", "link", "set", "tunnel", "down")
        # Its kernel says so after a while: an emulated machine may be too slow to see it silent.
        until(lambda: any(word in show("StatusText") for word in ("1 silent", "1 refused")))
        until(lambda: carrier.read_text().strip() == "down")
        began = time.monotonic()
        run("ip", "-n", "peer", "link", "set", "tunnel", "up")
        until(lambda: "1 up" in show("StatusText"))
        until(lambda: carrier.read_text().strip() == "up")
        return f"back after {time.monotonic() - began:.1f} s"
    finally:
        run("ip", "-n", "peer", "link", "set", "tunnel", "up")
        system.CONFIGURATION.write_text(before)
        run("systemctl", "reload", UNIT)
        until(lambda: "1 tunnel: 1 up" in show("StatusText"))


def a_bad_configuration_fails_the_reload() -> None:
    with drop_in("[Tunnel tunnel2]\nRemot=192.0.2.9\n"):
        failed = subprocess.run(["systemctl", "reload", UNIT], check=False)
        assert failed.returncode != 0
        assert "did you mean Remote?" in messages(), messages()
        assert show("ActiveState") == "active"
        pings_cross_both_ways()


def a_bad_configuration_is_not_tried_again() -> None:
    with drop_in("[Tunnel tunnel2]\nRemot=192.0.2.9\n"):
        check = run("gred", "check", check=False)
        assert "did you mean Remote?" in check, check
        _refuses_to_start(78)
        assert "did you mean Remote?" in messages(), messages()


def an_unreadable_configuration_is_told() -> None:
    """What root wrote with a tight umask passes root's eyes, and not the service's."""
    with drop_in(system.many(1), mode=0o600) as path:
        check = run("gred", "check", check=False)
        assert f"{path}: user gred cannot read it" in check, check
        _refuses_to_start(78)
        assert str(path) in messages(), messages()
    assert "cannot read" not in run("gred", "check")


def no_tunnel_device_is_not_tried_again() -> None:
    device = Path("/dev/net/tun")
    device.rename("/dev/net/tun.away")
    try:
        _refuses_to_start(69)
    finally:
        Path("/dev/net/tun.away").rename(device)


def a_crash_keeps_the_tunnel() -> str:
    def crash() -> None:
        before = show("MainPID")
        run("systemctl", "kill", "--signal=KILL", UNIT)
        until(lambda: show("MainPID") not in {"0", before} and show("ActiveState") == "active")

    return _crosses(crash)


def _crosses(happens: Callable[[], object]) -> str:
    """Ping both ways while it *happens*; the interface must stay. Return how many were lost."""
    run("ip", "route", "replace", "10.99.0.0/16", "dev", "tunnel")
    before = interface()
    both = [
        subprocess.Popen(
            [*inside, "ping", "-n", "-q", "-i", "0.05", address], stdout=subprocess.PIPE, text=True
        )
        for inside, address in (
            ((), INNER["peer"]),
            (("ip", "netns", "exec", "peer"), INNER["gred"]),
        )
    ]
    happens()
    pings_cross_both_ways()
    for one in both:
        one.send_signal(signal.SIGINT)
    told = [one.communicate(timeout=120)[0] for one in both]
    assert interface() == before, messages()
    assert "adopted=1" in messages(), messages()
    run("ip", "route", "delete", "10.99.0.0/16")
    counts = [re.findall(r"(\d+) (?:packets transmitted|received)", text) for text in told]
    lost = [int(sent) - int(received) for sent, received in counts]
    assert max(lost) <= 10, told
    return f"lost {lost[0]} of {counts[0][0]} pings there, {lost[1]} of {counts[1][0]} back"


def a_stop_leaves_nothing() -> None:
    starts()
    run("systemctl", "stop", UNIT)
    assert not Path("/sys/class/net/tunnel").exists(), messages()


def an_end_without_a_job_leaves_nothing() -> None:
    """gred cannot know that it will not be started again; systemd does."""
    starts()
    run("systemctl", "kill", "--signal=TERM", UNIT)
    until(lambda: show("ActiveState") == "inactive")
    until(lambda: not Path("/sys/class/net/tunnel").exists())


def a_restart_that_fails_leaves_nothing() -> None:
    starts()
    with drop_in("[Tunnel tunnel2]\nRemot=192.0.2.9\n"):
        run("systemctl", "restart", UNIT, check=False)
        until(lambda: show("ActiveState") == "failed")
        until(lambda: not Path("/sys/class/net/tunnel").exists())


def many_tunnels_start_and_stop() -> str:
    with drop_in(system.many(MANY)):
        started = starts()
        status = f"{MANY + 1} tunnels: {MANY + 1} up"
        assert status in show("StatusText"), f"{show('StatusText')}\n{messages()}"
        began = time.monotonic()
        run("systemctl", "stop", UNIT)
        stopped = time.monotonic() - began
        assert show("Result") == "success", messages()
        left = list(Path("/sys/class/net").glob("many*"))
        assert left == []
    return f"{MANY} tunnels: start {started}, stop {stopped:.1f} s"


def restore() -> None:
    """Have the service run with the one tunnel."""
    starts()


def _refuses_to_start(code: int) -> None:
    """Restart the service; it must end with *code* and be left alone."""
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "restart", UNIT, check=False)
    found = system.status_of(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    expected = {"ActiveState": "failed", "ExecMainStatus": str(code), "NRestarts": "0"}
    assert found == expected, f"{found}\n{messages()}"
