"""What packets pass, for who asks at the control socket: gred trace, gred capture.

    the data plane's tap -> a listener's queue -> lines of up to 128 KiB, each with what was lost

A listener is bounded three times: by a rate, by its queue, and by how many there may be. What it
has no room for is counted, and told it; once there is no room nothing is copied for it. Imported
when the first one asks. Nothing here decodes, and nothing here waits for a packet's sake.
"""

import asyncio
import binascii
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from gred.dataplane.trace import TracedPacket
from gred.management.control.protocol import ProtocolError
from gred.wire.drop import DropReason

if TYPE_CHECKING:
    from gred.dataplane.trace import Tap
    from gred.management.control.server import Answers

LISTENERS = 4
RATE = 10 << 20  # bytes a second of packets that one is shown at most, OVERHEAD included
OVERHEAD = 1500  # bytes: what a packet costs whatever its size
QUEUE = 4 << 20  # bytes that wait for one, and that come at once, OVERHEAD included
LINE = 128 * 1024  # bytes of packets in a line, but for the last of them
GATHER = 0.02  # seconds that packets wait for others
BEAT = 0.5  # seconds between two lines when nothing passes: who has gone is missed then
SNAP = 256 * 1024  # bytes of a packet

# What belongs to a tunnel only by its outer addresses, if at all.
UNCLAIMED = frozenset({DropReason.NO_TUNNEL, DropReason.KEY_MISMATCH, DropReason.FOREIGN})


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which packets: of *tunnels* (none: all), and from *remotes* what is no tunnel's.

    *remotes*: addresses as the data plane has them, 16 bytes. *snap*: bytes of each; *rate*:
    how many a second.
    """

    tunnels: frozenset[str] = frozenset()
    remotes: frozenset[bytes] = frozenset()
    snap: int = SNAP
    rate: int = RATE

    def has(self, tunnel: str | None, reason: DropReason, source: bytes) -> bool:
        """Whether such a packet is meant."""
        if not self.tunnels or tunnel in self.tunnels:
            return True
        return reason in UNCLAIMED and source in self.remotes


class Listener:
    """One who listens, as the data plane's tap has it; what waits never grows beyond a bound.

    *clock*: nanoseconds since the epoch; *seconds*: for rates.
    """

    def __init__(
        self,
        wanted: Wanted,
        *,
        clock: Callable[[], int] = time.time_ns,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.came = asyncio.Event()
        """There is something to tell."""
        self.lost: Counter[str] = Counter()
        """How many found no room since the last line, by tunnel; empty: no tunnel's."""
        self.room = True
        """Whether packets are taken; told again with each line."""
        self.is_behind = False
        """Whether more waits than went into the last line."""
        self._wanted = wanted
        self._clock = clock
        self._seconds = seconds
        self._filled = seconds()
        self._allowance = float(QUEUE)
        self._queue: deque[tuple[int, TracedPacket]] = deque()
        self._waiting = 0

    def wants(self, tunnel: str | None, reason: DropReason, source: bytes, count: int, /) -> bool:
        """Whether it takes such packets; those that are meant and find no room are counted."""
        if not self._wanted.has(tunnel, reason, source):
            return False
        if self.room:
            return True
        self.lost[tunnel or ""] += count
        return False

    def take(self, packet: TracedPacket, /) -> None:
        """Let *packet* wait for the next line."""
        if not self.room:  # used up by those before it
            self.lost[packet.tunnel or ""] += 1
            return
        self._queue.append((self._clock(), packet))
        size = self._size(packet)
        self._waiting += size
        self._allowance -= size
        self.room = self._allowance > 0 and self._waiting < QUEUE
        self.came.set()

    def line(self) -> dict[str, Any]:
        """Return what waits, as much as goes into a line, and what was lost."""
        packets, size = [], 0
        while self._queue and size < LINE:
            when, packet = self._queue.popleft()
            self._waiting -= self._size(packet)
            data = packet.data[: self._wanted.snap]
            size += len(data)
            packets.append(_members(when, packet, data))
        self.is_behind = bool(self._queue)
        if not self.is_behind:
            self.came.clear()
        now = self._seconds()
        earned = (now - self._filled) * self._wanted.rate
        self._allowance = min(self._allowance + earned, float(QUEUE))
        self._filled = now
        self.room = self._allowance > 0 and self._waiting < QUEUE
        lost, self.lost = dict(self.lost), Counter()
        return {"packets": packets, "lost": lost}

    def _size(self, packet: TracedPacket) -> int:
        return min(len(packet.data), self._wanted.snap) + OVERHEAD


def _members(when: int, packet: TracedPacket, data: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"time": when, "direction": packet.direction, "tunnel": packet.tunnel}
    if packet.reason:
        told["reason"] = packet.reason.name.lower()
    if packet.inside:
        told["inside"] = packet.inside
    text = binascii.b2a_base64(data, newline=False).decode()
    return {**told, "length": len(packet.data), "data": text}


class Packets:
    """Who listens to a daemon's packets."""

    def __init__(self, tap: "Tap") -> None:
        self._tap = tap
        self._listeners = 0

    async def tell(self, wanted: Wanted) -> "Answers":
        """Yield lines for as long as somebody reads them. Raises ProtocolError."""
        if self._listeners >= LISTENERS:
            raise ProtocolError("busy", f"{LISTENERS} are watching packets: let one of them end")
        listener = Listener(wanted)
        self._listeners += 1
        self._tap.add(listener)
        try:
            yield listener.line()  # from now on
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT if listener.room else GATHER):
                        await listener.came.wait()
                        await asyncio.sleep(0 if listener.is_behind else GATHER)
                yield listener.line()
        finally:
            self._tap.remove(listener)
            self._listeners -= 1


def wanted(request: Mapping[str, Any], tunnels: Collection[str], remotes: Iterator[str]) -> Wanted:
    """Return what a request means. *remotes*: of those *tunnels*. Raises ProtocolError."""
    return Wanted(
        frozenset(tunnels),
        frozenset(ip_address(remote).packed.ljust(16, b"\0") for remote in remotes),
        _number(request, "snap", SNAP),
        _number(request, "rate", RATE),
    )


def _number(request: Mapping[str, Any], name: str, most: int) -> int:
    told = request.get(name, most)
    if isinstance(told, bool) or not isinstance(told, int) or not 1 <= told <= most:
        raise ProtocolError("bad_request", f"{name}: expected 1..{most}, got {told!r}")
    return told
