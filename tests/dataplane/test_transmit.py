"""The transmitter: each datagram is sent, sent again or given up, by what its sender says."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from gred.dataplane import transmit
from gred.dataplane.batch import EgressBatch
from gred.dataplane.trace import Everything, Tap, TracedPacket
from gred.dataplane.transmit import Transmitter
from gred.dataplane.tunnels import Worker
from gred.wire.drop import DropReason


class Kernel:
    """Takes datagrams until one is *bad*, and then says *error*, for so many *times*."""

    def __init__(self, bad: int, error: int, times: int = 1) -> None:
        self.bad, self.error, self.times = bad, error, times
        self.sent: list[int] = []

    def transmit(
        self, _batch: EgressBatch, first: int, end: int, destinations: Any
    ) -> tuple[int, int]:
        assert destinations == "destinations"
        refuses = first <= self.bad < end and self.times > 0
        stop = self.bad if refuses else end
        self.sent += range(first, stop)
        if first == stop:
            self.times -= 1
            return 0, self.error
        return stop - first, 0


def an_attachment(sender: Kernel) -> Any:
    device = SimpleNamespace(name="t")
    return SimpleNamespace(peers=None, device=device, sender=sender, destinations="destinations")


def play(kernel: Kernel, *, again: bool) -> list[tuple[int, int]]:
    """Send five datagrams; return what the sender was told was not sent."""
    attachment = an_attachment(kernel)
    told: list[tuple[int, int]] = []

    def unsent(which: object, _batch: EgressBatch, index: int, error: int) -> bool:
        assert which is attachment
        told.append((index, error))
        return again

    Transmitter(Worker(), Tap()).send(attachment, EgressBatch(), 5, unsent)
    return told


def test_what_is_given_up_is_passed_over() -> None:
    kernel = Kernel(2, errno.ENOBUFS, times=9)
    assert play(kernel, again=False) == [(2, errno.ENOBUFS)]
    assert kernel.sent == [0, 1, 3, 4]


def test_what_was_changed_is_sent_again() -> None:
    kernel = Kernel(2, errno.EMSGSIZE, times=2)
    assert play(kernel, again=True) == [(2, errno.EMSGSIZE)] * 2
    assert kernel.sent == [0, 1, 2, 3, 4]


def test_a_kernel_that_sends_nothing_and_says_nothing_is_not_asked_for_ever() -> None:
    kernel = Kernel(0, 0, times=9)
    assert play(kernel, again=False) == [(0, errno.EIO)]
    assert kernel.sent == [1, 2, 3, 4]


def test_who_watches_sees_each_datagram_once_and_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[Any, ...]] = []
    tap = Tap()

    def trace_sent(*args: Any) -> None:
        if args[4] < args[5]:
            seen.append(args[4:])

    def watch(_packet: TracedPacket) -> None:
        raise AssertionError("trace_sent calls it")

    monkeypatch.setattr(transmit, "trace_sent", trace_sent)
    transmitter = Transmitter(Worker(), tap)
    kernel = Kernel(2, errno.EPERM)
    transmitter.send(an_attachment(kernel), EgressBatch(), 5, lambda *_: False)
    assert seen == []
    watcher = Everything(watch)
    tap.add(watcher)
    kernel = Kernel(2, errno.EPERM)
    transmitter.send(an_attachment(kernel), EgressBatch(), 5, lambda *_: False)
    assert seen == [(0, 2), (2, 3, DropReason.DENIED), (3, 5)]
    tap.remove(watcher)
    transmitter.send(an_attachment(kernel), EgressBatch(), 5, lambda *_: False)
    assert len(seen) == 3
