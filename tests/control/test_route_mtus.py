"""The MTUs that routes were given, and tunnels with many remotes, among fakes."""

import errno
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gred.config.model import IPAddress, TunnelConfig
from gred.control import route_mtus
from gred.control.kernel.routes import MtuRoute, RouteQuery
from gred.dataplane.plane import PeerLearned, UnderlayError
from gred.wire.icmp import ErrorKind
from tests.control.conftest import Run
from tests.control.fakes import LOCAL, House, tunnel
from tests.waiting import until

NEAR, FAR = ip_address("192.0.2.2"), ip_address("198.51.100.3")
FAR6 = ip_address("2001:db8::3")
INNER = ip_address("10.0.0.9")


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_mtus, "REST", 0.0)


def hub(*remotes: IPAddress, learns: bool = False) -> TunnelConfig:
    peers = tuple(
        (ip_network(f"10.{number >> 8}.{number & 255}.0/24"), remote)
        for number, remote in enumerate(remotes)
    )
    return replace(tunnel(remote=None), peers=peers, learn_peers=learns)


def leads(network: str, mtu: int) -> MtuRoute:
    parsed = ip_network(network)
    return MtuRoute(parsed.network_address.packed, parsed.prefixlen, mtu)


async def started(*tunnels: TunnelConfig, house: House | None = None) -> House:
    house = house or House(tunnels)
    await house.daemon.start()
    listed = len({one.family for one in tunnels if one.remote is None})
    await until(lambda: house.kernel.listed >= listed)
    await until(
        lambda: all(one.name in house.daemon._route_mtus._hubs for one in tunnels if listed)
    )
    return house


async def changed(house: House) -> None:
    """Let something change in the kernel, and wait until the routes were listed again."""
    before = house.kernel.listed
    house.monitor.fire()
    await until(lambda: house.kernel.listed > before)


def limits(house: House) -> dict[IPAddress, int]:
    paths = house.plane.attachment("t1").paths
    return {remote: room for remote, (room, _fragmentable) in paths.items() if room is not None}


def test_without_an_mtu_on_any_route_nothing_is_looked_up(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub(NEAR, FAR))
        await changed(house)
        await house.daemon.stop()
        assert house.kernel.listed == 2, "once for each change"
        assert house.kernel.looked_up == []

    run(scenario())


def test_where_no_tunnel_has_many_remotes_no_routes_are_listed(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.with_mtu = [leads("0.0.0.0/0", 1400)]
        await house.change()
        await house.daemon.stop()
        assert house.kernel.listed == 0

    run(scenario())


def test_only_remotes_that_such_routes_may_lead_to_are_looked_up(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub(NEAR, FAR))
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400), leads("10.0.0.0/8", 1300)]
        house.kernel.route_mtu = {FAR: 1400}
        await changed(house)
        await until(lambda: limits(house) == {FAR: 1376})
        assert house.kernel.looked_up == [RouteQuery(FAR, ip_address(LOCAL))]
        told = [event for event in house.events if event.name == "route_mtus_changed"]
        assert [event.fields for event in told] == [{"remotes": 1}]
        # The same again: nothing to tell.
        await changed(house)
        await until(lambda: len(house.kernel.looked_up) == 2)
        # A route that loses its metric lifts the limit.
        house.kernel.with_mtu = []
        await changed(house)
        await until(lambda: limits(house) == {})
        assert house.names().count("route_mtus_changed") == 2
        assert len(house.kernel.looked_up) == 2
        await house.daemon.stop()

    run(scenario())


def test_a_route_as_wide_as_the_tunnel_limits_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub(NEAR, FAR))
        house.kernel.with_mtu = [leads("0.0.0.0/0", 1500), leads("192.0.2.0/24", 1400)]
        house.kernel.route_mtu = {NEAR: 1500, FAR: 1500}
        await changed(house)
        await until(lambda: len(house.kernel.looked_up) == 1)
        await changed(house)
        await until(lambda: len(house.kernel.looked_up) == 2)
        assert limits(house) == {}
        await house.daemon.stop()

    run(scenario())


