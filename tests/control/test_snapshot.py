"""What is known of a tunnel, whatever has become of it."""

from dataclasses import replace

import pytest

from gred.control.tunnel import TunnelState
from tests.control.conftest import Run
from tests.control.fakes import REMOTE, House, tunnel


def test_what_is_configured_is_known_before_it_is_there(run: Run) -> None:
    async def scenario() -> None:
        house = House((replace(tunnel("t1"), keepalive=10.0), tunnel("t2", output_key=2)))
        assert house.daemon.names() == ["t1", "t2"]
        early = house.daemon.snapshot("t1")
        assert (early.state, early.since, early.transitions) == (TunnelState.DOWN, None, 0)
        assert [(one.remote, one.life) for one in early.keepalives] == [(str(REMOTE), "down")]
        assert house.daemon.snapshot("t2").keepalives == ()
        with pytest.raises(KeyError):
            house.daemon.snapshot("t3")
        await house.daemon.start()
        await house.daemon.add_tunnel(tunnel("t3", output_key=3))
        assert house.daemon.names() == ["t1", "t2", "t3"]
        await house.daemon.stop()
        assert house.daemon.names() == ["t1", "t2"]

    run(scenario())


def test_changes_of_state_are_counted(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        await house.daemon.start()
        up = house.daemon.snapshot("t1")
        assert (up.state, up.transitions, up.tx_packets) == (TunnelState.UP, 1, 1)
        await house.daemon.stop()
        # What it has counted is not forgotten with its interface.
        assert house.daemon.snapshot("t1").tx_packets == 1

    run(scenario())


def test_a_tunnel_that_is_made_anew_is_known_in_between(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        await house.daemon.start()
        before = house.daemon.snapshot("t1")
        await house.daemon.remove_tunnel("t1")
        between = house.daemon.snapshot("t1")
        assert between.state is TunnelState.DOWN
        assert between.mtu == replace(before.mtu, route=None)
        await house.daemon.stop()

    run(scenario())
