"""Packets that are no tunnel's while somebody else takes GRE, too: theirs, as far as we know.

The codec counts them as any packet without a tunnel; here that count is moved, now and then. No
packet comes here.
"""

from gred.dataplane.tunnels import Worker
from gred.wire.drop import DropReason

_UNCLAIMED = 0  # the state of what belongs to no tunnel


class Foreign:
    """The count of foreign packets of one worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._mark: int | None = None

    def begin(self) -> None:
        """Count what comes from now on as foreign."""
        if self._mark is None:
            self._mark = self._worker.rx(_UNCLAIMED).rx_drops[DropReason.NO_TUNNEL]

    def end(self) -> None:
        """Count what comes from now on as no tunnel's again."""
        self.fold()
        self._mark = None

    def fold(self) -> None:
        """Move what was counted since the last time."""
        if self._mark is not None:
            drops = self._worker.rx(_UNCLAIMED).rx_drops
            more = drops[DropReason.NO_TUNNEL] - self._mark
            drops[DropReason.NO_TUNNEL] -= more
            drops[DropReason.FOREIGN] += more
