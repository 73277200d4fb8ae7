"""The laboratory: what it builds, and above all that nothing of it stays."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gred.lab.hosts import NAMESPACES, UNDERLAY, Host, Lab, LabError
from gred.lab.interruptions import Interrupted
from tests import require

STUBBORN = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"


@pytest.fixture(autouse=True)
def needs() -> None:
    require.root()
    require.program("ip", package="iproute2")


def remains(label: str) -> list[Path]:
    """Return the names of namespaces and directories that the laboratory *label* left."""
    prefix = f"{label}-{os.getpid()}-"
    return [*NAMESPACES.glob(f"{prefix}*"), *Path("/tmp").glob(f"{prefix}*")]  # noqa: S108


def build(lab: Lab) -> tuple[Host, Host]:
    left, right = lab.host("left"), lab.host("right")
    lab.wire(left, right)
    left.address("10.0.0.1/24")
    lab.directory().joinpath("file").touch()
    return left, right


def test_everything_is_gone_after_the_block() -> None:
    with Lab("gone") as lab:
        build(lab)
        assert len(remains("gone")) == 3
    assert not remains("gone")


def test_everything_is_gone_after_an_exception() -> None:
    def fail(lab: Lab) -> None:
        build(lab)
        raise RuntimeError

    with pytest.raises(RuntimeError), Lab("raised") as lab:
        fail(lab)
    assert not remains("raised")


def test_an_interruption_within_a_wait_does_not_keep_it_from_ending() -> None:
    """Raised where Popen.poll() has just taken its lock, it leaves the lock taken."""
    with Lab("locked") as lab:
        process: Any = build(lab)[0].start(["sleep", "60"])
        process._waitpid_lock.acquire()
    assert not remains("locked")
    assert process.returncode == -signal.SIGTERM


def test_everything_is_gone_after_a_step_that_failed() -> None:
    message = r"^ip -n \S+-left link set nothing up: .*nothing"
    with pytest.raises(LabError, match=message), Lab("failed") as lab:
        build(lab)[0].ip("link", "set", "nothing", "up")
    assert not remains("failed")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_step_leaves_nothing(number: signal.Signals) -> None:
    steps: list[str] = []
    with Lab("steps", say=steps.append) as lab:
        build(lab)
        building = len(steps)
    for victim in range(len(steps)):
        said: list[str] = []

        def interrupt(line: str, said: list[str] = said, victim: int = victim) -> None:
            said.append(line)
            if len(said) == victim + 1:
                os.kill(os.getpid(), number)

        with pytest.raises(Interrupted) as caught, Lab("steps", say=interrupt) as lab:
            build(lab)
        assert caught.value.number == number
        assert not remains("steps"), said
        if victim < building - 1:
            assert len(said) < len(steps), "it went on building"


def test_a_second_signal_does_not_stop_the_cleaning() -> None:
    def again(line: str) -> None:
        if " delete " in line:
            os.kill(os.getpid(), signal.SIGTERM)
        elif "link add" in line:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted), Lab("twice", say=again) as lab:
        build(lab)
    assert not remains("twice")


def test_handlers_are_as_before_afterwards() -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Lab("handlers"):
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_processes_end_with_the_block() -> None:
    with Lab("processes") as lab:
        host = lab.host("left")
        process = host.start(["sleep", "600"])
        assert process.poll() is None
    assert process.returncode == -signal.SIGTERM
    assert not remains("processes")


def test_a_process_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gred.lab.hosts._GRACE_S", 0.1)
    with Lab("stubborn") as lab:
        code = f"{STUBBORN}; time.sleep(600)"
        command = [sys.executable, "-c", code]
        process = lab.host("left").start(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout as said:
            said.readline()  # it has set its handler
    assert process.returncode == -signal.SIGKILL


def test_stop_returns_the_exit_status() -> None:
    with Lab("status") as lab:
        process = lab.host("left").start(["sh", "-c", "exit 7"])
        assert process.wait(10) == 7
        assert lab.stop(process) == 7


def test_a_socket_lives_in_its_namespace() -> None:
    with Lab("sockets") as lab:
        left, right = build(lab)
        with (
            left.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside,
            right.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere,
        ):
            inside.bind(("10.0.0.1", 0))
            with pytest.raises(OSError, match="assign requested address"):
                elsewhere.bind(("10.0.0.1", 0))


def test_what_fails_inside_fails_outside() -> None:
    with Lab("inside") as lab:
        host = lab.host("left")
        with pytest.raises(ZeroDivisionError):
            host.inside(lambda: 1 // 0)


def test_a_host_without_ipv6_has_no_link_local_address() -> None:
    with Lab("quiet") as lab:
        left, right = lab.host("left", ipv6=False), lab.host("right")
        lab.wire(left, right)
        assert "inet6" not in left.ip("addr", "show", "dev", UNDERLAY)
        assert "inet6" in right.ip("addr", "show", "dev", UNDERLAY)


def test_an_ipv6_address_is_usable_at_once() -> None:
    with Lab("dad") as lab:
        left, _right = build(lab)
        left.address("fd00::1/64")
        shown = left.ip("-oneline", "addr", "show", "dev", UNDERLAY, "to", "fd00::1")
        assert "fd00::1/64" in shown
        assert "tentative" not in shown


def test_without_ip_it_names_iproute2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(LabError, match="iproute2"):
        Lab("none").__enter__()


def test_nobody_listening_is_no_reason_to_leave_anything() -> None:
    def deaf(line: str) -> None:
        if "delete" in line:
            raise BrokenPipeError

    with Lab("deaf", say=deaf) as lab:
        build(lab)
    assert not remains("deaf")
