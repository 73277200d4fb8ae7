"""Keeping in step with a kernel that changes, among fakes."""

import asyncio
import errno
from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.config.model import TunnelConfig
from gred.control.errors import SetupError
from gred.control.events import Event
from gred.control.survey import Observation
from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.plane import DeviceLost
from gred.wire.drop import DropReason
from tests.control.conftest import Run
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, House, tunnel
from tests.waiting import until


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    await house.daemon.start()
    house.names()
    return house


def test_a_loop_blocks_is_told_once_and_recovers(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.route_into(REMOTE, "t1")
        await house.change()
        await house.change()
        assert house.plane.attachment("t1").blocked is DropReason.DEAD_LOOP
        assert house.names() == ["tunnel_loop"]
        assert house.daemon.status() == "1 tunnel: 1 loop"
        house.kernel.route_outside(REMOTE)
        await house.change()
        assert house.plane.attachment("t1").blocked is None
        assert house.names() == ["tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_a_loop_does_not_shrink_the_mtu(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.route_into(REMOTE, "t1")
        for _ in range(3):
            await house.change()
        assert house.plane.attachment("t1").parameters.mtu == 1476
        await house.daemon.stop()

    run(scenario())


def test_a_loop_through_another_tunnel_blocks_both(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE))
        house.kernel.route_into(REMOTE, "t2")
        await house.change()
        assert house.plane.attachment("t1").blocked is None
        house.kernel.route_into(OTHER_REMOTE, "t1")
        await house.change()
        assert house.plane.attachment("t1").blocked is DropReason.DEAD_LOOP
        assert house.plane.attachment("t2").blocked is DropReason.DEAD_LOOP
        await house.daemon.stop()

    run(scenario())


def test_no_route_is_told_and_does_not_block(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.no_route(REMOTE)
        await house.change()
        assert house.names() == ["tunnel_no_route"]
        assert house.plane.attachment("t1").blocked is None
        house.kernel.route_outside(REMOTE)
        await house.change()
        assert house.names() == ["tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_the_mtu_follows_the_route(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE, mtu=1300))
        for remote in (REMOTE, OTHER_REMOTE):
            house.kernel.route_outside(remote, mtu=1400)
        await house.change()
        assert house.plane.attachment("t1").parameters.mtu == 1376
        assert house.kernel.state("t1").mtu == 1376
        assert house.plane.attachment("t2").parameters.mtu == 1300
        assert [(event.name, event.tunnel, dict(event.fields)) for event in house.events] == [
            ("mtu_changed", "t1", {"mtu": 1376, "before": 1476})
        ]
        await house.daemon.stop()

    run(scenario())


def test_a_refused_mtu_is_told_and_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gred.control.retry.FIRST", 0.01)

    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.refuses_mtus["t1"] = SetupError("cannot set MTU")
        house.kernel.route_outside(REMOTE, mtu=1400)
        await house.change()
        await house.change()
        assert house.daemon.tunnels["t1"].detail == "the MTU is 1476, not 1376: cannot set MTU"
        assert house.names() == ["mtu_changed", "tunnel_incomplete"], "it is told once"
        house.kernel.refuses_mtus.clear()
        house.monitor.fire()
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        assert house.kernel.state("t1").mtu == 1376
        await house.daemon.stop()

    run(scenario())


def test_a_local_address_may_go_and_come_back(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.addresses.clear()
        await house.change()
        assert house.names() == ["tunnel_no_local"]
        house.kernel.addresses.add(ip_address(LOCAL))
        await house.change()
        assert house.names() == ["tunnel_up"]
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_deleted_interface_is_made_again(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel("t1"), tunnel("t2"))
        first = house.plane.attachment("t1")
        del house.kernel.interfaces[first.device.index]
        house.monitor.fire()
        await until(lambda: house.plane.attachment("t1") is not first)
        assert first.removed
        assert first.device.closed
        assert house.names() == ["interface_deleted", "tunnel_up"]
        assert house.daemon.status() == "2 tunnels: 2 up"
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_deleted_interface_whose_name_is_taken_waits_for_the_name(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        first = house.plane.attachment("t1")
        del house.kernel.interfaces[first.device.index]
        house.kernel.open_errors["t1"] = errno.EBUSY
        await house.change()
        await until(lambda: bool(house.daemon.tunnels["t1"].detail))
        await house.change()
        assert house.names() == ["interface_deleted", "tunnel_down"]
        assert house.daemon.status() == "1 tunnel: 1 down"
        house.kernel.open_errors.clear()
        house.monitor.fire()
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        assert house.names() == ["tunnel_up"]
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_an_interface_that_moved_to_another_namespace_is_kept(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        attachment = house.plane.attachment("t1")
        house.kernel.elsewhere.add(attachment.device.index)
        del house.kernel.interfaces[attachment.device.index]
        house.kernel.route_outside(REMOTE, mtu=1400)
        await house.change()
        assert not attachment.removed
        assert house.names() == []
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_device_that_fails_to_be_read_is_made_again(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        first = house.plane.attachment("t1")
        house.plane.report(DeviceLost("t1", OSError(errno.EBADFD, "File descriptor in bad state")))
        await until(lambda: house.plane.attachment("t1") is not first)
        assert first.device.closed
        assert house.names() == ["interface_deleted", "tunnel_up"]
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_failed_survey_is_told_and_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gred.control.retry.FIRST", 0.01)

    async def scenario() -> None:
        house = await started(tunnel())
        full = OSError(errno.ENOBUFS, "No buffer space available")
        house.kernel.failures["routes_to"] = [full, full]
        house.kernel.no_route(REMOTE)
        house.monitor.fire()
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.NO_ROUTE)
        assert house.names() == ["survey_failed", "tunnel_no_route"]
        await house.daemon.stop()

    run(scenario())


def test_stop_during_a_survey_leaves_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        first = house.plane.attachment("t1")
        del house.kernel.interfaces[first.device.index]
        house.kernel.holding.clear()
        house.kernel.hold.clear()
        house.monitor.fire()
        await until(house.kernel.holding.is_set)

        stopping = asyncio.ensure_future(house.daemon.stop())
        await asyncio.sleep(0)
        house.kernel.hold.set()
        await stopping
        assert house.nothing_is_left()

    run(scenario())


def test_no_packet_passes_a_filter_by(run: Run) -> None:
    async def scenario() -> None:
        without = replace(tunnel("t2", remote=OTHER_REMOTE), packet_socket=False)
        house = await started(tunnel(), without)

        def used() -> list[bool]:
            return [house.plane.attachment(name).parameters.packet_socket for name in ("t1", "t2")]

        assert used() == [True, False]
        house.kernel.filters = {4: "netfilter rules"}
        await house.change()
        assert used() == [False, False]
        assert [(e.name, e.tunnel, e.fields) for e in house.events] == [
            (
                "packet_socket_changed",
                "t1",
                {"packet_socket": "no (netfilter rules)", "before": "yes"},
            )
        ]
        house.events.clear()
        house.kernel.filters = {}
        await house.change()
        assert used() == [True, False]
        assert [e.fields["packet_socket"] for e in house.events] == ["yes"]
        await house.daemon.stop()

    run(scenario())


def test_a_filter_is_told_with_the_tunnel_and_with_the_start(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        house.kernel.filters = {4: "cannot see iptables tables: Permission denied"}
        await house.daemon.start()
        expected = "no (cannot see iptables tables: Permission denied)"
        up = next(event for event in house.events if event.name == "tunnel_up")
        assert up.fields["packet_socket"] == expected
        assert house.daemon.facts()["packet_socket"] == expected
        assert not house.plane.attachment("t1").parameters.packet_socket
        await house.daemon.stop()

    run(scenario())


def test_a_tunnel_that_comes_up_late_tells_of_a_filter(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        house.kernel.no_route(REMOTE)
        await house.daemon.start()
        house.kernel.filters = {4: "netfilter rules"}
        house.kernel.routes.clear()
        await house.change()
        up = next(event for event in house.events if event.name == "tunnel_up")
        assert up.fields["packet_socket"] == "no (netfilter rules)"
        await house.daemon.stop()

    run(scenario())


def test_the_start_tells_of_tunnels_that_differ(run: Run) -> None:
    async def scenario() -> None:
        without = replace(tunnel("t2", remote=OTHER_REMOTE), packet_socket=False)
        house = await started(tunnel(), without)
        house.plane.attachment("t1").no_packet_socket = "Operation not permitted"
        told = house.daemon.facts()["packet_socket"]
        assert told == "1 no (Operation not permitted), 1 no (configured)"
        await house.daemon.stop()

    run(scenario())


def test_only_tunnels_whose_surroundings_have_changed_are_touched(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        house = await started(tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE), tunnel("t3"))
        touched: list[str] = []
        observe = Tunnel.observe

        def remember(self: Tunnel, seen: Observation) -> list[Event]:
            touched.append(self.name)
            return observe(self, seen)

        monkeypatch.setattr(Tunnel, "observe", remember)
        await house.change()
        assert touched == []
        house.kernel.no_route(OTHER_REMOTE)
        await house.change()
        assert touched == ["t2"]
        await house.change()
        assert touched == ["t2"]
        await house.daemon.stop()

    run(scenario())
