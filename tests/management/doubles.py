"""Stand-ins for what management looks at, and a log that remembers."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from structlog.typing import FilteringBoundLogger

from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason


@dataclass
class Line:
    level: str
    event: str
    fields: dict[str, Any]


@dataclass
class RememberingLog:
    """Takes what a structlog logger takes; ``lines`` has it."""

    lines: list[Line] = field(default_factory=list)
    on_line: Callable[[], None] = lambda: None

    def _take(self, level: str, event: str, **fields: object) -> None:
        told = {key: value for key, value in fields.items() if value is not None}
        self.lines.append(Line(level, event, told))
        self.on_line()

    def debug(self, event: str, **fields: object) -> None:
        self._take("debug", event, **fields)

    def info(self, event: str, **fields: object) -> None:
        self._take("info", event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        self._take("warning", event, **fields)

    def error(self, event: str, **fields: object) -> None:
        self._take("error", event, **fields)

    def log(self, level: int, event: str, **fields: object) -> None:
        self._take(logging.getLevelName(level).lower(), event, **fields)

    def events(self) -> list[str]:
        return [line.event for line in self.lines]

    def only(self, event: str) -> Line:
        (line,) = [line for line in self.lines if line.event == event]
        return line

    @property
    def logger(self) -> FilteringBoundLogger:
        return cast("FilteringBoundLogger", self)


@dataclass
class Clock:
    """A clock that goes when told."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Packet:
    """Shaped like the data plane's TracedPacket."""

    data: bytes
    direction: str = "rx"
    tunnel: str | None = "Tunnel-1"
    reason: DropReason = DropReason.NONE
    inside: str = ""


def counters(
    *,
    tx: Mapping[DropReason, int] | None = None,
    rx: Mapping[DropReason, int] | None = None,
) -> Counters:
    return Counters(0, 0, 0, 0, dict(tx or {}), dict(rx or {}))
