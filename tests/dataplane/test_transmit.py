"""The transmitter: each datagram is sent, sent again or given up, by what its sender says."""

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from gred.dataplane import transmit
from gred.dataplane.batch import EgressBatch
from gred.dataplane.trace import TracedPacket
from gred.dataplane.transmit import Transmitter
from gred.dataplane.tunnels import TunnelTable


class Kernel:
    """Takes datagrams until one is *bad*, and then says *error*, for so many *times*."""

    def __init__(self, bad: int, error: int, times: int = 1) -> None:
        self.bad, self.error, self.times = bad, error, times
        self.sent: list[int] = []

    def send_datagrams(self, *args: Any) -> tuple[int, int]:
        first, end = args[6:8]
        refuses = first <= self.bad < end and self.times > 0
        stop = self.bad if refuses else end
        self.sent += range(first, stop)
        if first == stop:
            self.times -= 1
            return 0, self.error
        return stop - first, 0


def an_attachment() -> Any:
    no_socket = SimpleNamespace(fileno=lambda: -1)
    return SimpleNamespace(
        peers=None,
        device=SimpleNamespace(name="t"),
        whole=no_socket,
        senders=SimpleNamespace(fragmenting=no_socket),
        packet_socket=-1,
        way=bytearray(8),
        destinations=None,
    )


def play(monkeypatch: pytest.MonkeyPatch, kernel: Kernel, *, again: bool) -> list[tuple[int, int]]:
    """Send five datagrams; return what the sender was told was not sent."""
    monkeypatch.setattr(transmit, "io", kernel)
    attachment = an_attachment()
    told: list[tuple[int, int]] = []

    def unsent(which: object, _batch: EgressBatch, index: int, error: int) -> bool:
        assert which is attachment
        told.append((index, error))
        return again

    Transmitter(TunnelTable()).send(attachment, EgressBatch(), 5, unsent)
    return told


def test_what_is_given_up_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(2, errno.ENOBUFS, times=9)
    assert play(monkeypatch, kernel, again=False) == [(2, errno.ENOBUFS)]
    assert kernel.sent == [0, 1, 3, 4]


def test_what_was_changed_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(2, errno.EMSGSIZE, times=2)
    assert play(monkeypatch, kernel, again=True) == [(2, errno.EMSGSIZE)] * 2
    assert kernel.sent == [0, 1, 2, 3, 4]


def test_a_kernel_that_sends_nothing_and_says_nothing_is_not_asked_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(0, 0, times=9)
    assert play(monkeypatch, kernel, again=False) == [(0, errno.EIO)]
    assert kernel.sent == [1, 2, 3, 4]


def test_who_watches_sees_each_datagram_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def trace_sent(*args: Any) -> None:
        seen.append(args[4:6])

    def watch(_packet: TracedPacket) -> None:
        raise AssertionError("trace_sent calls it")

    monkeypatch.setattr(transmit, "trace_sent", trace_sent)
    monkeypatch.setattr(transmit, "io", Kernel(9, 0))
    transmitter = Transmitter(TunnelTable(), watch)
    transmitter.send(an_attachment(), EgressBatch(), 5, lambda *_: False)
    assert seen == [(0, 5)]
