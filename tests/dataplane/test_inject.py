"""Packets of gred's own cross real sockets, and those that control subscribes to reach it."""

import errno
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any, cast

import pytest

from gred.dataplane import egress, ingress, inject, pure_codec, pure_io, transmit
from gred.dataplane.attachment import Attachment
from gred.dataplane.layout import Transport
from gred.dataplane.punt import LONGEST_PUNT, Allowance, Punted
from gred.dataplane.underlay import raw
from gred.wire import keepalive
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_KEEPALIVE, GreHeader
from gred.wire.icmp import ErrorKind
from tests import require
from tests.dataplane.packets import Udp, pattern
from tests.dataplane.test_plane import LEFT, PACKET, RIGHT, Bench, Play, arrival, play
from tests.waiting import until

__all__ = ["play"]

KEYED = {"input_key": 7, "output_key": 7}
STRICT: dict[str, Any] = {
    **KEYED,
    "output_checksum": True,
    "input_checksum": "require",
    "output_sequence": True,
    "input_sequence": True,
}


@pytest.fixture(params=["python", "c"], autouse=True)
def _twin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every packet here is made and read by one twin."""
    codec: Any = pure_codec
    io: Any = pure_io
    if request.param == "c":
        require.extension()
        from gred.dataplane import _codec, _io

        codec, io = _codec, _io
    for module in (egress, ingress, inject, transmit):
        monkeypatch.setattr(module, "codec", codec)
    for module in (egress, ingress, raw):
        monkeypatch.setattr(module, "io", io)


def subscribe(bench: Bench, take: Callable[[Punted], None] | None = None) -> list[Punted]:
    taken: list[Punted] = []
    bench.plane.punts.subscribe({DropReason.KEEPALIVE}, take or taken.append)
    return taken


@pytest.mark.parametrize(
    "fields", [{}, STRICT, {"vnet_header": 10}], ids=["plain", "strict", "vnet"]
)
def test_an_inner_packet_goes_as_any_other(play: Play, fields: dict[str, Any]) -> None:
    async def scenario(bench: Bench) -> None:
        left, left_port, right, right_port = bench.pair(**fields)
        assert bench.plane.inject.packet(left_port, PACKET)
        left.far.send(bytes(fields.get("vnet_header", 0)) + PACKET)
        for _ in range(2):
            assert (await arrival(right))[-len(PACKET) :] == PACKET
        sent, received = left_port.counters(), right_port.counters()
        assert (sent.tx_packets, sent.tx_injected, sent.tx_drops) == (2, 1, {})
        assert (received.rx_packets, received.rx_drops) == (2, {})

    play(scenario)


def test_over_ipv6_all_have_a_label(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        for label in (None, 7):
            _, attachment = bench.tunnel("::1", "::2", flow_label=label)
            inject, sent = bench.plane.inject, list[int]()
            inject.packet(attachment, PACKET)
            sent.append(inject._batch.datagram(0).flow_label)
            inject.payload(attachment, PROTOCOL_KEEPALIVE, b"")
            sent.append(inject._batch.datagram(0).flow_label)
            assert sent[0] == sent[1] == (label or sent[0]) != 0

    play(scenario)


@pytest.mark.parametrize("bare", [False, True])
def test_a_payload_has_a_header_of_the_tunnels_or_a_bare_one(play: Play, bare: bool) -> None:
    async def scenario(bench: Bench) -> None:
        fields = {**STRICT, "input_key": None} if bare else STRICT
        _, attachment, _, _ = bench.pair(**fields)
        taken = subscribe(bench)
        for _ in range(2):
            assert bench.plane.inject.payload(attachment, PROTOCOL_KEEPALIVE, b"cookie", bare=bare)
        await until(lambda: len(taken) == 2)
        headers = [GreHeader.parse(one.data) for one in taken]
        assert [one.data[one.inner :] for one in taken] == [b"cookie"] * 2
        expected = [(None, None)] * 2 if bare else [(7, 0), (7, 1)]
        assert [(header.key, header.sequence) for header in headers] == expected
        assert all((header.checksum is None) is bare for header in headers)
        assert all(keepalive.read_answer(one.data) for one in taken), "the checksum is right"

    play(scenario)


@pytest.mark.parametrize("whole", [False, True])
def test_what_must_go_whole_is_not_fragmented(
    play: Play, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    """Whatever the tunnel's own packets have."""

    async def scenario(bench: Bench) -> None:
        _, attachment, _, _ = bench.pair(dont_fragment=False)
        sent: list[bool] = []
        send_each = transmit.Transmitter.send_each

        def watch(self: Any, attachment: Attachment, batch: Any, *rest: Any) -> None:
            sent.append(bool(batch.datagram(0).dont_fragment))
            send_each(self, attachment, batch, *rest)

        monkeypatch.setattr(transmit.Transmitter, "send_each", watch)
        assert bench.plane.inject.payload(attachment, PROTOCOL_KEEPALIVE, b"", whole=whole)
        assert sent == [whole]

    play(scenario)


