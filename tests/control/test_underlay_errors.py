"""What the underlay says of outer packets, and what the daemon makes of it, among fakes."""

from dataclasses import replace
from ipaddress import ip_address

from gred.config.model import TunnelConfig
from gred.control.tunnel import TunnelState
from gred.dataplane.plane import ErrorIgnored, UnderlayError
from gred.dataplane.traffic import Traffic
from gred.wire.icmp import ErrorKind
from tests.control.conftest import Run
from tests.control.fakes import REMOTE, House, tunnel
from tests.waiting import until

ROUTER = ip_address("198.51.100.1")
PROHIBITED = UnderlayError("t1", ErrorKind.PROHIBITED, ROUTER)
TOO_BIG = UnderlayError("t1", ErrorKind.TOO_BIG, ROUTER, 1300, 1500, is_proven=True)


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    await house.daemon.start()
    house.names()
    return house


async def told(house: House, error: UnderlayError) -> None:
    """Report *error*, and wait until the daemon has looked at the routes."""
    before = len(house.kernel.asked)
    house.plane.report(error)
    await until(lambda: len(house.kernel.asked) > before)
    await until(lambda: not house.daemon._lock.locked())


def test_the_tunnel_follows_what_it_is_told_for_a_while(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(output_key=1))
        house.kernel.mtu_lifetime = 0.2
        await told(house, TOO_BIG)
        attachment = house.plane.attachment("t1")
        assert (attachment.parameters.mtu, attachment.parameters.path_mtu) == (1272, 1272)
        assert house.kernel.state("t1").mtu == 1272
        changed = house.events[0]
        assert changed.fields == {"path_mtu": 1300, "before": 1500, "detail": ""}
        assert house.names() == ["path_mtu_changed", "mtu_changed"]
        await until(lambda: attachment.parameters.mtu == 1472)
        assert attachment.parameters.path_mtu is None
        assert house.names() == ["path_mtu_changed", "mtu_changed"]
        await house.daemon.stop()

    run(scenario())


def test_a_configured_mtu_stays_and_the_data_plane_knows_the_path(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(mtu=1476))
        await told(house, TOO_BIG)
        parameters = house.plane.attachment("t1").parameters
        assert (parameters.mtu, parameters.path_mtu) == (1476, 1276)
        (changed,) = house.events
        assert "MTUBytes=1476 stays" in str(changed.fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_the_data_plane_knows_the_route_where_the_interface_takes_more(run: Run) -> None:
    """The kernel does not look: a route may carry less than its device."""

    async def scenario() -> None:
        house = House((tunnel(mtu=1476),))
        house.kernel.route_outside(REMOTE, mtu=1400)
        await house.daemon.start()
        attachment = house.plane.attachment("t1")
        assert (attachment.parameters.mtu, attachment.parameters.path_mtu) == (1476, 1376)
        house.kernel.route_outside(REMOTE, mtu=1500)
        await house.change()
        assert attachment.parameters.path_mtu is None
        assert "path_mtu_changed" not in house.names(), "it is the route that changed"
        await house.daemon.stop()

    run(scenario())


def test_what_is_not_believed_changes_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        asked = len(house.kernel.asked)
        house.plane.report(replace(TOO_BIG, length=1300))
        assert house.plane.attachment("t1").parameters.path_mtu is None
        assert len(house.kernel.asked) == asked
        await house.daemon.stop()

    run(scenario())


def test_ipv6_inside_keeps_its_1280_bytes_and_that_is_told(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(addresses=["fd00::1/64"]))
        await told(house, replace(TOO_BIG, mtu=1000))
        parameters = house.plane.attachment("t1").parameters
        assert (parameters.mtu, parameters.path_mtu) == (1280, 976)
        assert "IPv6 inside needs 1280" in str(house.events[0].fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_a_path_below_what_is_believed_drops_dont_fragment(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        await told(house, replace(TOO_BIG, mtu=400))
        parameters = house.plane.attachment("t1").parameters
        assert not parameters.dont_fragment
        assert parameters.ignore_dont_fragment
        assert "may be fragmented" in str(house.events[0].fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_errors_that_are_not_believed_are_told(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.plane.report(ErrorIgnored(ROUTER, ErrorKind.TOO_BIG, "why", 10))
        (event,) = house.events
        assert (event.name, event.tunnel) == ("icmp_error_ignored", None)
        assert event.fields["count"] == 10
        await house.daemon.stop()

    run(scenario())


def test_a_refusal_is_a_state_with_a_sentence_and_blocks_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.plane.report(PROHIBITED)
        house.plane.report(PROHIBITED)
        (event,) = house.events
        assert (event.name, event.level) == ("tunnel_refused", "warning")
        assert str(event.fields["detail"]).startswith("a firewall at 198.51.100.1 refuses")
        assert house.daemon.status() == "1 tunnel: 1 refused"
        assert house.plane.attachment("t1").blocked is None
        await house.change()
        assert house.daemon.status() == "1 tunnel: 1 refused"
        house.kernel.no_route(REMOTE)
        await house.change()
        assert house.daemon.status() == "1 tunnel: 1 no_route", "what is nearer comes first"
        await house.daemon.stop()

    run(scenario())


def test_a_refusal_ends_when_packets_arrive(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.plane.report(PROHIBITED)
        attachment = house.plane.attachment("t1")
        attachment.moved = Traffic(sent=9, received=9)
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        assert house.names() == ["tunnel_refused", "tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_an_error_about_a_tunnel_that_is_gone_is_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        await house.daemon.remove_tunnel("t1")
        house.names()
        house.plane.report(PROHIBITED)
        house.plane.report(TOO_BIG)
        assert house.names() == []
        await house.daemon.stop()

    run(scenario())
