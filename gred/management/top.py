"""``gred top``: the rates of the tunnels of a running daemon, the busiest first, again and again.

Compares what the daemon tells now with what it told before; nothing here counts packets itself.
"""

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gred.control.errors import ExitCode
from gred.management.control.client import NoAnswerError, RefusedError, ask, complain
from gred.management.units import bit_rate

INTERVAL = 1.0  # seconds between two looks
HISTORY = 30  # looks that a sparkline shows
_BARS = " ▁▂▃▄▅▆▇█"
_CLEAR, _OTHER_SCREEN, _FIRST_SCREEN = "\x1b[H\x1b[J", "\x1b[?1049h", "\x1b[?1049l"


@dataclass(slots=True)
class Rate:
    """What one tunnel moves in a second: bits, packets, and drops in both directions together."""

    name: str
    state: str
    rx_bits: float = 0.0
    tx_bits: float = 0.0
    rx_packets: float = 0.0
    tx_packets: float = 0.0
    drops: float = 0.0
    rtt: float | None = None
    history: deque[float] = field(default_factory=lambda: deque(maxlen=HISTORY))

    @property
    def bits(self) -> float:
        """Both directions together."""
        return self.rx_bits + self.tx_bits


class Rates:
    """The rates of all tunnels; ``look`` at each interval."""

    def __init__(self) -> None:
        self._before: dict[str, Mapping[str, Any]] = {}
        self._at = 0.0
        self._rates: dict[str, Rate] = {}

    def look(self, tunnels: Iterable[Mapping[str, Any]], now: float) -> list[Rate]:
        """Take in what is told of *tunnels* at *now*, in seconds; return rates, the busiest first.

        Zero at the first look, and where a tunnel was made anew.
        """
        told = {one["name"]: one for one in tunnels}
        passed = max(now - self._at, 0.001)
        for name, one in told.items():
            rate = self._rates.setdefault(name, Rate(name, ""))
            before = self._before.get(name, one)
            rate.state = one["state"]
            rate.rx_bits = 8 * _more(one["rx_bytes"], before["rx_bytes"]) / passed
            rate.tx_bits = 8 * _more(one["tx_bytes"], before["tx_bytes"]) / passed
            rate.rx_packets = _more(one["rx_packets"], before["rx_packets"]) / passed
            rate.tx_packets = _more(one["tx_packets"], before["tx_packets"]) / passed
            rate.drops = _more(_drops(one), _drops(before)) / passed
            rate.rtt = min(
                (life["mean"] for life in one["keepalives"] if life["mean"] is not None),
                default=None,
            )
            rate.history.append(rate.bits)
        for name in self._rates.keys() - told.keys():
            del self._rates[name]
        self._before, self._at = told, now
        return sorted(self._rates.values(), key=lambda one: (-one.bits, one.name))


def top(path: Path, names: list[str], *, count: int | None) -> int:
    """Show the rates of the tunnels *names*, or of all, *count* times; None: until interrupted.

    Return the exit code.
    """
    rates, is_terminal = Rates(), sys.stdout.isatty()
    if is_terminal:
        print(end=_OTHER_SCREEN)
    try:
        return _show(path, names, rates, count, is_terminal=is_terminal)
    except KeyboardInterrupt:
        return int(ExitCode.OK)
    finally:
        if is_terminal:
            print(end=_FIRST_SCREEN, flush=True)


def _show(
    path: Path, names: list[str], rates: Rates, count: int | None, *, is_terminal: bool
) -> int:
    shown = 0
    next_look = time.monotonic()
    while count is None or shown <= count:
        try:
            lines = list(ask(path, "status", tunnels=names))
        except (NoAnswerError, RefusedError) as error:
            return complain(error)
        found = rates.look((one["tunnel"] for one in lines if "tunnel" in one), time.monotonic())
        if shown:  # a rate is between two looks
            width, height = shutil.get_terminal_size()
            rows = list(table(found, width))
            text = "\n".join(rows[: height - 1] if is_terminal else rows)
            print(f"{_CLEAR}{text}" if is_terminal else text, flush=True)
        shown += 1
        next_look += INTERVAL
        if count is None or shown <= count:
            time.sleep(max(next_look - time.monotonic(), 0.0))
    return int(ExitCode.OK)


_COLUMNS: tuple[tuple[str, Callable[[Rate], str]], ...] = (
    ("received", lambda one: bit_rate(one.rx_bits)),
    ("sent", lambda one: bit_rate(one.tx_bits)),
    ("packets/s in", lambda one: f"{one.rx_packets:.0f}"),
    ("out", lambda one: f"{one.tx_packets:.0f}"),
    ("drops/s", lambda one: f"{one.drops:.0f}"),
    ("rtt ms", lambda one: "" if one.rtt is None else f"{1000 * one.rtt:.1f}"),
)


def table(rates: list[Rate], width: int) -> Iterator[str]:
    """Yield a line for each of *rates*, at most *width* characters long, with its history last."""
    rows = [("tunnel", "state", *(title for title, _ in _COLUMNS))]
    rows += [(one.name, one.state, *(read(one) for _, read in _COLUMNS)) for one in rates]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        words = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        words += [cell.rjust(size) for cell, size in zip(row[2:], widths[2:], strict=True)]
        line = "  ".join(words)
        bars = sparkline(rates[number - 1].history) if number else ""
        yield f"{line}  {bars}"[:width].rstrip()


def sparkline(history: Iterable[float]) -> str:
    """Return a bar for each of *history*, the highest as high as a bar can be."""
    values = list(history)
    highest = max(values, default=0.0)
    if not highest:
        return ""
    steps = len(_BARS) - 1
    # What is not nothing is seen.
    return "".join(_BARS[-(-int(1000 * value / highest) * steps // 1000)] for value in values)


def _more(now: int, before: int) -> int:
    return now - before if now >= before else 0


def _drops(one: Mapping[str, Any]) -> int:
    counts: Iterable[int] = (*one["rx_drops"].values(), *one["tx_drops"].values())
    return sum(counts)
