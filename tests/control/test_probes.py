"""Probes of a daemon among fakes: whose path is probed, with what, and who obeys."""

import asyncio
from dataclasses import replace
from ipaddress import IPv4Network, ip_address

import pytest

from gred.config.model import IPAddress, TunnelConfig
from gred.control import probing
from gred.control.kernel.routes import RouteInfo
from gred.control.tunnel import TunnelState
from gred.wire.gre import BASE_LENGTH
from gred.wire.keepalive import read_request
from tests.control.fakes import (
    OTHER_REMOTE,
    REMOTE,
    FakeAttachment,
    House,
    configuration,
    tunnel,
)
from tests.control.test_keepalives import arrive, house, on_a_loop
from tests.waiting import until

THERE, ELSEWHERE = ip_address(REMOTE), ip_address(OTHER_REMOTE)
OUTSIDE = 20 + BASE_LENGTH  # bytes before what is injected


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a second be a hundredth."""
    for name in ("ROUND", "ROUND_AT_MOST", "BEHIND", "GAP", "CONFIRM", "RAISE", "RAISE_SOON"):
        monkeypatch.setattr(probing, name, getattr(probing, name) / 100)


def asking(**options: object) -> TunnelConfig:
    return replace(tunnel(), **({"keepalive": 0.05} | options))  # type: ignore[arg-type]


class Hole:
    """The other end of ``t1`` at *remote*, behind a path that carries *carries* bytes."""

    def __init__(self, house: House, carries: int = 1300, remote: IPAddress = THERE) -> None:
        self.carries = carries
        self.longest = 0
        self._house = house
        self._remote = remote
        self._seen = 0

    @property
    def attachment(self) -> FakeAttachment:
        return self._house.plane.attachment("t1")

    def answer(self) -> bool:
        """Answer what has got through; return True."""
        new, self._seen = self.attachment.injected[self._seen :], len(self.attachment.injected)
        for protocol, packet, remote in new:
            size = OUTSIDE + len(packet)
            if remote != self._remote or protocol is None:
                continue
            self.longest = max(self.longest, size)
            request = read_request(packet)
            assert request is not None
            assert len(request.answer) < 64, "the answer carries no padding"
            if size <= self.carries:
                arrive(self._house, request.answer, self._remote)
        return True


@on_a_loop
async def test_a_hole_is_found_and_told() -> None:
    async with house(asking()) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]
        await until(lambda: hole.answer() and mine.path.probed == 1300)
        assert hole.longest == 1500
        await until(lambda: hole.answer() and mine.mtu == 1276)
        assert mine.attachment is not None
        assert hole.attachment.parameters.mtu == 1276
        assert (mine.path.route_mtu, mine.path.learned, mine.path.mtu) == (1500, None, 1300)
        told = [event.fields["detail"] for event in one.events if event.name == "path_mtu_changed"]
        assert told[0] == (
            "it carries 1280 though nothing says so: ICMP is filtered on the way; "
            "MTU lowered from 1476 to 1256"
        )
        assert mine.state is TunnelState.UP


@on_a_loop
async def test_nobody_is_probed_who_has_not_answered() -> None:
    async with house(asking()) as one:
        hole = Hole(one, carries=0)
        await until(lambda: hole.answer() and len(hole.attachment.injected) > 5)
        assert hole.longest < 100


@on_a_loop
async def test_or_who_answers_no_more() -> None:
    async with house(asking(keepalive=0.02, keepalive_retries=2)) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]
        await until(lambda: hole.answer() and mine.path.probed is not None)
        hole.carries = 0
        await until(lambda: hole.answer() and mine.state is TunnelState.SILENT)
        found = mine.path.probed
        hole.longest = 0
        sent = len(hole.attachment.injected)
        await until(lambda: hole.answer() and len(hole.attachment.injected) > sent + 10)
        assert hole.longest < 100
        assert mine.path.probed == found
        hole.carries = 1300
        await until(lambda: hole.answer() and mine.path.probed == 1300)


@pytest.mark.parametrize(
    "options",
    [{"probe_mtu": "no"}, {"keepalive": None}, {"discover_path_mtu": False}],
    ids=["no", "auto without keepalives", "without Don't Fragment"],
)
@on_a_loop
async def test_what_is_not_wanted_is_not_done(options: dict[str, object]) -> None:
    async with house(asking(**options)) as one:
        hole = Hole(one)
        for _ in range(20):
            await until(hole.answer)
        assert hole.longest < 100


@on_a_loop
async def test_yes_needs_no_keepalives() -> None:
    async with house(asking(keepalive=None, probe_mtu="yes")) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]
        assert mine.state is TunnelState.UP
        await until(lambda: hole.answer() and mine.path.probed == 1300)


@on_a_loop
async def test_a_configured_mtu_stays_and_bounds_the_probes() -> None:
    async with house(asking(mtu=1400)) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]
        await until(lambda: hole.answer() and mine.path.probed == 1300)
        assert hole.longest == 1400 + OUTSIDE
        assert mine.mtu == 1400
        assert hole.attachment.parameters.path_mtu == 1300 - OUTSIDE


@on_a_loop
async def test_a_path_within_the_host_is_not_probed() -> None:
    made = House((asking(),))
    made.kernel.routes[THERE] = RouteInfo(oif=1, mtu=65536)
    await made.daemon.start()
    try:
        hole, mine = Hole(made), made.daemon.tunnels["t1"]
        await until(lambda: hole.answer() and len(hole.attachment.injected) > 5)
        assert (hole.longest < 100, mine.path.probed) == (True, None)
    finally:
        await made.daemon.stop()


@on_a_loop
async def test_each_of_many_paths_is_probed() -> None:
    peers = tuple(
        (IPv4Network(f"10.0.{n}.0/24"), remote) for n, remote in enumerate((THERE, ELSEWHERE))
    )
    async with house(asking(remote=None, peers=peers)) as one:
        hole, other = Hole(one), Hole(one, 1500, ELSEWHERE)
        await until(
            lambda: (
                hole.answer()
                and other.answer()
                and hole.attachment.paths.get(THERE) == (1300 - OUTSIDE, False)
            )
        )
        assert ELSEWHERE not in hole.attachment.paths
        assert one.daemon.tunnels["t1"].mtu == 1500 - OUTSIDE
        told = next(event for event in one.events if event.name == "path_mtu_changed")
        assert told.fields["remote"] == REMOTE
        assert "ICMP is filtered" in str(told.fields["detail"])


@on_a_loop
async def test_an_interface_made_anew_begins_with_what_is_known() -> None:
    async with house(asking()) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]
        await until(lambda: hole.answer() and mine.path.probed == 1300)
        first = one.kernel.devices[-1]
        one.kernel.interfaces.pop(first.index)
        one.monitor.fire()
        await until(lambda: one.kernel.devices[-1] is not first)
        again = Hole(one)
        await until(lambda: again.answer() and mine.state is TunnelState.UP)
        assert mine.path.probed == 1300


@on_a_loop
async def test_another_configuration_begins_anew_and_none_goes_on_beside_it() -> None:
    config = asking(keepalive=10.0)
    async with house(config) as one:
        hole, mine = Hole(one), one.daemon.tunnels["t1"]

        def probed() -> int | None:
            return mine.path.probed

        await until(lambda: hole.answer() and probed() == 1300)
        await one.daemon.reload(configuration(replace(config, ttl=9)))
        assert probed() == 1300, "what was found holds"
        hole.carries = 1290
        await until(lambda: hole.answer() and probed() == 1290)
        await one.daemon.reload(configuration(replace(config, probe_mtu="no")))
        assert probed() is None
        sent = len(hole.attachment.injected)
        for _ in range(20):
            await asyncio.sleep(0.01)
            assert hole.answer()
        assert len(hole.attachment.injected) == sent
        await until(lambda: mine.mtu == 1476)


@on_a_loop
async def test_nor_is_what_was_found_of_many_paths_kept() -> None:
    peers = ((IPv4Network("10.0.1.0/24"), THERE),)
    config = asking(remote=None, peers=peers)
    async with house(config) as one:
        hole = Hole(one)
        found = 1300 - OUTSIDE, False
        await until(lambda: hole.answer() and hole.attachment.paths.get(THERE) == found)
        await one.daemon.reload(configuration(replace(config, probe_mtu="no")))
        assert hole.attachment.paths[THERE] == (None, False)


@on_a_loop
async def test_a_hundred_tunnels_do_not_probe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gred.control.probes.SPACING", 0.002)
    monkeypatch.setattr(probing, "CONFIRM", 1000.0)
    many = [
        replace(
            asking(keepalive=None, probe_mtu="yes"),
            name=f"t{n}",
            remote=ip_address(f"198.51.100.{n}"),
        )
        for n in range(1, 101)
    ]
    async with house(*many) as one:
        loop = asyncio.get_running_loop()
        attachments = [one.plane.attachment(config.name) for config in many]
        began = loop.time()
        seen: list[tuple[float, int]] = []
        while not seen or seen[-1][1] < len(many):
            await asyncio.sleep(0)
            seen.append((loop.time(), sum(bool(one.injected) for one in attachments)))
        assert all(count <= (at - began) / 0.002 + 2 for at, count in seen)
