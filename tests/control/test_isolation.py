"""One tunnel's trouble is that tunnel's: whatever fails, the others run, nothing is left behind,
and it comes up by itself when the cause is gone. Each call that can fail fails here in its turn."""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.control.errors import SetupError
from gred.control.events import Event
from gred.control.tunnel import TunnelState
from gred.dataplane.plane import DeviceLost, UnderlayError
from gred.dataplane.underlay.contract import GroupError, Membership
from gred.wire.icmp import ErrorKind
from tests.control.conftest import Run
from tests.control.fakes import OTHER_REMOTE, REMOTE, House, tunnel
from tests.waiting import until

TOO_BIG = UnderlayError(
    "t1", ErrorKind.TOO_BIG, ip_address("198.51.100.1"), 1300, 1500, is_proven=True
)
NAMES = ("t1", "t2", "t3", "t4", "t5")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: nobody waits for a clock here."""
    monkeypatch.setattr("gred.control.retry.FIRST", 0.002)
    monkeypatch.setattr("gred.control.retry.AT_MOST", 0.01)
    monkeypatch.setattr("gred.control.retry.ECHO", 0.0)
    monkeypatch.setattr("gred.control.daemon._REST_AT_MOST", 0.0)


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


GROUP = Membership(bytes((239, 1, 2, 3)), bytes(4), 7)


@dataclass(frozen=True)
class Trouble:
    """A call that fails for one tunnel: how to begin and how to end it."""

    begin: Callable[[House, str], object]
    end: Callable[[House, str], object]


def opening(number: int) -> Trouble:
    return Trouble(
        lambda house, name: house.kernel.open_errors.update({name: number}),
        lambda house, name: house.kernel.open_errors.pop(name),
    )


def attaching(problem: OSError | OverflowError) -> Trouble:
    return Trouble(
        lambda house, name: house.plane.refuses.update({name: problem}),
        lambda house, name: house.plane.refuses.pop(name),
    )


SETTINGS = Trouble(
    lambda house, name: house.kernel.refuses_settings.update({name: SetupError("cannot add it")}),
    lambda house, name: house.kernel.refuses_settings.pop(name),
)
TROUBLES = {
    "name taken": opening(errno.EBUSY),
    "name refused": opening(errno.EINVAL),
    "no descriptor for a device": opening(errno.EMFILE),
    "renamed as it was made": opening(errno.EAGAIN),
    "address or route refused": SETTINGS,
    "group refused": attaching(GroupError(error(errno.ENOBUFS), GROUP)),
    "no device for the group": attaching(GroupError(error(errno.ENODEV), GROUP)),
    "no descriptor for a socket": attaching(error(errno.EMFILE)),
    "IP version switched off": attaching(error(errno.EAFNOSUPPORT)),
    "socket option refused": attaching(error(errno.ENOPROTOOPT)),
    "too many tunnels": attaching(OverflowError("more than 65535 tunnels")),
}


def on_a_loop(scenario: Callable[[], Coroutine[None, None, None]]) -> None:
    bugs: list[dict[str, object]] = []
    with asyncio.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _loop, context: bugs.append(context))
        runner.run(scenario())
    assert not bugs


def states(house: House) -> dict[str, TunnelState]:
    return {name: tunnel.state for name, tunnel in house.daemon.tunnels.items()}


def up(names: set[str]) -> dict[str, TunnelState]:
    return {name: TunnelState.UP if name in names else TunnelState.DOWN for name in NAMES}


plans = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(TROUBLES)))


@given(plans)
def test_what_fails_at_the_start_harms_no_other_and_comes_up_later(plan: dict[str, str]) -> None:
    async def scenario() -> None:
        house = House(tuple(tunnel(name) for name in NAMES))
        for name, trouble in plan.items():
            TROUBLES[trouble].begin(house, name)
        await house.daemon.start()
        well = set(NAMES) - set(plan)
        assert states(house) == up(well)
        assert all(house.daemon.tunnels[name].detail for name in plan)
        await until(lambda: house.only_these_are_left(well))
        told = [event for event in house.events if event.name == "tunnel_down"]
        assert sorted(str(event.tunnel) for event in told) == sorted(plan), "each is told once"
        assert all(event.level == "error" and event.fields["detail"] for event in told)
        before = {name: house.plane.attachment(name) for name in well}
        for name, trouble in plan.items():
            TROUBLES[trouble].end(house, name)
        await until(lambda: states(house) == up(set(NAMES)))
        await until(lambda: house.only_these_are_left(set(NAMES)))
        assert before == {name: house.plane.attachment(name) for name in well}
        assert sum(event.name == "tunnel_down" for event in house.events) == len(plan)
        await house.daemon.stop()
        assert house.nothing_is_left()

    on_a_loop(scenario)


@given(plans)
def test_what_cannot_be_made_again_harms_no_other_and_comes_up_later(plan: dict[str, str]) -> None:
    async def scenario() -> None:
        house = House(tuple(tunnel(name) for name in NAMES))
        await house.daemon.start()
        before = {name: house.plane.attachment(name) for name in NAMES}
        well = set(NAMES) - set(plan)
        for name, trouble in plan.items():
            TROUBLES[trouble].begin(house, name)
            del house.kernel.interfaces[house.plane.attachment(name).device.index]
        house.monitor.fire()
        await until(lambda: {event.tunnel for event in downs(house)} == set(plan))
        await until(lambda: house.only_these_are_left(well))
        assert states(house) == up(well)
        for name, trouble in plan.items():
            TROUBLES[trouble].end(house, name)
        await until(lambda: states(house) == up(set(NAMES)))
        assert all(house.plane.attachment(name) is before[name] for name in well)
        await house.daemon.stop()
        assert house.nothing_is_left()

    on_a_loop(scenario)


def downs(house: House) -> Iterator[Event]:
    return (event for event in house.events if event.name == "tunnel_down")


@given(
    st.sets(st.sampled_from(NAMES)),
    st.sampled_from([error(errno.ENODEV), error(errno.EMFILE), GroupError(error(12), GROUP)]),
    st.sampled_from(["binding", "path", "mtu"]),
)
def test_what_the_data_plane_refuses_while_running_harms_no_other(
    chosen: set[str], problem: OSError, way: str
) -> None:
    async def scenario() -> None:
        house = House(tuple(tunnel(name) for name in NAMES))
        await house.daemon.start()
        before = {name: house.plane.attachment(name) for name in NAMES}
        for name in chosen:
            house.plane.refuses_updates[name] = problem
            house.plane.refuses[name] = problem
        if way == "binding":
            house.kernel.filters = {4: "netfilter"}
        elif way == "path":
            for name in NAMES:
                house.plane.report(replace(TOO_BIG, tunnel=name))
        else:
            house.kernel.route_outside(REMOTE, mtu=1400)
        await house.change()
        well = set(NAMES) - chosen
        await until(lambda: states(house) == up(well))
        await until(lambda: house.only_these_are_left(well))
        house.plane.refuses.clear()
        await until(lambda: states(house) == up(set(NAMES)))
        assert all(house.plane.attachment(name) is before[name] for name in well)
        await house.daemon.stop()
        assert house.nothing_is_left()

    on_a_loop(scenario)


QUESTIONS = ["actual", "links", "local_addresses", "routes_to", "filtered"]


@pytest.mark.parametrize("method", [*QUESTIONS, "versions_with_gre_rules", "interface_addresses"])
@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EMFILE, errno.EAGAIN, errno.EPERM])
def test_a_question_that_fails_harms_no_tunnel(run: Run, method: str, number: int) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), replace(tunnel("t2"), local=None, local_interface="eth0")))
        house.kernel.given = {2: [ip_address("192.0.2.1")]}
        await house.daemon.start()
        attachments = [house.plane.attachment(name) for name in ("t1", "t2")]
        house.names()
        house.kernel.failures[method] = [error(number)] * 3
        house.kernel.no_route(REMOTE)
        house.monitor.fire()
        await until(lambda: house.daemon.status() == "2 tunnels: 2 no_route")
        assert not any(attachment.removed for attachment in attachments)
        assert house.names() == ["survey_failed", *["tunnel_no_route"] * 2], "it is told once"
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


@pytest.mark.parametrize("method", QUESTIONS)
def test_a_question_that_fails_while_one_is_made_leaves_nothing_half_made(
    run: Run, method: str
) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        house.kernel.open_errors["t2"] = errno.EBUSY
        await house.daemon.start()
        house.kernel.open_errors.clear()
        house.kernel.failures[method] = [error(errno.ENOBUFS)] * 3
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        assert house.only_these_are_left({"t1", "t2"})
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_device_that_cannot_be_asked_is_made_again(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        await house.daemon.start()
        first, other = house.plane.attachment("t1"), house.plane.attachment("t2")
        del house.kernel.interfaces[first.device.index]
        house.kernel.failures["attached"] = [error(errno.EIO)]
        house.monitor.fire()
        await until(lambda: house.plane.attachment("t1") is not first)
        assert not other.removed
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_device_that_breaks_again_and_again_makes_no_busy_loop(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gred.control.retry.FIRST", 3600.0)
    monkeypatch.setattr("gred.control.retry.AT_MOST", 3600.0)

    async def scenario() -> None:
        house = House((tunnel("t1"),))
        await house.daemon.start()
        house.plane.report(DeviceLost("t1", error(errno.EIO)))
        await until(lambda: len(house.plane.attachments) == 2)
        house.plane.report(DeviceLost("t1", error(errno.EIO)))
        await until(lambda: house.plane.attachments[-1].removed)
        await house.change()
        assert house.daemon.status() == "1 tunnel: 1 down"
        assert len(house.kernel.devices) == 2
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_namespace_that_comes_later_gets_its_interface(run: Run) -> None:
    async def scenario() -> None:
        house = House((replace(tunnel("t1"), namespace="blue"), tunnel("t2", remote=OTHER_REMOTE)))
        await house.daemon.start()
        assert house.daemon.status() == "2 tunnels: 1 down, 1 up"
        assert house.monitor.everywhere, "what happens in there is told from now on"
        assert "there is no network namespace blue" in house.daemon.tunnels["t1"].detail
        house.kernel.namespaces["blue"] = {}
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        await house.daemon.stop()

    run(scenario())


def test_all_may_fail_and_the_daemon_runs(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        house.kernel.open_errors = {"t1": errno.EBUSY, "t2": errno.EBUSY}
        await house.daemon.start()
        assert house.daemon.status() == "2 tunnels: 2 down"
        assert house.daemon.facts() == {"tunnels": 2, "down": 2, "codec": "fake"}
        house.kernel.open_errors.clear()
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        await house.daemon.stop()

    run(scenario())


def test_a_reason_that_changes_is_told_again(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        house.kernel.open_errors["t1"] = errno.EBUSY
        await house.daemon.start()
        house.kernel.open_errors["t1"] = errno.EMFILE
        await until(lambda: "Too many open files" in house.daemon.tunnels["t1"].detail)
        assert house.names() == ["tunnel_down", "tunnel_down"]
        await house.daemon.stop()

    run(scenario())


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM])
def test_what_would_end_a_start_does_not_end_what_runs(run: Run, number: int) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        await house.daemon.start()
        first = house.plane.attachment("t1")
        house.kernel.open_errors["t1"] = number
        del house.kernel.interfaces[first.device.index]
        house.monitor.fire()
        await until(lambda: "/dev/net/tun" in house.daemon.tunnels["t1"].detail)
        assert house.daemon.status() == "2 tunnels: 1 down, 1 up"
        house.kernel.open_errors.clear()
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_bug_still_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bugs: list[dict[str, object]] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: bugs.append(context))
        house = House((tunnel("t1"),))
        await house.daemon.start()
        monkeypatch.setattr(house.kernel, "routes_to", lambda _queries: 1 / 0)
        house.monitor.fire()
        await until(lambda: bool(bugs))
        await house.daemon.stop()
        assert house.nothing_is_left()

    asyncio.run(scenario())
    assert isinstance(bugs[0]["exception"], ZeroDivisionError)
