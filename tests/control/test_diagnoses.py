"""Who asks what, and when: the tunnel is a real one, kernel and packets are made up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6

from gred.config.model import TunnelConfig
from gred.control import diagnoses, diagnosis
from gred.control.kernel import xfrm
from gred.control.kernel.routes import Hop
from gred.control.tunnel import TunnelState
from gred.dataplane.punt import Report
from gred.dataplane.traffic import Traffic
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason
from tests.control.conftest import Run
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, House, tunnel
from tests.waiting import until

HERE, THERE, ELSEWHERE = map(ip_address, (LOCAL, REMOTE, OTHER_REMOTE))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(diagnoses, "is_kept_away", lambda _remote, _seconds: False)
    monkeypatch.setattr(diagnoses, "kernel_mtu", lambda _parameters, _remote: 1500)


def count(made: House, name: str, sent: int, received: int) -> None:
    """Let the tunnel have counted so much."""
    attachment = made.plane.attachment(name)
    attachment.moved = Traffic(sent, received)
    attachment.counted = Counters(sent, 0, received, 0, {}, {})


@asynccontextmanager
async def house(*tunnels: TunnelConfig) -> AsyncIterator[House]:
    made = House(tunnels)
    await made.daemon.start()
    for one in tunnels:
        count(made, one.name, 0, 0)
    try:
        yield made
    finally:
        await made.daemon.stop()


def refused(
    reason: DropReason, source: object = THERE, key: int | None = None, name: str | None = None
) -> Report:
    assert isinstance(source, type(THERE))
    return Report(name, reason, source, HERE, key, "")


def test_what_is_refused_becomes_the_tunnels_state(run: Run) -> None:
    async def scenario() -> None:
        async with house(tunnel("t2")) as made:
            made.plane.report(refused(DropReason.KEY_MISMATCH, key=7, name="t2"))
            one = made.daemon.tunnels["t2"]
            await until(lambda: one.state is TunnelState.MISMATCH)
            assert "sends with key 7" in one.detail
            count(made, "t2", 1, 1)
            await until(lambda: one.state is TunnelState.UP)
            assert made.names()[-3:] == ["packet_refused", "tunnel_mismatch", "tunnel_up"]

    run(scenario())


def test_a_stranger_is_taken_for_the_only_one_that_it_may_be(run: Run) -> None:
    async def scenario() -> None:
        async with house(tunnel("t1"), tunnel("t2")) as made:
            made.plane.report(refused(DropReason.NO_TUNNEL, ELSEWHERE))
            one, other = made.daemon.tunnels["t1"], made.daemon.tunnels["t2"]
            await until(lambda: one.state is TunnelState.MISMATCH)
            assert f"Remote={OTHER_REMOTE} here" in one.detail
            assert other.state is TunnelState.UP

    run(scenario())


def test_what_may_be_meant_for_two_is_laid_to_neither(run: Run) -> None:
    async def scenario() -> None:
        second = replace(tunnel("t2"), input_key=None, remote=ip_address("192.0.2.77"))
        async with house(tunnel("t1"), second) as made:
            made.plane.report(refused(DropReason.NO_TUNNEL, ELSEWHERE))
            for name in ("t1", "t2"):
                assert not made.daemon.tunnels[name].diagnosis.is_open

    run(scenario())


@pytest.mark.parametrize(
    ("packet", "asks"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / UDP(), True),
        (IPv6(src="fd00::1", dst="fd00::2") / UDP(), True),
        (IP(src="10.0.0.1", dst="224.0.0.5") / UDP(), False),
        (IPv6(src="fe80::1", dst="fd00::2") / UDP(), False),
    ],
)
def test_what_arrives_and_is_not_answered_is_asked_about(
    run: Run, packet: IP | IPv6, *, asks: bool
) -> None:
    async def scenario() -> None:
        async with house(tunnel("t1")) as made:
            one = made.daemon.tunnels["t1"]
            assert one.device is not None
            made.kernel.drops[one.device.index] = "forwarding"
            count(made, "t1", 1, 1)
            await until(lambda: one.diagnosis.traffic == Traffic(1, 1))
            count(made, "t1", 1, 5)
            await until(lambda: bool(made.plane.samples))
            _attachment, take = made.plane.samples.pop()
            take(bytes(packet)[:64])
            if asks:
                await until(lambda: one.state is TunnelState.UNDELIVERED)
                assert "for no address of this host" in one.detail
            await asyncio.sleep(0)
            assert (one.state is TunnelState.UNDELIVERED) == asks

    run(scenario())


@pytest.mark.parametrize(
    ("packet", "says"),
    [
        (IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(), True),
        (IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(), True),
        (IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(type=0), False),
        (IP(src="10.0.0.1", dst="10.0.0.2") / UDP(), False),
        (IP(src="10.0.0.1", dst="10.0.0.3") / ICMP(), False),
    ],
)
def test_pings_that_are_delivered_and_not_answered(
    run: Run, monkeypatch: pytest.MonkeyPatch, packet: IP | IPv6, *, says: bool
) -> None:
    monkeypatch.setattr(diagnosis, "PING_AGAIN", 0.0)
    monkeypatch.setattr(diagnosis, "ASK_AGAIN", 0.0)

    async def scenario() -> None:
        async with house(tunnel("t1")) as made:
            one = made.daemon.tunnels["t1"]
            made.kernel.inner |= {ip_address("10.0.0.2"), ip_address("fd00::2")}
            count(made, "t1", 1, 1)
            await until(lambda: one.diagnosis.traffic == Traffic(1, 1))
            for received in (2, 3):
                count(made, "t1", 1, received)
                await until(lambda: bool(made.plane.samples))
                _attachment, take = made.plane.samples.pop()
                made.plane.samples.clear()
                take(bytes(packet)[:64])
            if says:
                await until(lambda: one.state is TunnelState.UNDELIVERED)
                assert "no answer leaves: a firewall of this host" in one.detail
            await asyncio.sleep(0)
            assert (one.state is TunnelState.UNDELIVERED) == says

    run(scenario())


def test_a_look_at_many_is_divided(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnoses, "_SLICE", 2)

    async def scenario() -> None:
        many = [tunnel(f"t{number}") for number in range(2, 9)]
        async with house(*many) as made:
            for one in many:
                count(made, one.name, 1, 1)
            await until(
                lambda: all(
                    one.diagnosis.traffic == Traffic(1, 1) for one in made.daemon.tunnels.values()
                )
            )

    run(scenario())


def test_what_ipsec_holds_back_is_denied_until_there_is_an_sa(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, mtu = [0], [xfrm.NO_STATE]
    monkeypatch.setattr(xfrm, "unsent", lambda: held[0])
    monkeypatch.setattr(diagnoses, "kernel_mtu", lambda _parameters, _remote: mtu[0])

    async def scenario() -> None:
        async with house(tunnel("t1")) as made:
            one = made.daemon.tunnels["t1"]
            for number in range(1, 1000):
                held[0] += 1
                count(made, "t1", number, number)
                await asyncio.sleep(0.01)
                if one.state is TunnelState.DENIED:
                    break
            assert "no SA yet" in one.detail
            mtu[0] = 1438
            await until(lambda: one.state is TunnelState.UP)

    run(scenario())


@pytest.mark.parametrize(
    ("hop", "named"),
    [
        (Hop(ELSEWHERE, answers=False), True),
        (Hop(ELSEWHERE, answers=None), False),
        (Hop(ELSEWHERE, answers=True), False),
    ],
)
def test_a_gateway_that_does_not_answer_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, hop: Hop, *, named: bool
) -> None:
    monkeypatch.setattr(diagnoses, "_HOP_EVERY", 0.001)

    async def scenario() -> None:
        async with house(tunnel("t1")) as made:
            one = made.daemon.tunnels["t1"]
            made.kernel.hops[ip_address(REMOTE)] = hop
            one.diagnosis.wants_opinion = True
            count(made, "t1", 5, 0)
            said = list[str]()
            monkeypatch.setattr(one.diagnosis, "second", said.append)
            await until(lambda: bool(said))
            assert ("does not answer ARP" in said[0]) == named

    run(scenario())
