"""How late the loop is."""

import asyncio
import time

import pytest

from gred.management.metrics import lag
from gred.management.metrics.lag import LagMeter
from tests.waiting import until


def test_each_bound_has_its_count() -> None:
    loop = asyncio.new_event_loop()
    meter = LagMeter(loop)
    for late in (-0.001, 0.0005, 0.001, 0.002, 0.3, 7.0):
        meter.note(late)
    loop.close()
    lags = meter.lags()
    assert lags.counts == (3, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1)
    assert lags.total == pytest.approx(7.3035)


def test_a_loop_that_is_held_up_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "EVERY", 0.01)

    async def run() -> None:
        meter = LagMeter(asyncio.get_running_loop())
        meter.start()
        time.sleep(0.05)  # noqa: ASYNC251 - what is measured
        await until(lambda: sum(meter.lags().counts))
        meter.stop()
        meter.stop()
        assert sum(meter.lags().counts[5:]) == 1
        assert meter.lags().total >= 0.03

    asyncio.run(run())
