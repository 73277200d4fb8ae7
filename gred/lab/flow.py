"""Numbered datagrams from one host of a laboratory to another, all the while something happens.

A thread of its own sends and receives; it knows which numbers arrived. For what must lose nothing,
so neither does this: it asks for room in the buffers, and waits for what is under way.
"""

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gred.lab.hosts import Host

_NUMBER = struct.Struct("!Q")
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # asm-generic/socket.h
_ROOM = 8 << 20  # bytes: seconds of datagrams, should somebody not be let run for so long
_QUIET_S = 1.0  # nothing comes for so long: what is missing is lost


@dataclass(frozen=True, slots=True)
class FlowResult:
    """Datagrams sent, those of them that never arrived by number, and those that came again."""

    sent: int
    lost: tuple[int, ...]
    doubled: int
    longest_gap: float  # seconds between two that arrived


class Flow:
    """Sends *rate* datagrams a second from *sender* to *address* of *receiver* within ``with``."""

    def __init__(
        self, sender: Host, receiver: Host, address: str, *, rate: float = 100, size: int = 64
    ) -> None:
        self._interval = 1 / rate
        self._filling = bytes(max(0, size - _NUMBER.size))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._target = receiver.socket(family, socket.SOCK_DGRAM)
        self._target.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
        self._target.bind((address, 0))
        self._source = sender.socket(family, socket.SOCK_DGRAM)
        self._source.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
        self._source.setblocking(False)
        self._sent = 0
        self._arrived: dict[int, int] = {}  # how often, by number
        self._last: float | None = None
        self._longest_gap = 0.0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"flow-{address}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        self._thread.join()
        self._source.close()
        self._target.close()

    def sent(self) -> int:
        """Return how many were sent so far."""
        return self._sent

    def result(self) -> FlowResult:
        """Return what became of them; complete after ``with``."""
        arrived = dict(self._arrived)
        lost = tuple(number for number in range(self._sent) if number not in arrived)
        doubled = sum(arrived.values()) - len(arrived)
        return FlowResult(self._sent, lost, doubled, self._longest_gap)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            if time.monotonic() >= due:
                self._send()
                due = max(due + self._interval, time.monotonic() - 1)
            self._receive(due)
        while len(self._arrived) < self._sent and self._receive(time.monotonic() + _QUIET_S):
            pass

    def _send(self) -> None:
        data = _NUMBER.pack(self._sent) + self._filling
        self._sent += 1
        with contextlib.suppress(OSError):  # refused on this host: sent, and lost
            self._source.sendto(data, self._target.getsockname())

    def _receive(self, until: float) -> bool:
        """Take what arrives first, *until* then; return whether anything did."""
        left = until - time.monotonic()
        if not select.select([self._target], [], [], max(0.0, left))[0]:
            return False
        data = self._target.recv(65536)
        now = time.monotonic()
        if self._last is not None:
            self._longest_gap = max(self._longest_gap, now - self._last)
        self._last = now
        (number,) = _NUMBER.unpack_from(data)
        self._arrived[number] = self._arrived.get(number, 0) + 1
        return True
