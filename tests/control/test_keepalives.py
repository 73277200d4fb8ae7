"""Keepalives of a daemon among fakes: who is asked and answered, and what of the carrier."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from typing import ParamSpec

import pytest
from scapy.layers.inet import GRE, ICMP, IP
from scapy.packet import Raw

from gred.config.model import IPAddress, TunnelConfig
from gred.control.tunnel import TunnelState
from gred.dataplane.icmp_errors import UnderlayError
from gred.dataplane.layout import Transport
from gred.dataplane.punt import Punted
from gred.dataplane.traffic import Traffic
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_IPV4
from gred.wire.icmp import ErrorKind
from gred.wire.keepalive import read_answer, read_request
from tests.control.fakes import (
    LOCAL,
    OTHER_REMOTE,
    REMOTE,
    FakeAttachment,
    House,
    configuration,
    tunnel,
)
from tests.waiting import until

HERE, THERE, ELSEWHERE = map(ip_address, (LOCAL, REMOTE, OTHER_REMOTE))
SHORT = 0.05  # seconds
P = ParamSpec("P")


def asking(interval: float = SHORT, retries: int = 3, **options: object) -> TunnelConfig:
    config = replace(tunnel(), keepalive=interval, keepalive_retries=retries)
    return replace(config, **options)  # type: ignore[arg-type]


def on_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


@asynccontextmanager
async def house(*tunnels: TunnelConfig) -> AsyncIterator[House]:
    made = House(tunnels)
    await made.daemon.start()
    try:
        yield made
    finally:
        await made.daemon.stop()


def arrive(house: House, datagram: bytes, source: IPAddress, *, tunnel: str | None = "t1") -> None:
    """Let the data plane hand up a keepalive."""
    house.plane.punts.takers[DropReason.KEEPALIVE](
        Punted(
            tunnel=tunnel,
            reason=DropReason.KEEPALIVE,
            transport=Transport.IP,
            source=source,
            destination=HERE,
            tos=0,
            ttl=255,
            data=datagram,
            inner=0,
        )
    )


class Peer:
    """The other end: answers what the attachment of a fake plane was told to send."""

    def __init__(self, house: House, *, remote: str = REMOTE) -> None:
        self._house = house
        self._remote = ip_address(remote)
        self._seen = 0

    @property
    def attachment(self) -> FakeAttachment:
        return self._house.plane.attachment("t1")

    def answer(self) -> int:
        """Answer all requests that have not been answered; return how many."""
        new, self._seen = self.attachment.injected[self._seen :], len(self.attachment.injected)
        mine = [packet for _protocol, packet, remote in new if remote == self._remote]
        for packet in mine:
            request = read_request(packet)
            assert request is not None
            self.send(request.answer)
        return len(mine)

    def forget(self) -> None:
        """Answer nothing of what was asked until now."""
        self._seen = len(self.attachment.injected)

    def send(self, datagram: bytes) -> None:
        arrive(self._house, datagram, self._remote)


def state(house: House) -> tuple[TunnelState, bool]:
    one = house.daemon.tunnels["t1"]
    return one.state, house.kernel.devices[-1].carrier


def lines(house: House, name: str) -> list[str]:
    found = [str(event.fields.get("detail", "")) for event in house.events if event.name == name]
    house.events.clear()
    return found


@on_a_loop
async def test_without_keepalive_nothing_is_asked_and_the_carrier_stays() -> None:
    async with house(tunnel()) as one:
        assert state(one) == (TunnelState.UP, True)
        assert one.plane.attachment("t1").injected == []


@on_a_loop
async def test_the_first_request_leaves_at_once() -> None:
    async with house(asking(interval=10.0, input_key=42)) as one:
        await until(lambda: bool(one.plane.attachment("t1").injected))
        ((protocol, packet, remote),) = one.plane.attachment("t1").injected
        assert (protocol, remote) == (PROTOCOL_IPV4, THERE)
        request = read_request(packet)
        assert request is not None
        assert (request.source, request.destination) == (THERE, HERE)
        answer = read_answer(request.answer)
        assert answer is not None
        assert answer.key == 42, "the key that we require"


@on_a_loop
async def test_it_is_up_with_the_first_answer_and_not_before() -> None:
    async with house(asking(interval=10.0)) as one:
        peer = Peer(one)
        assert state(one) == (TunnelState.SILENT, False)
        assert "tunnel_up" not in one.names(), "nothing is said before there is something to say"
        await until(lambda: peer.answer() == 1)
        assert state(one) == (TunnelState.UP, True)
        assert one.names() == ["tunnel_up"]


@on_a_loop
async def test_silence_is_said_once_and_ends() -> None:
    async with house(asking()) as one:
        peer = Peer(one)
        await until(lambda: peer.answer() == 1)
        one.names()
        await until(lambda: state(one) == (TunnelState.SILENT, False))
        assert lines(one, "tunnel_silent") == [
            "192.0.2.2 has not answered a keepalive for 0.15 s, and nothing else arrives"
        ]
        peer.forget()
        await until(lambda: peer.answer() == 1)
        assert state(one) == (TunnelState.SILENT, False)
        assert lines(one, "tunnel_silent") == [
            "192.0.2.2 answers keepalives again, but not for long enough yet"
        ]
        await until(lambda: peer.answer() >= 0 and state(one) == (TunnelState.UP, True))
        assert one.names() == ["tunnel_up"]


@on_a_loop
async def test_who_never_answers_is_said_too() -> None:
    async with house(asking()) as one:
        await until(lambda: "tunnel_silent" in [event.name for event in one.events])
        assert lines(one, "tunnel_silent") == [
            "192.0.2.2 has not answered a keepalive for 0.15 s, and nothing else arrives"
        ]


@on_a_loop
async def test_packets_that_arrive_tell_another_story() -> None:
    async with house(asking()) as one:
        attachment = one.plane.attachment("t1")

        def is_silent() -> bool:
            attachment.moved = Traffic(0, attachment.moved.received + 1)
            return "tunnel_silent" in [event.name for event in one.events]

        await until(is_silent)
        (line,) = lines(one, "tunnel_silent")
        assert line.startswith("192.0.2.2 has not answered a keepalive for 0.15 s, ")
        assert line.endswith(
            "though packets arrive: ours are lost on their way, or it answers none"
        )


@on_a_loop
async def test_the_carrier_may_stay() -> None:
    async with house(asking(carrier="always")) as one:
        await until(lambda: state(one) == (TunnelState.SILENT, True))


@on_a_loop
async def test_a_forged_answer_wakes_nobody() -> None:
    async with house(asking()) as one:
        peer = Peer(one)
        await until(lambda: bool(peer.attachment.injected))
        peer.send(bytes(GRE(proto=0) / Raw(b"\1" * 16)))
        assert state(one) == (TunnelState.SILENT, False)
        arrive(one, bytes(GRE(proto=0)), ELSEWHERE)
        assert state(one) == (TunnelState.SILENT, False), "from a stranger"


@on_a_loop
async def test_an_answer_proves_those_wrong_who_say_that_nobody_is_there() -> None:
    async with house(asking()) as one:
        peer = Peer(one)
        await until(lambda: peer.answer() == 1)
        error = UnderlayError("t1", ErrorKind.PROHIBITED, ELSEWHERE, 0)
        for _ in range(2):
            one.plane.report(error)
        assert state(one) == (TunnelState.REFUSED, True)
        await until(lambda: peer.answer() == 1)
        assert state(one) == (TunnelState.UP, True)


@on_a_loop
async def test_what_is_awaited_is_known_below() -> None:
    async with house(asking(interval=10.0)) as one:
        peer = Peer(one)
        await until(lambda: bool(peer.attachment.injected))
        (awaited,) = peer.attachment.awaited
        assert peer.attachment.injected[0][1].endswith(awaited)
        peer.answer()
        assert peer.attachment.awaited == frozenset()


@on_a_loop
async def test_a_made_anew_interface_is_asked_for_again() -> None:
    async with house(asking()) as one:
        peer = Peer(one)
        await until(lambda: peer.answer() == 1)
        first = one.kernel.devices[-1]
        one.kernel.interfaces.pop(first.index)
        one.monitor.fire()
        await until(lambda: one.kernel.devices[-1] is not first)
        again = Peer(one)
        # Answered for as long as it takes: under load the next request may fall due meanwhile.
        await until(lambda: again.answer() >= 0 and state(one) == (TunnelState.UP, True))


@on_a_loop
async def test_each_of_many_remotes_is_asked() -> None:
    peers = tuple(
        (IPv4Network(f"10.0.{n}.0/24"), remote) for n, remote in enumerate((THERE, ELSEWHERE))
    )
    async with house(asking(remote=None, peers=peers)) as one:
        peer, other = Peer(one), Peer(one, remote=OTHER_REMOTE)
        await until(lambda: peer.answer() == 1)
        assert state(one) == (TunnelState.UP, True), "one is enough"
        await until(lambda: "peer_silent" in [event.name for event in one.events])
        events = {event.name: event.fields.get("remote") for event in one.events}
        assert events["peer_answers"] == REMOTE
        assert events["peer_silent"] in {REMOTE, OTHER_REMOTE}
        other.answer()


def request(source: str = LOCAL, destination: str = REMOTE) -> bytes:
    return bytes(GRE(proto=0x0800) / IP(src=source, dst=destination, ttl=255) / GRE(proto=0))


@on_a_loop
async def test_a_request_is_answered() -> None:
    async with house(tunnel()) as one:
        peer = Peer(one)
        peer.send(request())
        assert peer.attachment.injected == [(None, bytes(GRE(proto=0)), THERE)]


@on_a_loop
async def test_one_between_inner_addresses_is_answered_through_the_tunnel() -> None:
    async with house(tunnel(addresses=["10.1.2.1/24"])) as one:
        peer = Peer(one)
        peer.send(request("10.1.2.1", "10.1.2.2"))
        ((protocol, packet, remote),) = peer.attachment.injected
        assert (protocol, remote) == (PROTOCOL_IPV4, THERE)
        assert (IP(packet).src, IP(packet).dst) == ("10.1.2.1", "10.1.2.2")


@on_a_loop
async def test_answers_can_be_switched_off() -> None:
    async with house(replace(tunnel(), keepalive_reply=False)) as one:
        peer = Peer(one)
        peer.send(request())
        assert peer.attachment.injected == []


@pytest.mark.parametrize("datagram", [b"", b"\0\0", bytes(GRE(proto=0x0800)), bytes(GRE(proto=0))])
@on_a_loop
async def test_what_is_nothing_is_ignored(datagram: bytes) -> None:
    async with house(tunnel()) as one:
        peer = Peer(one)
        peer.send(datagram)
        arrive(one, datagram, THERE, tunnel="unknown")
        arrive(one, datagram, THERE, tunnel=None)
        assert peer.attachment.injected == []


@on_a_loop
async def test_two_gred_that_ask_each_other_do_not_answer_for_ever() -> None:
    async with house(asking(interval=10.0)) as one:
        peer = Peer(one)
        await until(lambda: peer.answer() == 1)
        sent = len(peer.attachment.injected)
        peer.send(bytes(GRE(proto=0)))
        assert len(peer.attachment.injected) == sent


@on_a_loop
async def test_a_thousand_tunnels_are_asked() -> None:
    """Some at once, and no look at all of them for each."""
    many = [
        replace(
            tunnel(f"t{n}"), remote=ip_address(f"198.51.{n // 250}.{n % 250 + 1}"), keepalive=30
        )
        for n in range(1, 1001)
    ]
    async with house(*many) as one:
        attachments = [one.plane.attachment(config.name) for config in many]
        await until(lambda: all(attachment.injected for attachment in attachments))
        assert all(len(attachment.injected) == 1 for attachment in attachments)
        await asyncio.sleep(0)


class Pinged:
    """The other end as a host that answers pings: ``t1`` among fakes."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._seen = 0
        self.lengths: list[int] = []

    def answer(self, **changes: str) -> bool:
        """Answer what was asked since; return True."""
        injected = self._house.plane.attachment("t1").injected
        new, self._seen = injected[self._seen :], len(injected)
        for _protocol, packet, _remote in new:
            asked = IP(packet)
            assert (asked.src, asked.dst, asked[ICMP].type) == ("10.1.2.1", "10.1.2.2", 8)
            self.lengths.append(len(packet))
            ends = {"src": "10.1.2.2", "dst": "10.1.2.1"} | changes
            told = ICMP(type=0, id=asked[ICMP].id, seq=asked[ICMP].seq)
            reply = GRE(proto=0x0800) / IP(**ends) / told / asked[ICMP].payload
            arrive(self._house, bytes(reply), THERE)
        return True


