"""What was discarded, in few lines: one summary per tunnel and interval.

Nothing here counts packets: the data plane does; this compares its counters.
"""

from typing import TYPE_CHECKING

from gred.wire.drop import DropReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from structlog.typing import FilteringBoundLogger

    from gred.dataplane.tunnels import Counters

# Reasons that are gred's own trouble, and what helps.
REMEDIES = {
    DropReason.RX_OVERRUN: "packets came faster than gred read them: its receive buffer was full;"
    " it needs more CPU, or a larger buffer where it was refused one (net.core.rmem_max)",
}
# What is good traffic of somebody else's: counted, and no news.
OTHERS = frozenset({DropReason.FOREIGN})


# What the kernel counts at the socket as if it had been full.
BY_POLICY = (
    "an IPsec policy of this host wants what arrives protected or blocks it, and dropped most of"
    " these before gred could read them (ip xfrm policy)"
)


class DropSummary:
    """Logs one ``drops`` line per tunnel with the counts that moved since its last line.

    *refused*: how many packets IPsec has refused so far.
    """

    def __init__(
        self, log: "FilteringBoundLogger", refused: "Callable[[], int]" = lambda: 0
    ) -> None:
        self._log = log
        self._refused = refused
        self._refused_before = refused()
        self._told: dict[tuple[str | None, str, DropReason], int] = {}

    def begin(self, tunnel: str | None, counters: "Counters") -> None:
        """Take what another process has counted, and told, as told."""
        for direction, drops in (("tx", counters.tx_drops), ("rx", counters.rx_drops)):
            self._told |= {(tunnel, direction, reason): count for reason, count in drops.items()}

    def note(self, tunnel: str | None, counters: "Counters") -> None:
        """Compare *counters* with those of the last call for *tunnel* (``None``: no tunnel's)."""
        moved: dict[str, int] = {}
        remedies: list[str] = []
        for direction, drops in (("tx", counters.tx_drops), ("rx", counters.rx_drops)):
            for reason, count in drops.items():
                key = (tunnel, direction, reason)
                # Smaller than before: the tunnel was made anew and counts from zero.
                told = self._told.get(key, 0)
                more = count - told if count >= told else count
                self._told[key] = count
                if more and reason not in OTHERS:
                    moved[_word(direction, reason)] = more
                    remedies += [self._remedy(reason, more)] if reason in REMEDIES else []
        if moved:
            tell = self._log.warning if remedies else self._log.info
            tell("drops", tunnel=tunnel, **moved, detail="; ".join(remedies) or None)

    def _remedy(self, reason: DropReason, count: int) -> str:
        if reason is not DropReason.RX_OVERRUN:
            return REMEDIES[reason]
        before, self._refused_before = self._refused_before, self._refused()
        return BY_POLICY if 2 * (self._refused_before - before) >= count else REMEDIES[reason]


def _word(direction: str, reason: DropReason) -> str:
    word = DropReason(reason).name.lower()
    return word if word.startswith(f"{direction}_") else f"{direction}_{word}"
