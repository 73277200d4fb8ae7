"""What somebody does to an interface, and what this host refuses, among fakes."""

import asyncio
from dataclasses import replace
from ipaddress import ip_interface
from typing import TYPE_CHECKING

import pytest

from gred.config.model import TunnelConfig
from gred.control import denial
from gred.control import denials as module
from gred.control.denials import Denials
from gred.control.survey import Observation
from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.punt import Report
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason
from tests.control.conftest import Run
from tests.control.fakes import FakeAttachment, FakeDevice, FakeKernel, House, tunnel
from tests.waiting import until

if TYPE_CHECKING:
    from gred.control.events import Event

ADDRESS, ROUTE = "10.9.1.1/24", "10.99.1.0/24"
DENIED = Report("t1", DropReason.DENIED, None, None, None, "EPERM")


async def started(*tunnels: TunnelConfig) -> House:
    house = House(tunnels)
    await house.daemon.start()
    house.names()
    return house


def test_an_interface_that_was_set_down_is_disabled_until_it_is_up(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(addresses=[ADDRESS], routes=[ROUTE]))
        house.kernel.state("t1").set_down()
        await house.change()
        await house.change()
        assert house.daemon.status() == "1 tunnel: 1 disabled"
        assert house.names() == ["tunnel_disabled"]
        house.kernel.state("t1").set_up()
        await house.change()
        assert [event.fields.get("detail") for event in house.events] == [
            f"route {ROUTE} was missing: put back",
            None,
        ]
        assert house.names() == ["repaired", "tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_with_repair_switched_off_what_is_missing_is_only_told(run: Run) -> None:
    """As it becomes more, and not again."""

    async def scenario() -> None:
        config = replace(tunnel(addresses=[ADDRESS], routes=[ROUTE]), repair=False)
        house = await started(config)
        state = house.kernel.state("t1")
        ordered = len(state.ordered)
        state.take(ROUTE)
        await house.change()
        await house.change()
        state.take(ADDRESS)
        state.set_mtu(1300)
        await house.change()
        assert house.daemon.status() == "1 tunnel: 1 incomplete"
        assert [event.fields["detail"] for event in house.events] == [
            f"route {ROUTE} is missing",
            f"address {ADDRESS} is missing, route {ROUTE} is missing, the MTU is 1300, not 1476",
        ]
        assert house.names() == ["tunnel_incomplete"] * 2
        assert len(state.ordered) == ordered
        state.give(ADDRESS, ROUTE)
        state.set_mtu(1476)
        await house.change()
        assert house.names() == ["tunnel_up"]
        await house.daemon.stop()

    run(scenario())


def test_the_mtu_that_gred_changes_itself_is_not_somebody_elses(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.kernel.route_outside("192.0.2.2", 1400)
        await house.change()
        assert house.names() == ["mtu_changed"]
        house.kernel.state("t1").set_mtu(1300)
        await house.change()
        assert house.events[0].fields["detail"] == "the MTU was 1300, not 1376: put back"
        assert house.names() == ["repaired"]
        assert house.kernel.state("t1").mtu == 1376
        await house.daemon.stop()

    run(scenario())


def test_an_interface_that_was_moved_is_not_compared(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel(addresses=[ADDRESS]))
        index = house.kernel.devices[0].index
        del house.kernel.interfaces[index]
        house.kernel.elsewhere.add(index)
        await house.change()
        assert house.names() == []
        await house.daemon.stop()

    run(scenario())


def test_an_address_that_another_interface_has_is_told_at_start(run: Run) -> None:
    async def scenario() -> None:
        house = House((tunnel(addresses=[ADDRESS]), tunnel("t2", addresses=["10.8.0.1/24"])))
        house.kernel.on_link = {
            "eth0": [ip_interface("10.9.1.7/24")],
            "t2": [ip_interface("10.8.0.1/24")],
        }
        await house.daemon.start()
        (event,) = [event for event in house.events if event.name == "address_shared"]
        assert (event.level, event.tunnel) == ("warning", "t1")
        assert str(event.fields["detail"]).startswith("interface eth0 has 10.9.1.0/24 on its link")
        await house.daemon.stop()

    run(scenario())


class Counting(FakeAttachment):
    """An attachment that has sent and been denied what a test says."""

    sent = denied = 0

    def counters(self) -> Counters:
        return Counters(self.sent, 0, 0, 0, {DropReason.DENIED: self.denied}, {})


def counting(name: str) -> tuple[Tunnel, Counting]:
    one = Tunnel(tunnel(name))
    one.device = FakeDevice(FakeKernel(), name, 10)
    attachment = one.attachment = Counting(one.device, one.parameters())
    one.observe(Observation())
    return one, attachment


def test_a_report_of_the_data_plane_leads_to_a_denial(run: Run) -> None:
    async def scenario() -> None:
        house = await started(tunnel())
        house.plane.report(DENIED)
        assert house.daemon.tunnels["t1"].denial.is_open
        assert house.names() == ["packet_refused"]
        await house.daemon.stop()

    run(scenario())


def test_many_denied_tunnels_are_looked_at_by_turns(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        tunnels: dict[str, Tunnel] = {}
        attachments = []
        for number in range(300):
            one, attachment = counting(f"t{number}")
            tunnels[one.name] = one
            attachments.append(attachment)
        events: list[Event] = []
        denials = Denials(loop, tunnels, events.append)
        for name in tunnels:
            denials.take(name, "EPERM")
        denials.take("unknown", "EPERM")
        denials.take(None, "EPERM")
        for attachment in attachments:
            attachment.denied = 2
        await until(lambda: len(events) == 300)
        assert {event.name for event in events} == {"tunnel_denied"}
        for attachment in attachments:
            attachment.sent = 1
        await until(lambda: len(events) == 600)
        assert {one.state for one in tunnels.values()} == {TunnelState.UP}
        denials.close()

    monkeypatch.setattr(module, "CHECK_EVERY", 0.05)
    monkeypatch.setattr(denial, "GRACE", 0.05)
    run(scenario())


def test_a_refusal_by_others_outweighs_what_is_missing() -> None:
    one, _attachment = counting("t1")
    one.upkeep.sentence = "route 10.99.1.0/24 is missing"
    seen = Observation()
    states = []
    for sentence in ("a firewall at 192.0.2.9 refuses protocol 47", ""):
        one.refusal.sentence = sentence
        one.observe(seen)
        states.append(one.state)
    assert states == [TunnelState.REFUSED, TunnelState.INCOMPLETE]