def test_what_is_handed_up_is_neither_delivered_nor_dropped(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, left_port, _, right_port = bench.pair(ttl=9, tos=0x40)
        taken = subscribe(bench)
        data = bytes(4) + pattern(300)
        assert bench.plane.inject.datagram(left_port, data)
        await until(lambda: taken)
        assert taken == [
            Punted(
                tunnel="gre1",
                reason=DropReason.KEEPALIVE,
                transport=Transport.IP,
                source=ip_address(LEFT),
                destination=ip_address(RIGHT),
                tos=0x40,
                ttl=9,
                data=data,
                inner=4,
            )
        ]
        sent, received = left_port.counters(), right_port.counters()
        assert (sent.tx_packets, sent.tx_bytes, sent.tx_injected, sent.tx_drops) == (0, 0, 1, {})
        assert (received.rx_packets, received.rx_punted, received.rx_drops) == (0, 1, {})
        assert bench.reports == []

    play(scenario)


@pytest.mark.parametrize("fields", [{}, KEYED, STRICT], ids=["plain", "keyed", "strict"])
def test_a_keepalive_is_asked_and_answered(play: Play, fields: dict[str, Any]) -> None:
    async def scenario(bench: Bench) -> None:
        _, left_port, _, right_port = bench.pair(**fields)
        answers: list[keepalive.Answer | None] = []

        def take(punted: Punted) -> None:
            request = keepalive.read_request(punted.data[punted.inner :])
            if punted.tunnel == "gre1" and request is not None:
                assert bench.plane.inject.datagram(right_port, request.answer)
            else:
                answers.append(keepalive.read_answer(punted.data))

        subscribe(bench, take)
        request = keepalive.build_request(
            ip_address(RIGHT), ip_address(LEFT), key=fields.get("input_key"), trailer=b"cookie"
        )
        assert bench.plane.inject.packet(left_port, request)
        await until(lambda: answers)
        assert answers == [keepalive.Answer(key=fields.get("input_key"), trailer=b"cookie")]
        assert left_port.counters().rx_punted == right_port.counters().rx_punted == 1

    play(scenario)


def test_one_of_many_remotes_is_reached(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        peers = ((ip_network("10.0.0.0/24"), ip_address(RIGHT)),)
        _, hub = bench.tunnel(LEFT, None, peers=peers)
        right, _ = bench.tunnel(RIGHT, LEFT)
        taken = subscribe(bench)
        assert bench.plane.inject.packet(hub, PACKET), "behind a peer"
        elsewhere = Udp(destination=bytes([10, 9, 9, 9])).build()
        assert not bench.plane.inject.packet(hub, elsewhere)
        assert bench.plane.inject.packet(hub, elsewhere, remote=ip_address(RIGHT))
        assert bench.plane.inject.datagram(hub, bytes(4), remote=ip_address(RIGHT))
        assert not bench.plane.inject.datagram(hub, bytes(4))
        assert [await arrival(right) for _ in range(2)] == [PACKET, elsewhere]
        await until(lambda: taken)
        counters = hub.counters()
        assert (counters.tx_injected, counters.tx_drops) == (3, {DropReason.NO_REMOTE: 2})

    play(scenario)


def test_the_row_of_a_remote_keeps_how_long_a_packet_was(play: Play) -> None:
    """An error about a probe is about something that was sent."""

    async def scenario(bench: Bench) -> None:
        _, attachment = bench.tunnel(LEFT, RIGHT)
        peers = ((ip_network("10.0.0.0/24"), ip_address(RIGHT)),)
        _, hub = bench.tunnel("127.0.0.4", None, peers=peers)
        for one in (attachment, hub):
            assert bench.plane.inject.datagram(one, bytes(900), remote=ip_address(RIGHT))
            assert one.longest_sent(ip_address(RIGHT).packed) == 920

    play(scenario)


def test_what_is_not_sent_is_counted_by_its_reason(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        inject = bench.plane.inject
        _, unroutable = bench.tunnel(LEFT, "192.0.2.1")
        assert not inject.datagram(unroutable, bytes(4))
        assert not inject.packet(unroutable, PACKET)
        _, attachment = bench.tunnel(LEFT, RIGHT)
        assert not inject.datagram(attachment, bytes(65536))
        assert not inject.packet(attachment, pattern(2000))
        assert not inject.datagram(attachment, bytes(4), remote=ip_address("::1"))
        attachment.block(DropReason.DEAD_LOOP)
        assert not inject.datagram(attachment, bytes(4))
        assert not inject.packet(attachment, PACKET)
        _, receiving = bench.tunnel(LEFT, None)
        assert not inject.payload(receiving, 0, b"")
        assert [one.counters().tx_drops for one in (unroutable, attachment, receiving)] == [
            {DropReason.NO_ROUTE: 2},
            {
                DropReason.TOO_BIG: 1,
                DropReason.UNKNOWN_PROTOCOL: 1,
                DropReason.NO_ROUTE: 1,
                DropReason.DEAD_LOOP: 2,
            },
            {DropReason.NO_REMOTE: 1},
        ]
        for one in (unroutable, attachment, receiving):
            counters = one.counters()
            assert (counters.tx_packets, counters.tx_bytes, counters.tx_injected) == (0, 0, 0)

    play(scenario)


class Narrow:
    """A sender whose device carries 1400 bytes."""

    overhead = 0

    def __init__(self, sender: Any) -> None:
        self.close = sender.close

    def transmit(self, *_batch: Any) -> tuple[int, int]:
        return 0, errno.EMSGSIZE

    def told_mtu(self) -> int:
        return 1400


def test_what_the_kernel_refuses_for_its_size_is_told(play: Play) -> None:
    """So that it is not tried again."""

    async def scenario(bench: Bench) -> None:
        _, attachment, _, _ = bench.pair()
        attachment.sender = cast("Any", Narrow(attachment.sender))
        assert not bench.plane.inject.datagram(attachment, bytes(1480), whole=True)
        assert [(one.kind, one.is_proven, one.mtu) for one in bench.reports[:1]] == [
            (ErrorKind.TOO_BIG, True, 1400)
        ]
        assert attachment.counters().tx_drops == {DropReason.TOO_BIG: 1}

    play(scenario)


def test_nobody_injects_more_than_that(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, attachment, _, other = bench.pair()
        attachment.injections = Allowance(0.0, 5.0)
        sent = [bench.plane.inject.datagram(attachment, bytes(4)) for _ in range(7)]
        assert sent == [True] * 5 + [False] * 2
        assert attachment.counters().tx_drops == {DropReason.NO_BUFS: 2}
        assert bench.plane.inject.datagram(other, bytes(4)), "another tunnel may"

    play(scenario)


def test_an_injected_packet_obeys_the_tunnels_mtu(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, attachment, right, _ = bench.pair()
        attachment.update(replace(attachment.parameters, path_mtu=100))
        big = Udp(payload=pattern(200), fragment=0x4000).build()
        assert not bench.plane.inject.packet(attachment, big)
        assert bench.plane.inject.packet(attachment, PACKET)
        assert await arrival(right) == PACKET
        assert attachment.counters().tx_drops == {DropReason.TOO_BIG: 1}

    play(scenario)


def flooded(bench: Bench, allowed: float) -> tuple[Attachment, Attachment]:
    """Return both ends of a tunnel through which any number may be sent, and few handed up."""
    _, left_port, _, right_port = bench.pair()
    left_port.injections = Allowance(0.0, 1e9)
    right_port.punts = Allowance(0.0, allowed)
    return left_port, right_port


def test_a_flood_is_handed_up_no_more_than_that_and_stops_no_other(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left_port, right_port = flooded(bench, 5)
        _, third = bench.tunnel(LEFT, "127.0.0.4")
        bench.tunnel("127.0.0.4", LEFT)
        taken = subscribe(bench)
        for _ in range(30):
            assert bench.plane.inject.datagram(left_port, bytes(4))
        assert bench.plane.inject.datagram(third, bytes(4))
        await until(lambda: len(taken) == 6)
        assert [one.tunnel for one in taken] == ["gre1"] * 5 + ["gre3"]
        counters = right_port.counters()
        assert (counters.rx_punted, counters.rx_drops) == (5, {DropReason.KEEPALIVE: 25})

    play(scenario)


def test_a_flood_hides_no_answer(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left_port, right_port = flooded(bench, 5)
        taken = subscribe(bench)
        right_port.awaited = {b"another secret", b"the secret"}
        forged, answer = bytes(4) + b"guess", bytes(4) + b"the secret" + bytes(9)
        for _ in range(4):
            for _ in range(30):
                assert bench.plane.inject.datagram(left_port, forged)
            assert bench.plane.inject.datagram(left_port, answer)
        await until(lambda: right_port.counters().rx_drops == {DropReason.KEEPALIVE: 115})
        assert [one.data for one in taken].count(answer) == 4
        right_port.awaited = frozenset()
        assert bench.plane.inject.datagram(left_port, answer)
        await until(lambda: right_port.counters().rx_drops == {DropReason.KEEPALIVE: 116})
        assert len(taken) == right_port.counters().rx_punted == 5 + 4

    play(scenario)


def test_bytes_that_are_handed_up_are_bounded(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, left_port, _, _ = bench.pair()
        taken = subscribe(bench)
        data = bytes(4) + pattern(9000)
        assert bench.plane.inject.datagram(left_port, data)
        await until(lambda: taken)
        assert taken[0].data == data[:LONGEST_PUNT]

    play(scenario)


def test_what_nobody_subscribes_to_is_dropped_and_told(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, left_port, _, right_port = bench.pair()
        bench.plane.punts.subscribe({DropReason.MPLS}, lambda _: None)
        assert bench.plane.inject.datagram(left_port, bytes(4))
        await until(lambda: bench.reports)
        assert right_port.counters().rx_drops == {DropReason.KEEPALIVE: 1}
        (report,) = bench.reports
        assert report.reason is DropReason.KEEPALIVE

    play(scenario)


def test_what_is_no_tunnels_is_handed_up_without_one(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, attachment = bench.tunnel(LEFT, RIGHT)
        taken: list[Punted] = []
        bench.plane.punts.subscribe({DropReason.NO_TUNNEL}, taken.append)
        assert bench.plane.inject.packet(attachment, PACKET)
        await until(lambda: taken)
        (punted,) = taken
        assert (punted.tunnel, punted.data[4:], punted.inner) == (None, PACKET, 0)
        assert bench.plane.unclaimed().rx_drops == {DropReason.NO_TUNNEL: 1}

    play(scenario)
