"""Interfaces kept as they are to be, by a daemon among fakes."""

from dataclasses import replace

import pytest

from gred.config.model import TunnelConfig
from gred.control import contest, ordering
from gred.control.tunnel import TunnelState
from tests.control.conftest import Run
from tests.control.fakes import House, tunnel
from tests.waiting import until

ADDRESS, ROUTE = "10.9.1.1/24", "10.99.1.0/24"


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    await house.daemon.start()
    house.names()
    return house


def whole(name: str = "t1") -> TunnelConfig:
    return tunnel(name, addresses=[ADDRESS], routes=[ROUTE])


def test_what_is_flushed_is_put_back_while_the_tunnel_stays_up(run: Run) -> None:
    async def scenario() -> None:
        house = await started(whole(), tunnel("t2"))
        state, other = house.kernel.state("t1"), house.kernel.state("t2")
        before, untouched = state.actual(), len(other.ordered)
        state.flush()
        await house.change()
        assert state.actual() == before
        assert [(event.tunnel, event.level, dict(event.fields)) for event in house.events] == [
            (
                "t1",
                "warning",
                {"detail": f"address {ADDRESS} was missing, route {ROUTE} was missing: put back"},
            )
        ]
        assert house.names() == ["repaired"]
        assert house.daemon.status() == "2 tunnels: 2 up"
        ordered = len(state.ordered)
        await house.change()
        assert len(state.ordered) == ordered, "what gred did itself is no reason to do more"
        assert len(other.ordered) == untouched
        await house.daemon.stop()

    run(scenario())


def test_the_same_removal_once_more_is_seen_though_nothing_else_was_between(run: Run) -> None:
    """What the kernel shows is what it showed last time: it was another thing meanwhile."""

    async def scenario() -> None:
        house = await started(whole())
        state = house.kernel.state("t1")
        state.take(ROUTE)
        house.kernel.after_configuration = lambda: state.take(ROUTE)
        await house.change()
        house.kernel.after_configuration = lambda: None
        await house.change()
        assert house.names() == ["repaired", "repaired"]
        await house.daemon.stop()

    run(scenario())


def test_a_contest_is_told_once_with_a_suspect_and_ends_by_itself(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "FIRST", 0.1)

    async def scenario() -> None:
        house = await started(whole())
        state = house.kernel.state("t1")
        house.kernel.managers["t1"] = "NetworkManager"
        for _ in range(contest.MANY):
            state.take(ROUTE)
            await house.change()
        assert house.daemon.tunnels["t1"].state is TunnelState.INCOMPLETE
        assert house.events[-1].fields["detail"] == (
            f"route {ROUTE} is missing: removed 5 times in 1 s:"
            " is NetworkManager configuring t1? (Repair=no leaves it alone)"
        )
        assert house.names() == ["repaired"] * 4 + ["tunnel_incomplete"]
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        assert house.names() == ["repaired", "tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_many_flushed_at_once_are_put_back_some_at_a_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ordering, "AT_ONCE", 8)

    async def scenario() -> None:
        house = await started(*(whole(f"t{number}") for number in range(1, 51)))
        sizes: list[int] = []
        change = house.kernel.change

        def counted(work, /):  # type: ignore[no-untyped-def]  # as it was
            sizes.append(len(work))
            return change(work)

        monkeypatch.setattr(house.kernel, "change", counted)
        for number in range(1, 51):
            house.kernel.state(f"t{number}").flush()
        await house.change()
        assert sizes == [8] * 6 + [2]
        assert house.names() == ["repaired"] * 50
        assert house.daemon.status() == "50 tunnels: 50 up"
        await house.daemon.stop()

    run(scenario())


def test_what_one_is_refused_is_no_trouble_of_another(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gred.control.retry.FIRST", 0.02)

    async def scenario() -> None:
        house = await started(whole("t1"), whole("t2"))
        for name in ("t1", "t2"):
            house.kernel.state(name).flush()
        house.kernel.state("t1").refuses[ADDRESS] = "IPv6 is disabled on this device"
        await house.change()
        assert house.daemon.tunnels["t2"].state is TunnelState.UP
        assert house.daemon.tunnels["t1"].state is TunnelState.INCOMPLETE
        assert "IPv6 is disabled" in house.daemon.tunnels["t1"].detail
        house.kernel.state("t1").refuses.clear()
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        told = [event.tunnel for event in house.events if event.name == "repaired"]
        assert sorted(map(str, told)) == ["t1", "t1", "t2"]
        await house.daemon.stop()

    run(scenario())


def test_an_interface_that_comes_back_from_elsewhere_gets_what_it_lost(run: Run) -> None:
    async def scenario() -> None:
        house = await started(whole())
        index = house.kernel.devices[0].index
        before = house.kernel.state("t1").actual()
        name = house.kernel.interfaces.pop(index)
        house.kernel.elsewhere.add(index)
        house.kernel.state("t1").flush()
        await house.change()
        assert house.names() == []
        house.kernel.interfaces[index] = name
        house.kernel.elsewhere.clear()
        await house.change()
        assert house.names() == ["repaired"]
        assert house.kernel.state("t1").actual() == before
        await house.daemon.stop()

    run(scenario())


def test_an_interface_that_is_made_again_begins_anew(run: Run) -> None:
    async def scenario() -> None:
        house = await started(replace(whole(), repair=False))
        first = house.plane.attachment("t1")
        house.kernel.state("t1").flush()
        await house.change()
        assert house.names() == ["tunnel_incomplete"]
        del house.kernel.interfaces[first.device.index]
        house.monitor.fire()
        await until(lambda: house.plane.attachment("t1") is not first)
        assert house.names() == ["interface_deleted", "tunnel_up"]
        assert house.kernel.state("t1").actual().addresses
        await house.daemon.stop()

    run(scenario())
