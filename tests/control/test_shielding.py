"""Tunnels that require IPsec, by a daemon on a kernel of memory: shut, and opened."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gred.control.kernel.xfrm import Policy, State, Tables, Template
from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from tests.control.fakes import OTHER_REMOTE, REMOTE, House, configuration, tunnel

GUARDED = replace(tunnel("t1"), ipsec="require")
THERE, OTHER = ip_address(REMOTE), ip_address(OTHER_REMOTE)


def protected(cipher: str = "aes-gcm-128") -> Tables:
    """Return tables in which GRE to and from REMOTE is protected."""

    def policy(*, outbound: bool) -> Policy:
        ends = ip_network("192.0.2.1"), ip_network(REMOTE)
        return Policy(
            outbound=outbound,
            priority=1,
            source=ends[not outbound],
            destination=ends[outbound],
            protocol=47,
            device=0,
            blocks=False,
            templates=(Template(THERE, packed=b"template"),),
        )

    state = State(ip_address("192.0.2.1"), THERE, cipher=cipher)
    return Tables((policy(outbound=True), policy(outbound=False)), associations=(state,))


def state(made: Tunnel) -> TunnelState:
    return made.state


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_it_is_shut_until_it_is_protected_and_shut_again() -> None:
    async def scenario() -> None:
        house = House((GUARDED,))
        await house.daemon.start()
        made = house.daemon.tunnels["t1"]
        assert state(made) is TunnelState.UNPROTECTED
        assert house.kernel.shields.keys() == {THERE}
        assert made.attachment is not None
        assert made.attachment.parameters.protection == b""
        house.kernel.tables, house.kernel.told[THERE] = protected(), 1466
        await house.change()
        assert state(made) is TunnelState.UP
        assert made.attachment.parameters.protection == b"template"
        assert made.mtu == 1466 - 24
        house.kernel.tables = protected("")
        await house.change()
        assert state(made) is TunnelState.UNPROTECTED
        assert made.attachment.parameters.protection == b""
        assert made.mtu == 1466 - 24, "it comes back"
        await house.daemon.stop()
        assert not house.kernel.shields

    run(scenario)


def test_the_mtu_follows_ipsec_without_being_required_to() -> None:
    async def scenario() -> None:
        house = House((tunnel("t1"),))
        house.kernel.tables, house.kernel.told[THERE] = protected(), 1466
        await house.daemon.start()
        made = house.daemon.tunnels["t1"]
        assert (made.state, made.mtu) == (TunnelState.UP, 1442)
        assert made.parameters().protection is None
        house.kernel.told[THERE] = 1458
        await house.change()
        assert made.mtu == 1434
        house.kernel.tables = Tables()
        await house.change()
        assert made.mtu == 1476
        assert not house.kernel.shields
        await house.daemon.stop()

    run(scenario)


def test_shields_follow_the_configuration_and_what_was_left_is_taken_over() -> None:
    async def scenario() -> None:
        house = House((GUARDED,))
        await house.daemon.start()
        own = house.kernel.shields[THERE]
        house.kernel.shields |= {OTHER: own, ip_address("192.0.2.99"): own ^ 1}
        await house.change()
        assert house.kernel.shields.keys() == {THERE, ip_address("192.0.2.99")}, "another gred's"
        house.kernel.shields.clear()
        await house.change()
        assert house.kernel.shields.keys() == {THERE}, "somebody flushed them"
        await house.daemon.reload(configuration(tunnel("t1")))
        assert not house.kernel.shields
        assert house.daemon.tunnels["t1"].parameters().protection is None
        await house.daemon.stop()

    run(scenario)


@pytest.mark.parametrize("code", [errno.EPERM, errno.EPROTONOSUPPORT])
def test_without_shields_it_stays_down(code: int) -> None:
    async def scenario() -> None:
        house = House((GUARDED, tunnel("t2", remote=OTHER_REMOTE)))
        house.kernel.failures["shield"] = [OSError(code, "no")]
        await house.daemon.start()
        made = house.daemon.tunnels["t1"]
        assert state(made) is TunnelState.DOWN
        assert "IPsec=require: cannot keep GRE from passing in clear: no" in made.detail
        assert house.daemon.tunnels["t2"].state is TunnelState.UP
        await house.daemon.stop()

    run(scenario)


def test_what_gred_itself_refuses_is_no_firewalls_denial() -> None:
    async def scenario() -> None:
        house = House((GUARDED,))
        await house.daemon.start()
        house.plane.report(Report("t1", DropReason.DENIED, None, None, None, "EPERM"))
        made = house.daemon.tunnels["t1"]
        assert not made.denial.is_open
        assert "no IPsec policy" in told(house, "packet_refused")[0]
        await house.daemon.stop()

    run(scenario)


def told(house: House, name: str) -> list[str]:
    return [str(event.fields.get("detail")) for event in house.events if event.name == name]
