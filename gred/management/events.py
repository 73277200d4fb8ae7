"""Events of the control plane -> log lines. Those that packets cause are limited.

Nothing here invents an event or its words: names and fields are the control plane's.
"""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from gred.management.ratelimit import TokenBucket

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.control.events import Event

_BURST = 3  # lines at once, of one reason in one tunnel
_RATE = 0.1  # lines per second after that
_LEVELS = logging.getLevelNamesMapping()


class EventLog:
    """The control plane's listener."""

    def __init__(
        self, log: "FilteringBoundLogger", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._clock = clock
        self._buckets: dict[tuple[str, str | None, object], TokenBucket] = {}

    def __call__(self, event: "Event") -> None:
        """Log *event*, unless packets caused the same too often just now."""
        suppressed = None
        if event.CAUSED_BY_PACKETS:
            bucket = self._bucket(event)
            if not bucket.take():
                return
            suppressed = bucket.suppressed() or None
        self._log.log(
            _LEVELS[event.level.upper()],
            event.name,
            tunnel=event.tunnel,
            **{key: value for key, value in event.fields.items() if value != ""},
            suppressed=suppressed,
        )

    def _bucket(self, event: "Event") -> TokenBucket:
        """Return the bucket of one reason in one tunnel: a flood of one kind hides no other."""
        kind = (event.name, event.tunnel, event.kind)
        if kind not in self._buckets:
            self._buckets[kind] = TokenBucket(rate=_RATE, burst=_BURST, clock=self._clock)
        return self._buckets[kind]
