"""What the underlay says of outer packets, and what the daemon makes of it, among fakes."""

from dataclasses import replace
from ipaddress import ip_address

from gred.config.model import TunnelConfig
from gred.control.paths import RouteInfo
from gred.control.tunnel import TunnelState
from gred.dataplane.forwarder import UnderlayError
from gred.dataplane.traffic import Traffic
from gred.wire.icmp import ErrorKind
from tests.control.conftest import Run
from tests.control.fakes import REMOTE, WIRE, House, tunnel, until

ROUTER = ip_address("198.51.100.1")
PROHIBITED = UnderlayError("t1", ErrorKind.PROHIBITED, ROUTER)
TOO_BIG = UnderlayError("t1", ErrorKind.TOO_BIG, ROUTER, 1300)
LEARNED = RouteInfo(WIRE, 1500, path_mtu=1300, expires=500.0)


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


def test_the_tunnel_follows_what_the_kernel_has_learned(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(output_key=1))
        house.kernel.routes[ip_address(REMOTE)] = LEARNED
        await told(house, TOO_BIG)
        port = house.plane.port("t1")
        assert (port.parameters.mtu, port.parameters.path_mtu) == (1272, 1272)
        assert house.kernel.mtus[port.device.index] == 1272
        changed = house.events[0]
        assert changed.fields == {"path_mtu": 1300, "before": 1500, "detail": ""}
        assert house.names() == ["path_mtu_changed", "mtu_changed"]
        house.kernel.route_outside(REMOTE)
        await house.change()
        assert (port.parameters.mtu, port.parameters.path_mtu) == (1472, None)
        assert house.names() == ["path_mtu_changed", "mtu_changed"]
        await house.daemon.stop()

    run(scenario())


def test_it_looks_again_when_the_kernel_may_have_forgotten(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.routes[ip_address(REMOTE)] = replace(LEARNED, expires=0.01)
        await told(house, TOO_BIG)
        house.kernel.route_outside(REMOTE)
        await until(lambda: house.plane.port("t1").parameters.mtu == 1476)
        await house.daemon.stop()

    run(scenario())


def test_a_configured_mtu_stays_and_the_data_plane_knows_the_path(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(mtu=1476))
        house.kernel.routes[ip_address(REMOTE)] = LEARNED
        await told(house, TOO_BIG)
        parameters = house.plane.port("t1").parameters
        assert (parameters.mtu, parameters.path_mtu) == (1476, 1276)
        (changed,) = house.events
        assert "MTUBytes=1476 stays" in str(changed.fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_what_the_kernel_cannot_learn_is_remembered_here(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        await told(house, TOO_BIG)
        assert house.plane.port("t1").parameters.path_mtu == 1276
        await house.daemon.stop()

    run(scenario())


def test_ipv6_inside_keeps_its_1280_bytes_and_that_is_told(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(addresses=["fd00::1/64"]))
        house.kernel.routes[ip_address(REMOTE)] = replace(LEARNED, path_mtu=1000)
        await told(house, TOO_BIG)
        parameters = house.plane.port("t1").parameters
        assert (parameters.mtu, parameters.path_mtu) == (1280, 976)
        assert "IPv6 inside needs 1280" in str(house.events[0].fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_a_path_below_what_the_kernel_believes_drops_dont_fragment(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.routes[ip_address(REMOTE)] = replace(LEARNED, path_mtu=552, locked=True)
        await told(house, TOO_BIG)
        parameters = house.plane.port("t1").parameters
        assert not parameters.dont_fragment
        assert parameters.ignore_dont_fragment
        assert "may be fragmented" in str(house.events[0].fields["detail"])
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
        assert house.plane.port("t1").blocked is None
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
        port = house.plane.port("t1")
        port.moved = Traffic(sent=9, received=9)
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
