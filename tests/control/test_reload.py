"""Another configuration: what is touched, what is not, and what becomes of it."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from gred.config.model import Config, TunnelConfig
from gred.control.kernel.parts import held, prefix
from gred.control.liveness import Life
from gred.control.reload import plan
from gred.control.tunnel import TunnelState
from tests.control.conftest import Run
from tests.control.fakes import OTHER_REMOTE, REMOTE, House, configuration, tunnel
from tests.waiting import until

ONE = tunnel("t1", addresses=["10.0.1.1/24"], routes=["10.1.0.0/16"])
PEERS = ((ip_network("10.0.0.0/8"), ip_address(REMOTE)),)
TWO = tunnel("t2", addresses=["10.0.2.1/24"])


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (replace(ONE, input_key=7, output_key=7), "changed"),
        (replace(ONE, remote=ip_address(OTHER_REMOTE)), "changed"),
        (replace(ONE, mtu=1400), "changed"),
        (replace(ONE, addresses=()), "changed"),
        (replace(ONE, keepalive=10.0), "changed"),
        (replace(ONE, remote=None, peers=PEERS), "changed"),
        (replace(ONE, mode="gretap"), "renewed"),
        (replace(ONE, offload=False), "renewed"),
        (replace(ONE, namespace="blue"), "renewed"),
        (replace(ONE, protocol=0x8847), "renewed"),
        (replace(ONE, local=None, remote=ip_address("2001:db8::2")), "renewed"),
        (replace(ONE, name="t9"), "removed"),
    ],
)
def test_the_plan(after: TunnelConfig, word: str) -> None:
    what = plan(configuration(ONE, TWO), configuration(after, TWO))
    assert what.steps[0].name == "t1"
    assert what.steps[0].word == word
    assert what.names("added") == (["t9"] if word == "removed" else [])
    assert all(step.name != "t2" for step in what.steps)


def test_a_plan_is_told() -> None:
    after = configuration(replace(ONE, input_key=7, output_key=7), tunnel("t3"))
    what = plan(configuration(ONE, TWO), after)
    assert list(map(str, what.steps)) == ["removed t2", "changed t1: Key=none -> 7", "added t3"]
    assert what.counts == {"added": 1, "removed": 1, "changed": 1}


def config(*tunnels: TunnelConfig) -> Config:
    return configuration(*tunnels)


def test_what_does_not_differ_is_not_touched(run: Run) -> None:
    async def scenario() -> None:
        house = House((ONE, TWO))
        await house.daemon.start()
        one, other = house.plane.attachment("t1"), house.plane.attachment("t2")
        house.names()
        await house.daemon.reload(config(replace(ONE, ttl=9), TWO))
        assert house.plane.attachment("t1") is one
        assert one.parameters.ttl == 9
        assert house.plane.attachment("t2") is other
        assert house.names() == ["tunnel_changed"]
        assert len(house.kernel.devices) == 2
        await house.daemon.reload(config(ONE, TWO, tunnel("t3")))
        assert house.names() == ["tunnel_up", "tunnel_changed"]
        await house.daemon.reload(config(tunnel("t3"), ONE))
        assert list(house.daemon.tunnels) == ["t3", "t1"]
        assert house.only_these_are_left({"t1", "t3"})
        await house.daemon.stop()
        assert house.nothing_is_left()

    run(scenario())


def test_what_cannot_change_is_made_anew(run: Run) -> None:
    async def scenario() -> None:
        house = House((ONE, TWO))
        await house.daemon.start()
        other = house.plane.attachment("t2")
        house.names()
        await house.daemon.reload(config(replace(ONE, offload=False), TWO))
        assert house.names() == ["tunnel_down", "tunnel_up"]
        assert house.plane.attachment("t2") is other
        assert house.only_these_are_left({"t1", "t2"})
        await house.daemon.stop()

    run(scenario())


def test_addresses_and_routes_follow(run: Run) -> None:
    async def scenario() -> None:
        house = House((ONE,))
        await house.daemon.start()
        device = house.daemon.tunnels["t1"].device
        assert device is not None
        changed = replace(
            ONE, addresses=(ip_interface("10.0.9.1/24"),), routes=(ip_network("10.2.0.0/16"),)
        )
        await house.daemon.reload(config(changed))
        actual = house.kernel.states[device.index]
        assert actual.addresses == [held(ip_interface("10.0.9.1/24"))]
        assert prefix(ip_network("10.2.0.0/16")) in actual.actual().routes
        assert prefix(ip_network("10.1.0.0/16")) not in actual.actual().routes
        assert house.daemon.tunnels["t1"].state is TunnelState.UP
        await house.daemon.stop()

    run(scenario())


def test_a_keepalive_that_begins_takes_no_carrier_away(run: Run) -> None:
    async def scenario() -> None:
        house = House((ONE,))
        await house.daemon.start()
        await house.daemon.reload(config(replace(ONE, keepalive=10.0)))
        one = house.daemon.tunnels["t1"]
        (life,) = one.lives.values()
        assert (one.state, life.life) == (TunnelState.UP, Life.UP)
        assert house.kernel.devices[-1].carrier
        await house.daemon.reload(config(replace(ONE, keepalive=5.0)))
        assert one.lives == {ip_address(REMOTE): life}
        assert life.interval == 5.0
        await house.daemon.reload(config(ONE))
        assert (one.lives, one.state) == ({}, TunnelState.UP)
        await house.daemon.stop()

    run(scenario())


def test_a_tunnel_that_is_down_follows_too(run: Run) -> None:
    async def scenario() -> None:
        house = House((ONE, TWO))
        house.plane.refuses["t1"] = OSError(12, "no")
        await house.daemon.start()
        assert house.daemon.tunnels["t1"].state is TunnelState.DOWN
        await house.daemon.reload(config(replace(ONE, ttl=9), TWO))
        del house.plane.refuses["t1"]
        house.monitor.fire()
        await until(lambda: house.daemon.tunnels["t1"].state is TunnelState.UP)
        assert house.plane.attachment("t1").parameters.ttl == 9
        await house.daemon.stop()

    run(scenario())
