"""What the paths of a tunnel with many remotes carry, among fakes."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gred.config.model import TunnelConfig
from gred.control import peer_paths
from gred.control.tunnel import TunnelState
from gred.dataplane.plane import UnderlayError
from gred.wire.icmp import ErrorKind
from tests.control.conftest import Run
from tests.control.fakes import House, tunnel
from tests.waiting import until

ROUTER = ip_address("198.51.100.1")
NEAR, FAR = ip_address("192.0.2.2"), ip_address("192.0.2.3")
TOO_BIG = UnderlayError("t1", ErrorKind.TOO_BIG, ROUTER, 1300, 1500, is_proven=True, remote=FAR)


def hub(*, mtu: int | None = None) -> TunnelConfig:
    peers = ((ip_network("10.0.0.2/32"), NEAR), (ip_network("10.0.0.3/32"), FAR))
    return replace(tunnel(remote=None, mtu=mtu), peers=peers)


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    await house.daemon.start()
    house.names()
    return house


def test_one_path_is_lowered_for_a_while_and_the_interface_stays(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub())
        house.kernel.mtu_lifetime = 0.1
        house.plane.report(TOO_BIG)
        attachment = house.plane.attachment("t1")
        assert attachment.paths == {FAR: (1276, False)}
        assert (attachment.parameters.mtu, attachment.parameters.path_mtu) == (1476, None)
        (changed,) = house.events
        assert changed.fields == {
            "remote": str(FAR),
            "path_mtu": 1300,
            "before": 1500,
            "detail": "inner packets above 1276 are cut or refused",
        }
        assert house.names() == ["path_mtu_changed"]
        await until(lambda: attachment.paths == {FAR: (None, False)})
        (changed,) = house.events
        assert (changed.fields["path_mtu"], changed.fields["before"]) == (1500, 1300)
        await house.daemon.stop()

    run(scenario())


def test_what_anybody_could_have_said_lowers_in_steps(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub())
        attachment = house.plane.attachment("t1")
        doubtful = replace(TOO_BIG, mtu=600, is_proven=False)
        for _ in range(3):
            house.plane.report(doubtful)
        assert attachment.paths == {FAR: (1256, False)}
        house.plane.report(replace(doubtful, length=1280))
        assert attachment.paths == {FAR: (576, False)}
        house.plane.report(replace(doubtful, remote=NEAR, length=600))
        assert NEAR not in attachment.paths
        await house.daemon.stop()

    run(scenario())


def test_a_path_below_what_is_believed_gets_fragments(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub())
        house.plane.report(replace(TOO_BIG, mtu=400))
        attachment = house.plane.attachment("t1")
        assert attachment.paths == {FAR: (528, True)}
        assert attachment.parameters.dont_fragment
        assert "may be fragmented" in str(house.events[0].fields["detail"])
        await house.daemon.stop()

    run(scenario())


def test_no_more_paths_are_remembered_than_there_is_room_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer_paths, "PATHS_AT_MOST", 2)

    async def scenario() -> None:
        house = await started(hub())
        attachment = house.plane.attachment("t1")
        third = ip_address("192.0.2.4")
        for remote, mtu in ((NEAR, 1300), (FAR, 1300), (NEAR, 1290), (third, 1300)):
            house.plane.report(replace(TOO_BIG, remote=remote, mtu=mtu))
        assert attachment.paths == {NEAR: (1266, False), FAR: (None, False), third: (1276, False)}
        await house.daemon.stop()

    run(scenario())


def test_other_errors_about_one_remote_say_nothing_of_the_tunnel(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub())
        house.plane.report(replace(TOO_BIG, kind=ErrorKind.PROHIBITED))
        assert house.names() == []
        assert house.daemon.tunnels["t1"].state is TunnelState.UP
        assert not house.daemon.tunnels["t1"].refusal.is_open
        await house.daemon.stop()

    run(scenario())


def test_a_tunnel_that_is_made_anew_knows_nothing_of_the_paths_before(run: Run) -> None:
    async def scenario() -> None:
        house = await started(hub())
        house.plane.report(TOO_BIG)
        tunnel_now = house.daemon.tunnels["t1"]
        before = tunnel_now.attachment
        house.kernel.interfaces.pop(house.plane.attachment("t1").device.index)
        await house.change()
        await until(
            lambda: tunnel_now.attachment is not None and tunnel_now.attachment is not before
        )
        house.plane.report(replace(TOO_BIG, mtu=1400))
        assert house.plane.attachment("t1").paths == {FAR: (1376, False)}
        await house.daemon.stop()

    run(scenario())
