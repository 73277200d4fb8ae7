"""sd_notify(3) and sd_watchdog_enabled(3), spoken to a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gred.management.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket and what NOTIFY_SOCKET says of it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        if request.param == "path":
            address = str(tmp_path / "notify")
            line.bind(address)
        else:
            name = f"gred-test-{os.getpid()}-{id(line)}"
            line.bind("\0" + name)
            address = "@" + name
        yield line, address


def test_each_message_is_one_datagram(listener: tuple[socket.socket, str]) -> None:
    line, address = listener
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("1 tunnel")
    notifier.status("1 tunnel, 1 up")
    notifier.alive()
    notifier.stopping()
    notifier.working("stopping: 1 of 2 tunnels", 1.5)
    assert [line.recv(1000).decode() for _ in range(5)] == [
        "READY=1\nSTATUS=1 tunnel",
        "STATUS=1 tunnel, 1 up",
        "WATCHDOG=1",
        "STOPPING=1\nSTATUS=stopping",
        "EXTEND_TIMEOUT_USEC=1500000\nSTATUS=stopping: 1 of 2 tunnels",
    ]


@pytest.mark.parametrize("address", [None, "", "@", "relative", "vsock:2:1", "/nowhere/at/all"])
def test_a_service_manager_that_is_not_there_is_no_failure(address: str | None) -> None:
    Notifier({} if address is None else {"NOTIFY_SOCKET": address}).ready("fine")


def test_watchdog_interval_is_read_in_microseconds() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_seconds == 30


def test_watchdog_of_this_process_is_answered() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(environ).watchdog_seconds == 1


def test_watchdog_of_another_process_is_left_alone() -> None:
    environ = {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert Notifier(environ).watchdog_seconds is None


@pytest.mark.parametrize("usec", ["", "0", "-1", "soon", "1e6"])
def test_watchdog_without_an_interval_is_off(usec: str) -> None:
    assert Notifier({"WATCHDOG_USEC": usec}).watchdog_seconds is None
