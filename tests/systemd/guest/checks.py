"""What the service must do in a guest. One function for each cell, by its name.

A check returns a figure worth knowing or nothing, and raises AssertionError. It leaves the
configuration as it found it; whether the service runs is for the next one to see to.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.guest import system
from tests.systemd.guest.system import DROP_INS, INNER, UNIT, log, messages, pings, run, show
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


def a_bad_configuration_is_not_tried_again() -> None:
    with _drop_in("[Tunnel tunnel2]\nRemot=192.0.2.9\n"):
        check = run("gred", "check", check=False)
        assert "did you mean Remote?" in check, check
        _refuses_to_start(78)
        assert "did you mean Remote?" in messages(), messages()


def an_unreadable_configuration_is_told() -> None:
    """What root wrote with a tight umask passes root's eyes, and not the service's."""
    with _drop_in(system.many(1), mode=0o600) as path:
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


def many_tunnels_start_and_stop() -> str:
    with _drop_in(system.many(MANY)):
        started = _starts()
        status = f"{MANY + 1} tunnels: {MANY + 1} up"
        assert status in show("StatusText"), f"{show('StatusText')}\n{messages()}"
        began = time.monotonic()
        run("systemctl", "stop", UNIT)
        stopped = time.monotonic() - began
        assert show("Result") == "success", messages()
        left = list(Path("/sys/class/net").glob("many*"))
        assert left == []
    return f"{MANY} tunnels: start {started}, stop {stopped:.1f} s"


@contextlib.contextmanager
def _drop_in(text: str, *, mode: int = 0o644) -> Iterator[Path]:
    """Have one more file of configuration."""
    path = DROP_INS / "zz-check.conf"
    path.write_text(text)
    path.chmod(mode)
    try:
        yield path
    finally:
        path.unlink()


def restore() -> None:
    """Have the service run with the one tunnel."""
    _starts()


def _starts() -> str:
    """Restart the service; return how long it took until it was ready, and of which CPU time."""
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "stop", UNIT)
    began = time.monotonic()
    done = run("systemctl", "start", UNIT, check=False)
    seconds = time.monotonic() - began
    assert show("ActiveState") == "active", f"{done}\n{messages()}"
    cpu = int(show("CPUUsageNSec")) / 1e9
    return f"{seconds:.1f} s ({cpu:.1f} s CPU)"


def _refuses_to_start(code: int) -> None:
    """Restart the service; it must end with *code* and be left alone."""
    run("systemctl", "reset-failed", UNIT, check=False)
    run("systemctl", "restart", UNIT, check=False)
    found = system.status_of(UNIT, "ActiveState", "ExecMainStatus", "NRestarts")
    expected = {"ActiveState": "failed", "ExecMainStatus": str(code), "NRestarts": "0"}
    assert found == expected, f"{found}\n{messages()}"
