"""Bringing up, taking down, and being interrupted, among fakes."""

import asyncio
import errno
from ipaddress import ip_address

import pytest

from gred.control import slices
from gred.control.errors import ExitCode, SetupError
from gred.control.lifecycle import AT_ONCE
from gred.control.tunnel import TunnelState
from gred.dataplane.plane import PeerClaimed, PeerLearned, Report
from gred.wire.drop import DropReason
from tests.control.conftest import Run
from tests.control.fakes import OTHER_REMOTE, REMOTE, House, tunnel
from tests.waiting import until


def test_start_brings_up_and_stop_leaves_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1", addresses=["10.0.0.1/24"]), tunnel("t2", output_key=3)))
        await house.daemon.start()
        assert house.monitor.opened
        assert house.daemon.status() == "2 tunnels: 2 up"
        assert house.plane.attachment("t1").parameters.mtu == 1476
        assert house.plane.attachment("t2").parameters.mtu == 1472
        assert [settings.mtu for settings in house.kernel.settings.values()] == [1476, 1472]
        assert house.names() == ["tunnel_up", "tunnel_up"]
        await house.daemon.stop()
        assert house.nothing_is_left()
        assert house.plane.closed
        assert house.monitor.closed
        assert house.names() == ["tunnel_down", "tunnel_down"]
        assert house.kernel.deletions == [["t1", "t2"]]
        await house.daemon.stop()

    run(scenario())


def test_an_empty_configuration_is_served(run: Run) -> None:
    async def scenario() -> None:
        house = House()
        await house.daemon.start()
        assert house.daemon.status() == "no tunnels configured"
        (event,) = house.events
        assert (event.name, event.level) == ("no_tunnels", "warning")
        await house.daemon.stop()

    run(scenario())


def test_stop_without_start_is_harmless(run: Run) -> None:
    async def scenario() -> None:
        await House().daemon.stop()

    run(scenario())


def test_facts_and_counters_are_those_of_the_data_plane(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        await house.daemon.start()
        assert house.daemon.facts() == {"tunnels": 1, "codec": "fake", "packet_socket": "yes"}
        counters = dict(house.daemon.counters())
        assert counters[None].rx_drops == {DropReason.NO_TUNNEL: 5}
        assert counters["t1"].tx_packets == 1
        await house.daemon.stop()
        assert dict(house.daemon.counters())["t1"].tx_packets == 1, (
            "the last summary comes at the end"
        )

    run(scenario())


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EPERM])
def test_no_devices_at_all_fail_the_start_and_nothing_is_left(run: Run, number: int) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        house.kernel.open_errors["t2"] = number
        with pytest.raises(SetupError, match="cannot open /dev/net/tun"):
            await house.daemon.start()
        assert house.nothing_is_left()
        assert house.names() == []
        await house.daemon.stop()

    run(scenario())


