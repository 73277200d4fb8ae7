"""What the daemon knows at one moment."""

import asyncio
from collections.abc import Iterator

from gred.control.snapshot import Snapshot
from gred.dataplane.tunnels import Counters
from gred.management.metrics.lag import LagMeter
from gred.management.metrics.moment import Taker
from gred.management.reloading import Reloads
from tests.management.metrics.samples import FACTS, snapshot


class FakeDaemon:
    def __init__(self, *names: str) -> None:
        self.known = {name: snapshot(name) for name in names}

    def names(self) -> list[str]:
        return [*self.known, "gone"]

    def snapshot(self, name: str) -> Snapshot:
        return self.known[name]

    def counters(self) -> Iterator[tuple[str | None, Counters]]:
        yield None, Counters(0, 0, 7, 0, {}, {})
        raise AssertionError("the others are in snapshots")


def test_all_tunnels_are_in_it_but_those_that_went_meanwhile() -> None:
    async def run() -> None:
        meter = LagMeter(asyncio.get_running_loop())
        taker = Taker(
            FakeDaemon("b", "a"),
            FACTS,
            lambda: Reloads(successful=False, succeeded_at=5.0),
            meter,
            clock=lambda: 8.0,
        )
        moment = await taker.take()
        assert [one.name for one in moment.tunnels] == ["b", "a"]
        assert (moment.at, moment.unknown.rx_packets) == (8.0, 7)
        assert not moment.reloads.successful
        assert moment.facts == FACTS

    asyncio.run(run())
