"""Two tunnels for one packet: one has it, the other says so and waits."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.config.model import IPAddress, TunnelConfig
from gred.control.kernel.routes import NoRoute, RouteInfo
from gred.control.survey import Observation
from gred.control.tunnel import Tunnel, TunnelState
from gred.control.twins import claim, later_ones
from tests.control.conftest import Run
from tests.control.fakes import LOCAL, OTHER_REMOTE, WIRE, House, tunnel

OWN, MOVED = ip_address(LOCAL), ip_address("192.0.2.77")
NOWHERE = ip_address("192.0.0.8")


def following(name: str, interface: str = "eth0") -> TunnelConfig:
    return replace(tunnel(name, local=None), local_interface=interface, input_key=None)


def test_the_first_stays() -> None:
    claims = [(name, claim(tunnel("t1"), OWN)) for name in ("a", "b", "c")]
    assert later_ones(claims) == {"b": "a", "c": "a"}


@pytest.mark.parametrize(
    ("other", "local"),
    [
        (tunnel("t1"), MOVED),
        (tunnel("t1"), None),
        (tunnel("t1", remote=OTHER_REMOTE), OWN),
        (tunnel("t1", remote=None), OWN),
        (replace(tunnel("t1"), input_key=0), OWN),
    ],
)
def test_what_differs_is_no_twin(other: TunnelConfig, local: IPAddress | None) -> None:
    assert later_ones([("a", claim(tunnel("t1"), OWN)), ("b", claim(other, local))]) == {}


def test_checksums_and_numbers_do_not_tell_tunnels_apart() -> None:
    other = replace(tunnel("t1", output_key=9), input_checksum="require", input_sequence=True)
    assert later_ones([("a", claim(tunnel("t1"), OWN)), ("b", claim(other, OWN))]) == {"b": "a"}


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    house.kernel.addresses |= {MOVED}
    house.kernel.given = {WIRE: [OWN]}
    await house.daemon.start()
    return house


def locals_of(house: House) -> dict[str, IPAddress | None]:
    return {name: house.plane.attachment(name).parameters.local for name in house.daemon.tunnels}


def test_the_later_is_held_down_at_start_and_says_what_helps(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel("t1"), following("t2"))
        assert house.daemon.status() == "2 tunnels: 1 up, 1 twin"
        assert locals_of(house) == {"t1": OWN, "t2": NOWHERE}
        (event,) = [event for event in house.events if event.name == "tunnel_twin"]
        assert (event.level, event.tunnel) == ("warning", "t2")
        assert event.fields["detail"] == (
            "[Tunnel t1] takes the same packets (local 192.0.2.1, remote 192.0.2.2, no key):"
            " give one of them another Local=, Remote= or Key="
        )
        await house.daemon.stop()

    run(scenario())


def test_it_takes_over_when_the_conflict_ends_and_gives_way_when_it_comes_back(run: Run) -> None:
    async def scenario() -> None:
        house = await started(following("t1"), tunnel("t2"))
        house.kernel.interfaces[WIRE] = "eth0"
        house.daemon.tunnels["t2"].config = replace(tunnel("t2"), input_key=None)
        house.daemon.tunnels["t2"].stale = True
        await house.change()
        assert locals_of(house) == {"t1": OWN, "t2": NOWHERE}
        house.names()
        house.kernel.given = {WIRE: [MOVED]}
        await house.change()
        assert locals_of(house) == {"t1": MOVED, "t2": OWN}
        assert house.names() == ["local_changed", "tunnel_up"]
        house.kernel.given = {WIRE: [OWN]}
        await house.change()
        assert locals_of(house) == {"t1": OWN, "t2": NOWHERE}
        assert house.names() == ["local_changed", "tunnel_twin"]
        await house.change()
        assert house.names() == []
        await house.daemon.stop()

    run(scenario())


def test_who_lost_the_address_has_no_right_to_it(run: Run) -> None:
    """It keeps the address while there is no other; but another tunnel has it now."""

    async def scenario() -> None:
        house = await started(following("t1"), following("t2", "eth1"))
        house.kernel.interfaces[3] = "eth1"
        house.kernel.given = {3: [MOVED], WIRE: [OWN]}
        await house.change()
        assert locals_of(house) == {"t1": OWN, "t2": MOVED}
        house.kernel.given = {3: [OWN]}
        await house.change()
        assert locals_of(house) == {"t1": NOWHERE, "t2": OWN}
        assert house.daemon.status() == "2 tunnels: 1 up, 1 no_local"
        await house.daemon.stop()

    run(scenario())


def test_the_source_that_the_kernel_chose_is_told_and_when_it_changes() -> None:
    one = Tunnel(tunnel(local=None))
    (up,) = one.observe(Observation(route=RouteInfo(WIRE, 1500, prefsrc=OWN)))
    assert (up.fields["local"], up.fields["source"]) == ("any", LOCAL)
    (changed,) = one.observe(Observation(route=RouteInfo(WIRE, 1500, prefsrc=MOVED)))
    assert changed.name == "source_changed"
    assert changed.fields == {"source": str(MOVED), "before": LOCAL}
    one.observe(Observation(route=NoRoute("Network is unreachable")))
    (up,) = one.observe(Observation(route=RouteInfo(WIRE, 1500, prefsrc=MOVED)))
    assert (up.name, up.fields["source"]) == ("tunnel_up", str(MOVED))
    assert one.state is TunnelState.UP


def test_a_given_local_address_has_no_chosen_source() -> None:
    (up,) = Tunnel(tunnel()).observe(Observation(route=RouteInfo(WIRE, 1500, prefsrc=MOVED)))
    assert "source" not in up.fields
