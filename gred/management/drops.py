"""What was discarded, in few lines: one summary per tunnel and interval.

Nothing here counts packets: the data plane does; this compares its counters.
"""

from typing import TYPE_CHECKING

from gred.wire.drop import DropReason

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from gred.dataplane.tunnels import Counters


class DropSummary:
    """Logs one ``drops`` line per tunnel with the counts that moved since its last line."""

    def __init__(self, log: "FilteringBoundLogger") -> None:
        self._log = log
        self._told: dict[tuple[str | None, str, DropReason], int] = {}

    def note(self, tunnel: str | None, counters: "Counters") -> None:
        """Compare *counters* with those of the last call for *tunnel* (``None``: no tunnel's)."""
        moved: dict[str, int] = {}
        for direction, drops in (("tx", counters.tx_drops), ("rx", counters.rx_drops)):
            for reason, count in drops.items():
                key = (tunnel, direction, reason)
                # Smaller than before: the tunnel was made anew and counts from zero.
                told = self._told.get(key, 0)
                more = count - told if count >= told else count
                self._told[key] = count
                if more:
                    moved[f"{direction}_{DropReason(reason).name.lower()}"] = more
        if moved:
            self._log.info("drops", tunnel=tunnel, **moved)
