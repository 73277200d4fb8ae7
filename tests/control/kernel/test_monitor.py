"""The monitor over a pair of datagram sockets in the place of the kernel."""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from functools import partial
from typing import cast

import pytest

from gred.control.kernel.monitor import LinkMonitor, drain
from tests.control.conftest import Run
from tests.waiting import until


@pytest.fixture
def kernel_end(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the monitor one end of a socket pair; return the other one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    theirs.setblocking(False)
    monkeypatch.setattr("gred.control.kernel.monitor.open_listeners", lambda: [theirs])
    yield ours
    ours.close()
    theirs.close()


def test_many_messages_are_one_call(run: Run, kernel_end: socket.socket) -> None:
    calls: list[int] = []

    async def scenario() -> None:
        monitor = LinkMonitor(asyncio.get_running_loop(), lambda: calls.append(1), delay=0.05)
        monitor.open()
        for _ in range(5):
            kernel_end.send(b"message")
        await until(lambda: calls != [])
        assert calls == [1]
        kernel_end.send(b"message")
        await until(lambda: len(calls) == 2)
        monitor.close()
        monitor.close()

    run(scenario())


def _has(calls: list[int], count: int) -> bool:
    return len(calls) == count


def test_tables_of_iptables_are_looked_at_again_and_again(
    run: Run, kernel_end: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: dict[int, str] = {}
    calls: list[int] = []
    monkeypatch.setattr("gred.control.kernel.monitor.iptables_reasons", lambda: dict(tables))
    monkeypatch.setattr("gred.control.kernel.monitor._TABLES_EVERY", 0.01)

    async def scenario() -> None:
        monitor = LinkMonitor(asyncio.get_running_loop(), lambda: calls.append(1), delay=0.01)
        monitor.open()
        for number, change in enumerate(({4: "rules"}, {4: "unknown"}, dict[int, str]())):
            tables.clear()
            tables.update(change)
            await until(partial(_has, calls, number + 1))
        monitor.close()
        assert len(calls) == 3

    run(scenario())


def test_nothing_is_called_after_close(run: Run, kernel_end: socket.socket) -> None:
    calls: list[int] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        monitor = LinkMonitor(loop, lambda: calls.append(1), delay=0.5)
        monitor.open()
        kernel_end.send(b"message")
        await until(lambda: monitor._timer is not None)
        monitor.close()
        await asyncio.sleep(0.6)

    run(scenario())
    assert calls == []


class Scripted:
    """A socket that answers what it is told to."""

    def __init__(self, *answers: int | OSError) -> None:
        self.answers = list(answers)

    def recv_into(self, buffer: bytearray) -> int:
        answer = self.answers.pop(0) if self.answers else BlockingIOError()
        if isinstance(answer, OSError):
            raise answer
        return answer


def drained(*answers: int | OSError) -> tuple[bool, int]:
    """Return what ``drain`` said and how many answers it left."""
    scripted = Scripted(*answers)
    return drain(cast("socket.socket", scripted)), len(scripted.answers)


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
def test_a_lost_message_is_a_change(number: int) -> None:
    assert drained(OSError(number, os.strerror(number))) == (True, 0)


def test_no_message_is_no_change() -> None:
    assert drained() == (False, 0)


def test_a_storm_does_not_hold_the_loop() -> None:
    changed, left = drained(*[1] * 10_000)
    assert changed
    assert left > 5_000


def test_an_error_of_our_own_is_not_swallowed() -> None:
    with pytest.raises(OSError, match="bad"):
        drained(OSError(errno.EBADF, "bad"))
