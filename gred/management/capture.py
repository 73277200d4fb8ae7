"""``gred trace`` and ``gred capture``: packets of a running daemon, as lines or as a capture file.

A thread reads what the daemon sends and never waits for anything else: who writes slowly loses
packets here, counted, and the daemon has its hands free. Nothing here opens a device, and the file
is opened with the rights of who asks.
"""

import binascii
import contextlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from gred import __version__
from gred.control.errors import ExitCode
from gred.dataplane.trace import TracedPacket
from gred.management.control.client import NoAnswerError, RefusedError, ask, complain
from gred.management.meanings import MEANINGS
from gred.wire import pcapng
from gred.wire.drop import DropReason

USAGE = 2  # exit code
LINES = 64  # of the daemon's, that wait to be written: 128 KiB of packets each
TRACE_RATE = 1 << 20  # what the daemon is asked for, see control/packets.py: some 650 a second
NOBODYS = "no tunnel"  # the interface of packets that belong to none
# What is handed to gred itself, where nothing is lost.
OWN = {"keepalive": "a keepalive: for gred itself"}


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as the daemon tells it, a `TracedPacket` but for what was left out.

    *time*: nanoseconds since the epoch. *length*: bytes, of which *data* may have fewer.
    """

    time: int
    direction: Literal["rx", "tx"]
    tunnel: str | None
    reason: DropReason
    length: int
    data: bytes
    inside: Literal["", "ip", "ethernet"] = ""

    @property
    def traced(self) -> TracedPacket:
        """The packet as the data plane had it."""
        return TracedPacket(self.direction, self.tunnel, self.data, self.reason, self.inside)


class Feed:
    """The packets of the daemon at *path*, from now on until ``stop``."""

    def __init__(self, path: Path, names: list[str], **how: int) -> None:
        self.lost: Counter[str] = Counter()
        """How many passed and are not here, by tunnel; empty: no tunnel's."""
        self.error: NoAnswerError | RefusedError | None = None
        """Why it ended, if nobody stopped it."""
        self.names = names
        self.is_stopping = False
        self.is_enough = False
        """Whether all that was asked for is here, whatever comes of the rest."""
        self._end = 0
        self._lines: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._reader = threading.Thread(
            target=self._read, args=(path, {"tunnels": names, **how}), daemon=True
        )

    def begin(self) -> bool:
        """Ask, and return whether packets come from now on; if not, ``error`` says why."""
        self._reader.start()
        return self._lines.get() is not None

    def __iter__(self) -> Iterator[list[Packet]]:
        """Yield packets as they come, those that came together at once."""
        while (line := self._lines.get()) is not None:
            yield [_packet(told) for told in line["packets"]]

    def stop(self) -> None:
        """End soon, behind what has passed so far. May be called from a signal handler."""
        self._end = time.time_ns()
        self.is_stopping = True

    def _read(self, path: Path, request: dict[str, Any]) -> None:
        try:
            for line in ask(path, "packets", **request):
                self.lost.update(line["lost"])
                is_last = False
                if self.is_stopping:
                    came = line["packets"]
                    line["packets"] = [told for told in came if told["time"] <= self._end]
                    is_last = not came or line["packets"] != came
                if self._lines.qsize() < LINES:
                    self._lines.put(line)
                else:
                    self.lost.update(told["tunnel"] or "" for told in line["packets"])
                if is_last:
                    break
        except (NoAnswerError, RefusedError) as error:
            self.error = error
        finally:
            self._lines.put(None)


def _packet(told: dict[str, Any]) -> Packet:
    reason = DropReason[told.get("reason", "none").upper()]
    data = binascii.a2b_base64(told["data"])
    inside = told.get("inside", "")
    return Packet(
        told["time"], told["direction"], told["tunnel"], reason, told["length"], data, inside
    )


