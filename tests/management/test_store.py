"""What the service manager keeps, spoken to a real datagram socket."""

import asyncio
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gred.management import store as module
from gred.management.notify import Notifier
from gred.management.store import DescriptorStore


@pytest.fixture
def line(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        line.bind(str(tmp_path / "notify"))
        yield line


@pytest.fixture
def environ(line: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": line.getsockname(), "FDSTORE": "2"}


def made(environ: dict[str, str]) -> DescriptorStore:
    store = DescriptorStore.of(environ, Notifier(environ))
    assert store is not None
    return store


@pytest.mark.parametrize(
    "lacks",
    [{"FDSTORE": ""}, {"FDSTORE": "0"}, {"FDSTORE": "-1"}, {"FDSTORE": "x"}, {"NOTIFY_SOCKET": ""}],
)
def test_without_a_store_there_is_none(environ: dict[str, str], lacks: dict[str, str]) -> None:
    environ |= lacks
    assert DescriptorStore.of(environ, Notifier(environ)) is None


def test_one_message_for_each(line: socket.socket, environ: dict[str, str]) -> None:
    store = made(environ)
    with Path(os.devnull).open() as kept:
        assert store.keep("tun-t1", kept.fileno())
        message, descriptors, *_ = socket.recv_fds(line, 1000, 4)
        assert message == b"FDSTORE=1\nFDNAME=tun-t1"
        (copy,) = descriptors
        assert os.fstat(copy).st_rdev == os.fstat(kept.fileno()).st_rdev
        os.close(copy)
        assert store.holds("tun-t1")
        store.remove("tun-t1")
        assert line.recv(1000) == b"FDSTOREREMOVE=1\nFDNAME=tun-t1"
        assert not store.holds("tun-t1")


def test_no_more_than_there_is_room_for(environ: dict[str, str], line: socket.socket) -> None:
    store = made(environ)
    assert [store.keep(f"tun-t{number}", 0) for number in range(3)] == [True, True, False]
    assert not store.holds("tun-t2")
    store.remove("tun-t0")
    assert store.keep("tun-t2", 0)
    assert line.recv(1000).startswith(b"FDSTORE=1")


@pytest.mark.parametrize("name", ["tun-a:b", "tun-ü", "tun-\n", "x" * 256])
def test_names_that_cannot_be_said_are_not_kept(environ: dict[str, str], name: str) -> None:
    assert not made(environ).keep(name, 0)


def test_a_deaf_manager_keeps_nothing(environ: dict[str, str]) -> None:
    environ["NOTIFY_SOCKET"] = "/nowhere/at/all"
    store = made(environ)
    assert not store.keep("tun-t1", 0)
    assert not store.holds("tun-t1")
    store.settle()


@pytest.mark.parametrize("pid", ["", "1", "x"])
def test_what_was_handed_to_another_process_is_left_alone(
    environ: dict[str, str], pid: str
) -> None:
    environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "tun-t1", "LISTEN_PID": pid}
    store = made(environ)
    assert store.take("tun-t1") is None
    assert not {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} & environ.keys()


ADOPTS = """
import os, sys
from gred.management.notify import Notifier
from gred.management.store import DescriptorStore
os.environ["LISTEN_PID"] = str(os.getpid())
store = DescriptorStore.of(os.environ, Notifier(os.environ))
one, other = store.take("tun-t1"), store.take("tun-t1")
print(one, other, os.get_inheritable(one), store.holds("tun-t2"))
store.drop_rest()
print(store.holds("tun-t1"), store.holds("tun-t2"))
"""


def test_what_comes_back_is_taken_once_and_the_rest_dropped(
    environ: dict[str, str], line: socket.socket
) -> None:
    """Of two of a name the last: the first is of an interface that was deleted."""
    names = {"LISTEN_FDS": "3", "LISTEN_FDNAMES": "tun-t1:tun-t1:tun-t2"}
    hand_over = 'exec "$0" -c "$1" 3</dev/null 4</dev/zero 5</dev/null'
    done = subprocess.run(
        ["sh", "-c", hand_over, sys.executable, ADOPTS],
        env={**os.environ, **environ, **names},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "4 None False True",
        "True False",
    ]
    assert line.recv(1000) == b"FDSTOREREMOVE=1\nFDNAME=tun-t2"


def test_a_barrier_waits_until_all_is_obeyed(environ: dict[str, str], line: socket.socket) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(made(environ).settle)
        message, descriptors, *_ = socket.recv_fds(line, 1000, 4)
        assert message == b"BARRIER=1"
        assert stat.S_ISFIFO(os.fstat(descriptors[0]).st_mode)
        assert not waiting.done()
        os.close(descriptors[0])
        waiting.result(5)


@pytest.mark.parametrize(
    ("told", "good"),
    [
        ("7 gred.service stop running", True),
        ("7 gred.service restart running", False),
        ("7 other.service stop running", False),
        ("", False),
    ],
)
def test_systemd_says_whether_it_is_for_good(
    environ: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: str,
    good: bool,
) -> None:
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    groups = tmp_path / "cgroup"
    groups.write_text("1:name=systemd:/system.slice/gred.service\n0::/\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(module, "_CGROUP", groups)
    assert asyncio.run(made(environ).ends_for_good()) is good
    groups.write_text("0::/user.slice\n")
    assert asyncio.run(made(environ).ends_for_good()) is False


def test_memory_is_kept_and_comes_back(environ: dict[str, str], line: socket.socket) -> None:
    store = made(environ)
    assert store.recall() == b""
    store.remember(b"a longer text")
    message, (memory,), *_ = socket.recv_fds(line, 1000, 4)
    assert message == b"FDSTORE=1\nFDNAME=state"
    store.remember(b"text")
    assert os.pread(memory, 100, 0) == b"text", "the very memory"
    again = made(environ)
    again._came["state"] = memory
    assert again.recall() == b"text"
    again.remember(b"later")
    assert os.pread(memory, 100, 0) == b"later"
    os.close(memory)


def test_what_is_no_memory_is_nothing(environ: dict[str, str]) -> None:
    store = made(environ)
    reading, writing = os.pipe()
    os.close(writing)
    store._came["state"] = reading
    assert store.recall() == b""
    os.close(reading)