def test_what_an_icmp_error_tells_counts_where_it_is_less(run: Run) -> None:
    too_big = UnderlayError("t1", ErrorKind.TOO_BIG, NEAR, 1300, 1500, is_proven=True, remote=FAR)

    async def scenario() -> None:
        house = await started(hub(NEAR, FAR))
        house.kernel.mtu_lifetime = 0.2
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = {FAR: 1400}
        await changed(house)
        await until(lambda: limits(house) == {FAR: 1376})
        house.plane.report(too_big)
        assert limits(house) == {FAR: 1276}
        assert house.events[-1].fields["before"] == 1400
        await until(lambda: limits(house) == {FAR: 1376})
        assert house.events[-1].fields["path_mtu"] == 1400
        house.plane.report(replace(too_big, mtu=1390))
        assert limits(house) == {FAR: 1366}
        house.kernel.route_mtu = {FAR: 1350}
        await changed(house)
        await until(lambda: limits(house) == {FAR: 1326})
        await house.daemon.stop()

    run(scenario())


def test_a_remote_that_is_learned_is_looked_up_by_itself(run: Run) -> None:
    async def scenario() -> None:
        house = House((hub(learns=True),))
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = {FAR: 1400}
        await started(*house.tunnels, house=house)
        house.plane.report(PeerLearned("t1", INNER, NEAR))
        house.plane.report(PeerLearned("t1", INNER, FAR))
        await until(lambda: limits(house) == {FAR: 1376})
        assert [query.destination for query in house.kernel.looked_up] == [FAR]
        assert house.kernel.listed == 1
        # It is forgotten when it is a remote no more.
        await changed(house)
        await until(lambda: limits(house) == {})
        await house.daemon.stop()

    run(scenario())


def test_when_many_were_learned_those_that_went_are_forgotten(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_mtus, "NEW_AT_MOST", 2)
    several = [ip_address(f"198.51.100.{number}") for number in range(1, 5)]

    async def scenario() -> None:
        house = House((hub(learns=True),))
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = dict.fromkeys(several, 1400)
        await started(*house.tunnels, house=house)
        house.plane.attachment("t1").learned = several[2:]
        for remote in several:
            house.plane.report(PeerLearned("t1", INNER, remote))
        await until(lambda: house.kernel.listed == 2)
        await until(lambda: limits(house) == dict.fromkeys(several[2:], 1376))
        await house.daemon.stop()

    run(scenario())


def test_an_interface_that_was_made_anew_obeys_too(run: Run) -> None:
    async def scenario() -> None:
        house = House((hub(NEAR, FAR),))
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = {FAR: 1400}
        await started(*house.tunnels, house=house)
        await until(lambda: limits(house) == {FAR: 1376})
        before = house.plane.attachment("t1")
        house.kernel.interfaces.pop(before.device.index)
        house.monitor.fire()
        await until(lambda: house.plane.attachment("t1") is not before)
        house.monitor.fire()
        await until(lambda: limits(house) == {FAR: 1376})
        await house.daemon.stop()

    run(scenario())


def test_many_remotes_are_looked_up_a_few_at_a_time(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_mtus, "AT_ONCE", 3)
    many = [ip_address(f"198.51.100.{number}") for number in range(1, 9)]

    async def scenario() -> None:
        house = House((hub(NEAR, *many),))
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = dict.fromkeys(many, 1400)
        await started(*house.tunnels, house=house)
        await until(lambda: limits(house) == dict.fromkeys(many, 1376))
        assert [query.destination for query in house.kernel.looked_up] == many
        await house.daemon.stop()

    run(scenario())


def test_each_ip_version_has_routes_of_its_own(run: Run) -> None:
    async def scenario() -> None:
        config = replace(hub(FAR6), local=None)
        house = House((config,))
        house.kernel.with_mtu = [leads("0.0.0.0/0", 1300), leads("2001:db8::/32", 1400)]
        house.kernel.route_mtu = {FAR6: 1400}
        await started(*house.tunnels, house=house)
        await until(lambda: limits(house) == {FAR6: 1356})
        assert house.kernel.looked_up == [RouteQuery(FAR6)]
        await house.daemon.stop()

    run(scenario())


def test_a_kernel_that_cannot_say_is_asked_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_mtus, "RETRY", 0.05)

    async def scenario() -> None:
        house = House((hub(NEAR, FAR),))
        house.kernel.failures["mtu_routes"] = [OSError(errno.ENOBUFS, "full")]
        house.kernel.with_mtu = [leads("198.51.100.0/24", 1400)]
        house.kernel.route_mtu = {FAR: 1400}
        await started(*house.tunnels, house=house)
        await until(lambda: limits(house) == {FAR: 1376})
        assert house.kernel.listed == 2
        await house.daemon.stop()

    run(scenario())