def trace(path: Path, names: list[str], *, count: int | None) -> int:
    """Print a line for each packet, at most *count*; return the exit code."""
    from gred.management.decode import Decoder  # noqa: PLC0415 - scapy takes its time

    decoder = Decoder()
    feed, shown = Feed(path, names, rate=TRACE_RATE), 0
    if not feed.begin():
        return _finish(feed, "")
    with _until_told(feed):
        for packets in feed:
            for packet in packets[: None if count is None else count - shown]:
                if feed.is_stopping:
                    break
                when = time.strftime("%H:%M:%S", time.localtime(packet.time // 10**9))
                micros = packet.time // 1000 % 10**6
                line = decoder.line(packet.traced)
                print(f"{when}.{micros:06} {line}")
                shown += 1
            sys.stdout.flush()
            feed.is_enough = shown == count
            if feed.is_enough or feed.is_stopping:
                break
    return _finish(feed, f"{_packets(shown)} shown")


def capture(
    path: Path, names: list[str], *, write: str | None, snap: int, count: int | None
) -> int:
    """Write packets as pcapng to the file *write*, or to standard output; return the exit code.

    *snap*: bytes of each that are kept. *count*: how many at most.
    """
    if write in {None, "-"} and sys.stdout.isatty():
        print(
            "gred: a capture is nothing for a terminal: -w FILE, or gred capture | tshark -r -;"
            " gred trace prints lines",
            file=sys.stderr,
        )
        return USAGE
    feed = Feed(path, names, snap=snap)
    if not feed.begin():
        return _finish(feed, "")  # and no file was touched
    try:
        if write in {None, "-"}:
            return _capture(feed, sys.stdout.fileno(), snap, count)
        with open(write or "", "wb", opener=_private) as file:
            return _capture(feed, file.fileno(), snap, count)
    except BrokenPipeError:
        raise  # who reads has enough of it
    except OSError as error:
        print(f"gred: cannot write {write or '-'}: {error.strerror or error}", file=sys.stderr)
        return int(ExitCode.FAILURE)


def _private(name: str, flags: int) -> int:
    """Open a file that only its owner reads: what is in it was said in confidence."""
    return os.open(name, flags, 0o600)


def _write(file: int, data: bytes) -> None:
    """Write all of *data*. Python's buffered files lose some when a signal comes meanwhile."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def _capture(feed: Feed, file: int, snap: int, count: int | None) -> int:
    writer = Writer(snap)
    _write(file, writer.begin())
    with _until_told(feed):
        for packets in feed:
            left = None if count is None else count - writer.written.total()
            blocks = [writer.packet(packet) for packet in packets[:left]]
            _write(file, b"".join(blocks))
            feed.is_enough = writer.written.total() == count
            if feed.is_enough:
                break
        _write(file, writer.end(feed.lost, time.time_ns()))
    return _finish(feed, f"{_packets(writer.written.total())} captured")


class Writer:
    """Packets -> blocks of a capture file, each tunnel an interface of it. *snap*: as told."""

    def __init__(self, snap: int) -> None:
        self.written: Counter[tuple[str, str]] = Counter()
        """How many packets of each interface there are."""
        self._snap = snap
        self._interfaces: dict[tuple[str, str], int] = {}

    def begin(self) -> bytes:
        """Return what the file begins with."""
        return pcapng.section(f"gred {__version__}")

    def packet(self, packet: Packet) -> bytes:
        """Return what *packet* adds."""
        where = packet.tunnel or "", packet.inside
        described, number = self._interface(*where)
        self.written[where] += 1
        return described + pcapng.packet(
            number, packet.time, packet.data, packet.length, packet.direction, comment(packet)
        )

    def end(self, lost: Counter[str], now: int) -> bytes:
        """Return what the file ends with. *lost*: what it lacks, by tunnel; *now*: as packets'."""
        blocks = [self._interface(name)[0] for name in lost]
        for (name, inside), number in self._interfaces.items():
            missed = 0 if inside else lost[name]
            passed = self.written[name, inside] + missed
            text = f"{_packets(missed)} lost: {LOST}" if missed else ""
            blocks.append(pcapng.statistics(number, now, passed, missed, text))
        return b"".join(blocks)

    def _interface(self, name: str, inside: str = "") -> tuple[bytes, int]:
        """Return the number of a tunnel's interface, and what describes it the first time."""
        known = self._interfaces.get((name, inside))
        if known is not None:
            return b"", known
        number = self._interfaces[name, inside] = len(self._interfaces)
        about = "outer packets of a GRE tunnel" if name else "GRE packets that no tunnel takes"
        if inside:
            about = "inner packets that were not sent"
        link = pcapng.ETHERNET if inside == "ethernet" else pcapng.RAW
        return pcapng.interface(name or NOBODYS, link, self._snap, about), number


LOST = "more passed than is copied, or was written in time"


def comment(packet: Packet) -> str:
    """Return what is said of *packet* in a capture: nothing where it passed."""
    if not packet.reason:
        return ""
    reason = packet.reason.name.lower()
    return OWN.get(reason) or f"dropped: {reason}: {MEANINGS[reason]}"


@contextlib.contextmanager
def _until_told(feed: Feed) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop *feed*; a second one does not wait for anything."""
    what = ", ".join(feed.names) or "all tunnels"
    print(f"gred: watching {what}; ctrl-C ends it", file=sys.stderr)
    stopping = (signal.SIGINT, signal.SIGTERM)

    def stop(_number: int, _frame: object) -> None:
        feed.stop()
        for number in stopping:
            signal.signal(number, signal.SIG_DFL)

    before = [signal.signal(number, stop) for number in stopping]
    try:
        yield
    finally:
        for number, handler in zip(stopping, before, strict=True):
            signal.signal(number, handler)


def _finish(feed: Feed, done: str) -> int:
    """Say how it ended, and what was *done* if it had begun; return the exit code."""
    lost = feed.lost.total()
    if done:
        told = f"{lost} lost: {LOST}" if lost else "none lost"
        print(f"gred: {done}, {told}", file=sys.stderr)
    return int(ExitCode.OK) if feed.error is None or feed.is_enough else complain(feed.error)


def _packets(count: int) -> str:
    return "1 packet" if count == 1 else f"{count} packets"
