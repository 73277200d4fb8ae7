"""The name in Remote=, among fakes: which address is used, and what becomes of the tunnel."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.config.model import TunnelConfig
from gred.control import names
from gred.control.events import RemoteChanged, ResolvingFailed, TunnelTroubled
from gred.control.kernel.routes import NoRoute
from gred.control.names import choose
from tests.control.conftest import Run
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, House, configuration, tunnel
from tests.waiting import until

HOST = "vpn.example"
REMOTE6, LOCAL6 = "2001:db8::2", "2001:db8::1"
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NEVER = 3600.0


def named(name: str = "t1", *, local: str | None = LOCAL, **fields: object) -> TunnelConfig:
    """Return a tunnel to HOST that is resolved again only when there is a reason."""
    bare = tunnel(name, local=local, remote=None)
    fields = {"remote_name": HOST, "resolve_interval": NEVER, "addresses": (), **fields}
    return replace(bare, **fields)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "START_SECONDS", 0.01)
    monkeypatch.setattr(names, "LOST_SECONDS", 0.02)
    monkeypatch.setattr(names, "_SOONEST", 0.005)


def used(house: House, name: str = "t1") -> str:
    return str(house.plane.attachment(name).parameters.remote)


def changes(house: House) -> list[tuple[str | None, str]]:
    return [(one.before, one.remote) for one in house.events if isinstance(one, RemoteChanged)]


def with_answers(*answers: str, **fields: object) -> House:
    house = House((named(**fields),))  # type: ignore[arg-type]
    house.resolver.answers[HOST] = list(answers)
    return house


def ask_again(house: House) -> None:
    """Let it be time to resolve again."""
    for name in house.daemon._remotes._names.values():
        house.daemon._remotes._ask_in(name, 0.0)


async def answered(house: House) -> None:
    """Wait until what was asked so far, and one more question, are answered and followed."""
    followed = house.daemon._remotes._names.values()
    await until(lambda: all(one.task is None for one in followed))
    before = len(house.resolver.asked)
    ask_again(house)
    await until(lambda: len(house.resolver.asked) >= before + len(followed))
    await until(lambda: all(one.task is None for one in followed))


def test_a_name_that_is_known_at_once_is_used_at_once(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        await house.daemon.start()
        assert house.names() == ["tunnel_up"]
        assert used(house) == REMOTE
        assert house.daemon.snapshot("t1").remote == REMOTE
        assert house.resolver.asked == [(HOST, 4)], "only what goes with Local="
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_another_address_is_followed_and_the_interface_stays(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        await house.daemon.start()
        attachment = house.plane.attachment("t1")
        house.resolver.answers[HOST] = [OTHER_REMOTE]
        await answered(house)
        assert changes(house) == [(REMOTE, OTHER_REMOTE)]
        assert house.plane.attachment("t1") is attachment
        assert used(house) == OTHER_REMOTE
        assert len(house.kernel.devices) == 1
        await house.daemon.stop()

    run(scenario())


def test_the_address_in_use_is_kept_while_it_is_among_the_answers(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        await house.daemon.start()
        house.resolver.answers[HOST] = [OTHER_REMOTE, REMOTE]
        await answered(house)
        assert used(house) == REMOTE
        assert changes(house) == []
        await house.daemon.stop()

    run(scenario())


def test_the_last_address_is_kept_while_there_is_no_answer_and_that_is_told_once(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        await house.daemon.start()
        for answer in (UNKNOWN, [], ["127.0.0.1"]):
            house.resolver.answers[HOST] = answer
            await answered(house)
        assert used(house) == REMOTE
        assert house.daemon.status() == "1 tunnel: 1 up"
        (told,) = [one for one in house.events if isinstance(one, ResolvingFailed)]
        assert told.detail == (
            "cannot resolve vpn.example: Name or service not known: 192.0.2.2 stays in use"
        )
        house.resolver.answers[HOST] = [OTHER_REMOTE]
        await answered(house)
        assert used(house) == OTHER_REMOTE
        await house.daemon.stop()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (UNKNOWN, "cannot resolve vpn.example: Name or service not known"),
        (OSError(24, "Too many open files"), "cannot resolve vpn.example: Too many open files"),
        ([], "cannot use vpn.example: it has no address"),
        ([LOCAL], "cannot use vpn.example: it has 192.0.2.1 (expected another address than"),
        (["127.0.1.1"], "cannot use vpn.example: it has 127.0.1.1 (expected two loopback"),
    ],
)
def test_what_cannot_be_resolved_is_there_and_says_why(
    run: Run, answer: list[str] | OSError, words: str
) -> None:
    async def scenario() -> None:
        house = House((named(), tunnel("t2")))
        house.resolver.answers[HOST] = answer
        await house.daemon.start()
        assert house.daemon.status() == "2 tunnels: 1 up, 1 unresolved"
        shown = house.daemon.snapshot("t1")
        assert shown.detail.startswith(words)
        assert shown.remote == HOST
        assert "t1" in house.kernel.interfaces.values()
        parameters = house.plane.attachment("t1").parameters
        assert str(parameters.local) == "192.0.0.8", "nothing leaves, nothing is for it"
        (told,) = [one for one in house.events if isinstance(one, TunnelTroubled)]
        assert (told.name, told.remote) == ("tunnel_unresolved", HOST)
        house.names()
        house.resolver.answers[HOST] = [REMOTE]
        house.monitor.fire()  # as when an address comes to the host
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        assert house.names() == ["remote_changed", "tunnel_up"]
        assert (used(house), len(house.kernel.devices)) == (REMOTE, 2)
        assert str(house.plane.attachment("t1").parameters.local) == LOCAL
        await house.daemon.stop()

    run(scenario())


def test_no_start_waits_for_an_answer(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        house.resolver.held = asyncio.Event()
        await house.daemon.start()
        assert house.daemon.status() == "1 tunnel: 1 unresolved"
        assert house.daemon.snapshot("t1").detail == "vpn.example is being resolved"
        house.resolver.held.set()
        await until(lambda: house.daemon.status() == "1 tunnel: 1 up")
        await house.daemon.stop()

    run(scenario())


def test_a_stop_waits_for_no_answer(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE)
        house.resolver.held = asyncio.Event()
        await house.daemon.start()
        await house.daemon.stop()
        assert house.nothing_is_left()
        assert len(asyncio.all_tasks()) == 1

    run(scenario())


def test_it_is_tried_again_by_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gred.control.retry.FIRST", 0.01)

    async def scenario() -> None:
        house = House((named(),))
        house.resolver.answers[HOST] = UNKNOWN
        await house.daemon.start()
        await until(lambda: len(house.resolver.asked) > 2)
        house.resolver.answers[HOST] = [REMOTE]
        await until(lambda: house.daemon.status() == "1 tunnel: 1 up")
        await house.daemon.stop()

    run(scenario())


def test_it_is_resolved_again_at_its_interval(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE, resolve_interval=0.02)
        await house.daemon.start()
        house.resolver.answers[HOST] = [OTHER_REMOTE]
        await until(lambda: used(house) == OTHER_REMOTE)
        await house.daemon.stop()

    run(scenario())


@pytest.mark.parametrize("interval", [None, NEVER])
def test_a_lost_end_is_resolved_again_at_once_and_then_again(
    run: Run, interval: float | None
) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE, resolve_interval=interval)
        await house.daemon.start()
        before = len(house.resolver.asked)
        house.kernel.no_route(REMOTE)
        house.monitor.fire()
        await until(lambda: len(house.resolver.asked) > before + 2)
        assert used(house) == REMOTE, "there is no other"
        house.resolver.answers[HOST] = [OTHER_REMOTE]
        await until(lambda: house.daemon.status() == "1 tunnel: 1 up")
        assert used(house) == OTHER_REMOTE
        assert house.names() == ["tunnel_up", "tunnel_no_route", "remote_changed", "tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_where_the_end_is_lost_the_next_address_is_tried(run: Run) -> None:
    third = "192.0.2.4"

    async def scenario() -> None:
        house = with_answers(REMOTE, OTHER_REMOTE, third)
        await house.daemon.start()
        for address in (REMOTE, OTHER_REMOTE):
            house.kernel.routes[ip_address(address)] = NoRoute("Network is unreachable")
        house.monitor.fire()
        await until(lambda: used(house) == third)
        assert changes(house) == [(REMOTE, OTHER_REMOTE), (OTHER_REMOTE, third)]
        await until(lambda: house.daemon.status() == "1 tunnel: 1 up")
        await answered(house)
        assert used(house) == third
        await house.daemon.stop()

    run(scenario())


def test_a_silent_end_is_lost_and_one_that_was_only_just_asked_is_not(run: Run) -> None:
    async def scenario() -> None:
        house = with_answers(REMOTE, OTHER_REMOTE, keepalive=0.1, keepalive_retries=1)
        await house.daemon.start()
        await until(lambda: used(house) == OTHER_REMOTE)
        await until(lambda: used(house) == REMOTE)
        await until(lambda: set(house.daemon.tunnels["t1"].lives) == {ip_address(REMOTE)})
        asked = {remote for _type, _data, remote in house.plane.attachment("t1").injected}
        assert asked == {ip_address(REMOTE), ip_address(OTHER_REMOTE)}
        await house.daemon.stop()

    run(scenario())


def test_either_family_will_do_where_local_is_open(run: Run) -> None:
    async def scenario() -> None:
        house = House((named(local=None, mtu=1400),))
        house.resolver.answers[HOST] = [REMOTE6, REMOTE]
        await house.daemon.start()
        assert house.resolver.asked == [(HOST, 0)]
        assert used(house) == REMOTE6
        await house.daemon.stop()

    run(scenario())


def test_from_one_family_to_the_other_the_interface_is_made_anew(run: Run) -> None:
    async def scenario() -> None:
        house = House((named(local=None), tunnel("t2")))
        house.resolver.answers[HOST] = [REMOTE]
        await house.daemon.start()
        house.names()
        house.resolver.answers[HOST] = [REMOTE6]
        await answered(house)
        await until(lambda: house.daemon.status() == "2 tunnels: 2 up")
        assert used(house) == REMOTE6
        assert list(house.daemon.tunnels) == ["t1", "t2"], "who is written first is first"
        assert house.names() == ["remote_changed", "tunnel_down", "tunnel_up"]
        assert len(house.kernel.devices) == 3
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_two_names_that_come_to_one_address_are_twins(run: Run) -> None:
    async def scenario() -> None:
        house = House((named(), named("t2", remote_name="other.example", input_key=None)))
        house.resolver.answers |= {HOST: [REMOTE], "other.example": [OTHER_REMOTE]}
        await house.daemon.start()
        assert house.daemon.status() == "2 tunnels: 2 up"
        house.resolver.answers["other.example"] = [REMOTE]
        await answered(house)
        await until(lambda: house.daemon.status() == "2 tunnels: 1 up, 1 twin")
        await house.daemon.stop()

    run(scenario())


def reloaded(change: Callable[[TunnelConfig], TunnelConfig]) -> tuple[House, list[str], str]:
    """Return a house whose tunnel was up and then changed, what was done, and the remote."""
    found: list[tuple[House, list[str], str]] = []

    async def scenario() -> None:
        house = with_answers(REMOTE)
        house.resolver.answers["other.example"] = [OTHER_REMOTE]
        await house.daemon.start()
        house.names()
        plan = await house.daemon.reload(configuration(change(named())))
        found.append((house, [str(step) for step in plan.steps], used(house)))
        await house.daemon.stop()

    asyncio.run(scenario())
    return found[0]


def test_a_reload_keeps_the_address_of_a_name_that_stays() -> None:
    house, steps, remote = reloaded(lambda one: replace(one, ttl=9))
    assert steps == ["changed t1: TTL=64 -> 9"]
    assert remote == REMOTE
    assert len(house.kernel.devices) == 1


@pytest.mark.parametrize(
    ("fields", "step", "remote"),
    [
        (
            {"remote_name": "other.example"},
            "changed t1: Remote=vpn.example -> other.example",
            OTHER_REMOTE,
        ),
        (
            {"remote_name": None, "remote": ip_address(OTHER_REMOTE)},
            "changed t1: Remote=vpn.example -> 192.0.2.3",
            OTHER_REMOTE,
        ),
        ({"resolve_interval": None}, "changed t1: ResolveInterval=60min -> no", REMOTE),
    ],
)
def test_a_reload_may_name_another_end(fields: dict[str, object], step: str, remote: str) -> None:
    house, steps, now = reloaded(lambda one: replace(one, **fields))  # type: ignore[arg-type]
    assert steps == [step]
    assert now == remote
    assert len(house.kernel.devices) == 1


def test_without_names_nobody_is_asked(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        await house.daemon.start()
        house.kernel.no_route(REMOTE)
        await house.change()
        assert house.resolver.asked == []
        await house.daemon.stop()

    run(scenario())


@pytest.mark.parametrize(
    ("current", "lost", "chosen"),
    [(None, False, 0), (None, True, 0), (0, False, 0), (1, False, 1), (0, True, 1), (2, True, 0)],
)
def test_the_choice(current: int | None, lost: bool, chosen: int) -> None:
    usable = [ip_address(one) for one in (REMOTE6, REMOTE, OTHER_REMOTE)]
    now = None if current is None else usable[current]
    assert choose(usable, now, lost=lost) == usable[chosen]


def test_what_is_no_answer_any_more_gives_way_to_the_best(run: Run) -> None:
    gone = ip_address("192.0.2.9")
    usable = [ip_address(REMOTE), ip_address(OTHER_REMOTE)]
    assert choose(usable, gone, lost=True) == usable[0]
    assert choose(usable, gone, lost=False) == usable[0]