def test_a_capability_that_lacks_fails_the_start_and_nothing_is_left(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        lacks = SetupError("cannot add address", ExitCode.NO_PERMISSION)
        house.kernel.refuses_settings["t2"] = lacks
        with pytest.raises(SetupError, match="cannot add address"):
            await house.daemon.start()
        assert house.nothing_is_left()

    run(scenario())


def test_a_refused_raw_socket_fails_the_start_with_its_code(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        house.plane.refuses["t2"] = PermissionError(errno.EPERM, "Operation not permitted")
        with pytest.raises(SetupError, match="CAP_NET_RAW") as caught:
            await house.daemon.start()
        assert caught.value.exit_code is ExitCode.NO_PERMISSION
        assert house.nothing_is_left()
        assert house.monitor.closed

    run(scenario())


def test_a_start_that_is_cancelled_leaves_nothing(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2")))
        house.kernel.hold.clear()
        starting = asyncio.ensure_future(house.daemon.start())
        await until(house.kernel.holding.is_set)
        starting.cancel()
        await asyncio.sleep(0)
        house.kernel.hold.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert len(house.kernel.devices) == 2
        assert house.nothing_is_left()
        await house.daemon.stop()

    run(scenario())


def test_tunnels_come_and_go_while_others_run(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        await house.daemon.start()
        await house.daemon.add_tunnel(tunnel("t2"))
        assert house.daemon.status() == "2 tunnels: 2 up"
        await house.daemon.remove_tunnel("t1")
        assert list(house.daemon.tunnels) == ["t2"]
        assert house.plane.attachment("t1").removed
        assert not house.plane.attachment("t2").removed
        with pytest.raises(KeyError):
            await house.daemon.remove_tunnel("t1")
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_tunnel_that_cannot_be_added_does_not_disturb_the_others(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        await house.daemon.start()
        house.kernel.open_errors["t2"] = errno.EBUSY
        await house.daemon.add_tunnel(tunnel("t2"))
        assert house.daemon.status() == "2 tunnels: 1 down, 1 up"
        assert not house.plane.attachment("t1").removed
        await house.daemon.stop()

    run(scenario())


def test_a_tunnel_is_not_added_twice(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        await house.daemon.start()
        with pytest.raises(SetupError, match="it is there already"):
            await house.daemon.add_tunnel(tunnel())
        assert house.daemon.status() == "1 tunnel: 1 up"
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_a_remote_routed_into_its_tunnel_starts_blocked(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE)))
        # As an address or a route of t1 would do.
        house.kernel.after_configuration = lambda: house.kernel.route_into(REMOTE, "t1")
        await house.daemon.start()
        assert house.plane.attachment("t1").blocked is DropReason.DEAD_LOOP
        assert house.plane.attachment("t2").blocked is None
        assert house.daemon.tunnels["t1"].state is TunnelState.LOOP
        assert house.plane.attachment("t1").parameters.mtu == 1476
        assert house.names() == ["tunnel_loop", "tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_a_report_of_the_data_plane_becomes_an_event(run: Run) -> None:
    async def scenario() -> None:
        house = House()
        source, destination = ip_address("192.0.2.7"), ip_address("192.0.2.1")
        house.plane.report(Report(None, DropReason.KEY_MISMATCH, source, destination, 42, "seen"))
        (event,) = house.events
        assert (event.name, event.tunnel) == ("packet_refused", None)
        assert event.fields["reason"] == "key_mismatch"
        assert event.fields["key"] == 42
        house.plane.report(Report("t1", DropReason.OTHER, None, None, None, "seen"))
        assert house.events[-1].fields == {"reason": "other", "detail": "seen"}

    run(scenario())


def test_how_far_start_and_stop_are_is_told_while_they_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From turn to turn of the loop: nobody hears of what is done in one."""
    monkeypatch.setattr(slices, "SLICE", 0.0)  # each tunnel is a slice

    async def scenario() -> None:
        count = 3 * AT_ONCE
        house = House(tuple(tunnel(f"t{number}") for number in range(count)))
        told: list[str] = []

        async def listen() -> None:
            while True:
                told.append(house.daemon.progress())
                await asyncio.sleep(0)

        listening = asyncio.ensure_future(listen())
        await house.daemon.start()
        started = set(told)
        assert f"{AT_ONCE} of {count} tunnels configured" in started
        assert f"{count // 2} of {count} tunnels up" in started
        assert house.daemon.progress() == f"{count} of {count} tunnels up"
        told.clear()
        await house.daemon.stop()
        listening.cancel()
        assert f"{AT_ONCE} of {count} tunnels let go" in told
        assert house.daemon.progress() == f"{count} of {count} tunnels deleted"

    run(scenario())


def test_what_peers_teach_becomes_events(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(),))
        await house.daemon.start()
        inner, here, there = map(ip_address, ("10.0.0.2", "192.0.2.7", "192.0.2.8"))
        house.plane.report(PeerLearned("t1", inner, here))
        house.plane.report(PeerLearned("t1", inner, there, before=here))
        house.plane.report(PeerClaimed("t1", inner, there, claimant=here))
        learned, moved, claimed = house.events[-3:]
        assert (learned.name, learned.fields) == ("peer_learned", {"inner": inner, "remote": here})
        assert (moved.name, moved.fields["before"]) == ("peer_moved", here)
        assert (claimed.name, claimed.level) == ("peer_claimed", "warning")
        assert (claimed.fields["remote"], claimed.fields["claimant"]) == (there, here)
        await house.daemon.stop()

    run(scenario())
