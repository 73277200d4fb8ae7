"""What metrics are made of: everything that the daemon knows at one moment, as frozen values.

Taken on the loop a slice at a time, so that no packet waits longer than for one slice. Nothing here
knows the form of metrics.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gred.control.slices import in_slices
from gred.management.metrics.lag import LagMeter, Lags

if TYPE_CHECKING:
    from gred.control.snapshot import Snapshot
    from gred.dataplane.tunnels import Counters
    from gred.management.reloading import Reloads


class Measured(Protocol):
    """What is needed of a daemon."""

    def names(self) -> list[str]:
        """Return all tunnels, those that are configured and not there at the moment, too."""
        ...

    def snapshot(self, name: str) -> "Snapshot":
        """Return everything that is known of one tunnel. Raises KeyError."""
        ...

    def counters(self) -> Iterator[tuple[str | None, "Counters"]]:
        """Yield first what belongs to no tunnel."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One moment. *at*: seconds since the epoch. *facts*: version and the like, by label."""

    at: float
    facts: Mapping[str, str]
    tunnels: tuple["Snapshot", ...]
    unknown: "Counters"
    reloads: "Reloads"
    lags: Lags


@dataclass(frozen=True, slots=True)
class Taker:
    """Takes moments of *daemon*. *reloads* is called for what became of reloads so far."""

    daemon: Measured
    facts: Mapping[str, str]
    reloads: Callable[[], "Reloads"]
    meter: LagMeter
    clock: Callable[[], float] = time.time

    async def take(self) -> Moment:
        """Return the present moment. To be run on the daemon's loop."""
        tunnels = []
        async for name in in_slices(self.daemon.names()):
            try:
                tunnels.append(self.daemon.snapshot(name))
            except KeyError:
                continue  # it went meanwhile
        return Moment(
            at=self.clock(),
            facts=self.facts,
            tunnels=tuple(tunnels),
            unknown=next(counters for _name, counters in self.daemon.counters()),
            reloads=self.reloads(),
            lags=self.meter.lags(),
        )
