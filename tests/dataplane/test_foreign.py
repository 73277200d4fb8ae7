"""Packets of somebody else's: counted apart while somebody else is there."""

from gred.dataplane.foreign import Foreign
from gred.dataplane.tunnels import TunnelTable
from gred.wire.drop import DropReason


def test_only_what_came_while_another_was_there_is_foreign() -> None:
    tunnels = TunnelTable()
    foreign = Foreign(tunnels.workers[0])

    def counted() -> tuple[int, int]:
        foreign.fold()
        drops = tunnels.counters(0).rx_drops
        return drops.get(DropReason.NO_TUNNEL, 0), drops.get(DropReason.FOREIGN, 0)

    def arrive(count: int) -> None:
        for _ in range(count):
            tunnels.count_drop(0, "rx", DropReason.NO_TUNNEL)

    arrive(3)
    assert counted() == (3, 0)
    foreign.begin()
    arrive(2)
    foreign.begin()
    assert counted() == (3, 2)
    arrive(1)
    foreign.end()
    arrive(4)
    assert counted() == (7, 3)
    foreign.end()
    foreign.begin()
    assert counted() == (7, 3)
