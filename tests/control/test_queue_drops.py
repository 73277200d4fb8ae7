"""What the queues of interfaces lose, told once."""

import asyncio

import pytest

from gred.control import queue_drops
from tests.control.conftest import Run
from tests.control.fakes import House, tunnel
from tests.waiting import until


def told(house: House) -> list[tuple[str | None, object]]:
    found = [
        (event.tunnel, event.fields["tx_dropped"])
        for event in house.events
        if event.name == "interface_drops"
    ]
    house.events.clear()
    return found


async def started() -> House:
    house = House((tunnel("t1"), tunnel("t2")))
    await house.daemon.start()
    return house


def index(house: House, name: str) -> int:
    return house.plane.attachment(name).device.index


def test_only_what_is_new_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_drops, "EVERY", 0.01)

    async def scenario() -> None:
        house = await started()
        house.kernel.transmit_drops_of = {index(house, "t1"): 5, index(house, "t2"): 0, 1: 99}
        await until(lambda: house.events[-1].name == "interface_drops")
        assert told(house) == [("t1", 5)]
        house.kernel.transmit_drops_of[index(house, "t1")] = 7
        await until(lambda: bool(house.events))
        assert told(house) == [("t1", 2)]
        await house.daemon.stop()
        assert told(house) == []

    run(scenario())


def test_the_last_look_is_at_the_end(run: Run) -> None:
    async def scenario() -> None:
        house = await started()
        house.kernel.transmit_drops_of = {index(house, "t2"): 3}
        await house.daemon.stop()
        assert told(house) == [("t2", 3)]

    run(scenario())


def test_a_kernel_that_does_not_tell_stops_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def scenario() -> None:
        house = await started()

        def refuse(_namespace: str | None = None) -> dict[int, int]:
            asked.set()
            raise OSError

        monkeypatch.setattr(house.kernel, "transmit_drops", refuse)
        await house.daemon.stop()
        assert asked.is_set()
        assert told(house) == []

    run(scenario())