def pinging(**options: object) -> TunnelConfig:
    inside = tunnel(addresses=["10.1.2.1/24"])
    config = replace(inside, keepalive=SHORT, keepalive_target=ip_address("10.1.2.2"))
    return replace(config, **options)  # type: ignore[arg-type]


@on_a_loop
async def test_an_inner_address_is_pinged() -> None:
    async with house(pinging()) as one:
        assert one.plane.attachment("t1").parameters.echo is not None
        peer = Pinged(one)
        assert state(one) == (TunnelState.SILENT, False)
        await until(lambda: peer.answer() and state(one) == (TunnelState.UP, True))
        life = one.daemon.tunnels["t1"].lives[THERE]
        assert life.proven
        # And the path is probed.
        await until(lambda: peer.answer() and max(peer.lengths) == 1476)


@pytest.mark.parametrize("changes", [{"src": "10.1.2.3"}, {"dst": "10.1.2.9"}])
@on_a_loop
async def test_an_answer_of_or_to_another_address_is_none(changes: dict[str, str]) -> None:
    async with house(pinging()) as one:
        peer = Pinged(one)
        await until(lambda: peer.answer(**changes) and len(peer.lengths) > 2)
        assert state(one) == (TunnelState.SILENT, False)


@on_a_loop
async def test_who_is_pinged_may_ask_with_keepalives() -> None:
    async with house(pinging(keepalive=10.0)) as one:
        await until(lambda: bool(one.plane.attachment("t1").injected))
        arrive(one, request(), THERE)
        assert one.plane.attachment("t1").injected[-1] == (None, bytes(GRE(proto=0)), THERE)
        arrive(one, bytes(GRE(proto=0)), THERE)
        assert state(one) == (TunnelState.SILENT, False), "nobody asked for that"


@on_a_loop
async def test_a_round_trip_is_measured_finer_than_the_loops_clock() -> None:
    """Which may count whole milliseconds."""
    async with house(asking(interval=10.0)) as one:
        loop, peer = asyncio.get_running_loop(), Peer(one)
        precise = loop.time
        loop.time = lambda: precise() // 0.001 / 1000  # type: ignore[method-assign]
        one.daemon.tunnels["t1"].stale = True
        await until(lambda: peer.answer() == 1)
        life = one.daemon.tunnels["t1"].lives[THERE]
        least = life.figures(precise()).least
        assert least is not None
        assert least * 1000 % 1 > 1e-6


@on_a_loop
async def test_a_target_that_is_configured_later_is_pinged() -> None:
    before, after = pinging(keepalive_target=None), pinging()
    async with house(before) as one:
        await one.daemon.reload(configuration(after))
        attachment = one.plane.attachment("t1")
        await until(lambda: attachment.parameters.echo is not None)
        attachment.injected.clear()
        peer = Pinged(one)
        await until(lambda: peer.answer() and one.daemon.tunnels["t1"].lives[THERE].proven)
        await one.daemon.reload(configuration(before))
        await until(lambda: attachment.parameters.echo is None)
