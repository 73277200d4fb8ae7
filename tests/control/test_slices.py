"""Work in slices: the loop goes on in between."""

import asyncio

import pytest

from gred.control import slices
from gred.control.slices import in_slices
from tests.control.conftest import Run


def test_everything_is_worked_on_in_its_order(run: Run) -> None:
    async def scenario() -> None:
        assert [thing async for thing in in_slices(range(100))] == list(range(100))

    run(scenario())


def test_the_loop_goes_on_after_each_slice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 0.0)

    async def scenario() -> None:
        loop, rounds = asyncio.get_running_loop(), 0

        def count() -> None:
            nonlocal rounds
            rounds += 1

        async for thing in in_slices(range(10)):
            assert rounds == thing
            loop.call_soon(count)

    run(scenario())
