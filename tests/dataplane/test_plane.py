"""The data plane from end to end in one process: socket pairs in the place of TUN devices, real
protocol 47 on the loopback of a network namespace of its own."""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.layout import Destination
from gred.dataplane.plane import DataPlane, DeviceLost, Report
from gred.dataplane.trace import TracedPacket
from gred.dataplane.tunnels import TunnelParameters
from gred.dataplane.underlay.bypass import BypassSender
from gred.wire.drop import DropReason
from gred.wire.vnet import GSO_TCPV6, NEEDS_CSUM, VnetHeader
from tests import require
from tests.dataplane.hostile import chain
from tests.dataplane.namespaces import in_new_namespace
from tests.dataplane.packets import Tcp, Udp, pattern
from tests.waiting import until

if TYPE_CHECKING:
    from gred.dataplane.tun import TunDevice

LEFT, RIGHT = "127.0.0.2", "127.0.0.3"
PACKET = Udp(payload=b"over").build()


class PairDevice:
    """One end of a socket pair that keeps packet boundaries; `far` is where the host would be."""

    def __init__(self, name: str, vnet_header: int = 0) -> None:
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in (self.near, self.far):
            end.setblocking(False)
        self.name, self.index, self.mode = name, 1, "tun"
        self.offload, self.vnet_header = "none (a socket pair)", vnet_header
        self.prefix = vnet_header

    def fileno(self) -> int:
        return self.near.fileno()


@dataclass
class Bench:
    """A data plane and what it has told."""

    plane: DataPlane
    reports: list[Any]
    traced: list[TracedPacket]
    devices: list[PairDevice] = field(default_factory=list)

    def tunnel(
        self, local: str | None, remote: str | None, vnet_header: int = 0, **fields: Any
    ) -> tuple[PairDevice, Attachment]:
        device = PairDevice(f"gre{len(self.devices)}", vnet_header)
        self.devices.append(device)
        family: Literal[4, 6] = 6 if ":" in f"{local}{remote}" else 4
        parameters = TunnelParameters(
            family=family,
            local=ip_address(local) if local else None,
            remote=ip_address(remote) if remote else None,
            **fields,
        )
        return device, self.plane.add_tunnel(cast("TunDevice", device), parameters)

    def pair(self, **fields: Any) -> tuple[PairDevice, Attachment, PairDevice, Attachment]:
        return *self.tunnel(LEFT, RIGHT, **fields), *self.tunnel(RIGHT, LEFT, **fields)


def deepen_pairs() -> None:
    """Let socket pairs of this network namespace take as many packets as a TUN, unix(7)."""
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text("500")


async def arrival(device: PairDevice) -> bytes:
    """Wait for the next packet at the host's side of *device*."""
    async with asyncio.timeout(10):
        return await asyncio.get_running_loop().sock_recv(device.far, 70000)


Scenario = Callable[[Bench], Coroutine[Any, Any, None]]


@pytest.fixture(params=[False, True], ids=["quiet", "watched"])
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    """Run a scenario on a loop in a new network namespace."""
    require.root()

    async def on_loop(scenario: Scenario) -> None:
        reports, traced = list[Any](), list[TracedPacket]()
        trace = traced.append if request.param else None
        plane = DataPlane(asyncio.get_running_loop(), trace=trace, report=reports.append)
        bench = Bench(plane, reports, traced)
        try:
            await scenario(bench)
        finally:
            plane.close()
            for device in bench.devices:
                device.near.close()
                device.far.close()

    def run(scenario: Scenario) -> None:
        in_new_namespace(lambda: asyncio.run(on_loop(scenario)))

    return run


Play = Callable[[Scenario], None]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input_key": 5, "output_key": 5},
        {"input_checksum": "require", "output_checksum": True},
        {"input_sequence": True, "output_sequence": True},
    ],
)
def test_packets_cross_both_ways_and_are_counted(play: Play, fields: dict[str, Any]) -> None:
    async def scenario(bench: Bench) -> None:
        left, left_port, right, right_port = bench.pair(**fields)
        for sender, receiver in ((left, right), (right, left)):
            for number in range(3):
                packet = Udp(payload=pattern(number)).build()
                sender.far.send(packet)
                assert await arrival(receiver) == packet
        for attachment in (left_port, right_port):
            counters = attachment.counters()
            assert (counters.tx_packets, counters.rx_packets) == (3, 3)
            assert counters.tx_bytes == counters.rx_bytes == 3 * 28 + 3
            assert counters.tx_drops == counters.rx_drops == {}
        if bench.traced:
            assert [packet.direction for packet in bench.traced] == ["tx", "rx"] * 6
            assert {packet.tunnel for packet in bench.traced} == {"gre0", "gre1"}

    play(scenario)


def test_peers_that_were_learned_stay_when_anything_else_changes(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        _, attachment = bench.tunnel(LEFT, None, learn_peers=True, output_key=1, input_key=1)
        inner, outer = ip_address("10.0.0.2").packed, ip_address(RIGHT).packed
        assert attachment.peers is not None
        attachment.peers.learn(inner, outer, 0)
        for fields in (
            {"packet_socket": True},
            {"mtu": 1300, "path_mtu": 1300},
            {"local": ip_address("127.0.0.9")},
        ):
            attachment.update(replace(attachment.parameters, **fields))
            assert attachment.peers.learned(inner) == outer
        row = Destination.from_buffer(attachment.destinations)
        assert bytes(row.local)[:4] == bytes([127, 0, 0, 9])
        assert bytes(row.remote)[:4] == outer
        assert row.port == 0

    play(scenario)


@pytest.mark.parametrize(
    ("ends", "fields", "follows"),
    [
        ((LEFT, RIGHT), {"packet_socket": True}, True),
        ((LEFT, RIGHT), {"packet_socket": False}, False),
        (("fd00::1", "fd00::2"), {"packet_socket": True, "flow_label": 0}, True),
        (("fd00::1", "fd00::2"), {"packet_socket": True}, True),
    ],
)
def test_who_may_follow(
    play: Play, ends: tuple[str, str], fields: dict[str, Any], follows: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        _, attachment = bench.tunnel(*ends, **fields)
        follows_now = follows and io.CAN_BYPASS
        assert isinstance(attachment.sender, BypassSender) is follows_now
        assert (not attachment.no_packet_socket) is follows_now

    play(scenario)


def test_an_answer_leaves_before_more_is_received(play: Play) -> None:
    """The device is asked for it at once, not when the loop finds it ready."""

    async def scenario(bench: Bench) -> None:
        left, _, right, right_port = bench.pair()
        asyncio.get_running_loop().remove_reader(right_port.descriptor)
        right.far.send(PACKET)  # the host answers within the write
        left.far.send(PACKET)
        assert await arrival(right) == PACKET
        assert await arrival(left) == PACKET

    play(scenario)


def test_what_no_tunnel_claims_is_counted_and_reported(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _ = bench.tunnel(LEFT, RIGHT)
        left.far.send(PACKET)
        await until(lambda: bench.reports)
        assert bench.plane.unclaimed().rx_drops == {DropReason.NO_TUNNEL: 1}
        (report,) = bench.reports
        assert (report.tunnel, report.reason) == (None, DropReason.NO_TUNNEL)
        assert (str(report.source), str(report.destination)) == (LEFT, RIGHT)

    play(scenario)


def test_a_wrong_key_is_reported_with_the_key_that_came(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _ = bench.tunnel(LEFT, RIGHT, output_key=0)
        _, right_port = bench.tunnel(RIGHT, LEFT, input_key=24)
        left.far.send(PACKET)
        await until(lambda: bench.reports)
        assert right_port.counters().rx_drops == {DropReason.KEY_MISMATCH: 1}
        (report,) = bench.reports
        assert (report.tunnel, report.reason, report.key) == ("gre1", DropReason.KEY_MISMATCH, 0)

    play(scenario)


def test_a_blocked_tunnel_receives_and_does_not_send(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, left_port, right, _ = bench.pair()
        left_port.block(DropReason.DEAD_LOOP)
        left.far.send(PACKET)
        right.far.send(PACKET)
        assert await arrival(left) == PACKET
        await until(lambda: left_port.counters().tx_drops)
        assert left_port.counters().tx_drops == {DropReason.DEAD_LOOP: 1}
        left_port.block(None)
        left.far.send(PACKET)
        assert await arrival(right) == PACKET

    play(scenario)


def test_a_tunnel_without_remote_receives_only(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _ = bench.tunnel(LEFT, RIGHT)
        right, right_port = bench.tunnel(RIGHT, None)
        left.far.send(PACKET)
        assert await arrival(right) == PACKET
        right.far.send(PACKET)
        await until(lambda: right_port.counters().tx_drops)
        assert right_port.counters().tx_drops == {DropReason.NO_REMOTE: 1}
        refused = TracedPacket("tx", right.name, PACKET, DropReason.NO_REMOTE, "ip")
        assert bench.traced[2:] == ([refused] if bench.traced else [])

    play(scenario)


def test_an_unroutable_remote_is_counted_as_no_route_and_not_as_sent(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, attachment = bench.tunnel(LEFT, "192.0.2.1")
        left.far.send(PACKET)
        await until(lambda: attachment.counters().tx_drops)
        counters = attachment.counters()
        assert counters.tx_drops == {DropReason.NO_ROUTE: 1}
        assert (counters.tx_packets, counters.tx_bytes) == (0, 0)
        if bench.traced:
            (packet,) = bench.traced
            assert (packet.direction, packet.reason) == ("tx", DropReason.NO_ROUTE)

    play(scenario)


def test_a_local_address_that_is_not_ours_is_counted_as_no_route(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, attachment = bench.tunnel("192.0.2.1", RIGHT)
        left.far.send(PACKET)
        await until(lambda: attachment.counters().tx_drops)
        assert attachment.counters().tx_drops == {DropReason.NO_ROUTE: 1}

    play(scenario)


def test_more_than_a_batch_arrives_whole_and_in_order(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _, right, right_port = bench.pair(input_sequence=True, output_sequence=True)
        sent = 0
        for sent in range(400):
            packet = Tcp(sequence=sent, payload=b"x").build()
            left.far.send(packet)
            assert await arrival(right) == packet
        assert right_port.counters().rx_packets == sent + 1

    play(scenario)


def test_a_small_packet_goes_before_what_waits_and_no_flow_is_reordered(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        deepen_pairs()
        left, left_port, right, _ = bench.pair()
        bulk = [Tcp(sequence=number, payload=pattern(400)).build() for number in range(100)]
        quiet = [Udp(ports=(number, 53), payload=b"?").build() for number in range(3)]
        for packet in [*bulk, *quiet]:
            left.far.send(packet)
        found = [await arrival(right) for _ in range(103)]
        assert [packet for packet in found if len(packet) > 100] == bulk
        assert [packet for packet in found if len(packet) < 100] == quiet
        # 64 left in the first turn. In the second three of the bulk lead: they come first, nothing
        # of it waits, and more than three would be more than the quantum.
        assert found.index(quiet[0]) == 64 + 3
        assert left_port.counters().tx_packets == 103

    play(scenario)


def test_waiting_packets_follow_their_tunnel_to_another_remote(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        deepen_pairs()
        left, left_port, right, _ = bench.pair()
        for number in range(100):
            left.far.send(Tcp(sequence=number, payload=pattern(100)).build())
        await arrival(right)  # of the first turn; the second is still to come
        parameters = left_port.parameters
        left_port.update(
            replace(parameters, peers=((ip_network("10.0.0.0/8"), ip_address(RIGHT)),))
        )
        left_port.update(parameters)
        for _ in range(99):
            await arrival(right)
        assert left_port.counters().tx_packets == 100

    play(scenario)


def test_updated_parameters_hold_from_the_next_packet(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, left_port, right, right_port = bench.pair()
        for attachment in (left_port, right_port):
            parameters = attachment.parameters
            attachment.update(
                TunnelParameters(
                    family=4,
                    local=parameters.local,
                    remote=parameters.remote,
                    input_key=9,
                    output_key=9,
                )
            )
        left.far.send(PACKET)
        assert await arrival(right) == PACKET
        with pytest.raises(ValueError, match="family"):
            left_port.update(
                TunnelParameters(family=6, local=ip_address("::1"), remote=ip_address("::2"))
            )

    play(scenario)


def test_a_removed_tunnel_takes_nothing_more(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _, _, right_port = bench.pair()
        bench.plane.remove_tunnel(right_port)
        left.far.send(PACKET)
        await until(lambda: bench.plane.unclaimed().rx_drops)
        assert bench.plane.unclaimed().rx_drops == {DropReason.NO_TUNNEL: 1}

    play(scenario)


def test_a_device_that_cannot_be_read_is_given_up_and_told(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_frames(*_: object) -> int:
        raise OSError(errno.EBADFD, "gone")

    async def scenario(bench: Bench) -> None:
        left, _ = bench.tunnel(LEFT, RIGHT)
        monkeypatch.setattr(io, "read_frames", read_frames)
        left.far.send(PACKET)
        await until(lambda: bench.reports)
        (lost,) = bench.reports
        assert isinstance(lost, DeviceLost)
        assert (lost.tunnel, lost.error.errno) == ("gre0", errno.EBADFD)

    play(scenario)


def test_a_frame_that_cannot_be_written_is_counted_as_dropped(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _, right, right_port = bench.pair()
        right.far.close()  # writing gives ECONNREFUSED: not one of the errors with a name
        left.far.send(PACKET)
        await until(lambda: right_port.counters().rx_drops)
        counters = right_port.counters()
        assert (counters.rx_packets, counters.rx_drops) == (0, {DropReason.OTHER: 1})
        assert any(isinstance(r, Report) and r.detail == "ECONNREFUSED" for r in bench.reports)

    play(scenario)


def test_super_packets_that_cannot_be_cut_stop_nobody(play: Play) -> None:
    """One for every batch there is, and more: each is a drop, and all tunnels go on."""

    async def scenario(bench: Bench) -> None:
        deepen_pairs()
        pairs = [bench.pair(vnet_header=10, input_key=key, output_key=key) for key in range(6)]
        frame = chain(24_616) + pattern(1000)
        meta = VnetHeader(NEEDS_CSUM, GSO_TCPV6, 0, 100, 24_616, 16)
        for left, left_port, right, _ in pairs:
            left.far.send(meta.pack() + frame)
            left.far.send(bytes(10) + PACKET)
            assert await arrival(right) == bytes(10) + PACKET
            assert left_port.counters().tx_drops == {DropReason.BAD_INNER: 1}
        assert not bench.plane._scheduler.pending
        reasons = [report.reason for report in bench.reports if isinstance(report, Report)]
        assert DropReason.BAD_INNER in reasons

    play(scenario)


def test_a_frame_that_a_turn_cannot_move_is_dropped_and_told_once(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last line of defence, were the codec wrong."""

    async def scenario(bench: Bench) -> None:
        left, attachment, right, _ = bench.pair()
        good = codec.encapsulate
        monkeypatch.setattr(codec, "encapsulate", lambda arena, frames, first, *_: (0, first, 0))
        for _ in range(3):
            left.far.send(PACKET)
        await until(lambda: attachment.counters().tx_drops == {DropReason.OTHER: 3})
        monkeypatch.setattr(codec, "encapsulate", good)
        left.far.send(PACKET)
        assert await arrival(right) == PACKET
        told = [report.detail for report in bench.reports if isinstance(report, Report)]
        assert told == [f"a frame of {len(PACKET)} bytes was neither sent nor refused"]

    play(scenario)


def test_a_packet_for_a_peer_is_shown_with_its_remote(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        peers = ((ip_network("10.0.0.2/32"), ip_address(RIGHT)),)
        left, left_port = bench.tunnel(LEFT, None, peers=peers)
        right, _ = bench.tunnel(RIGHT, LEFT)
        left.far.send(PACKET)
        assert await arrival(right) == PACKET
        sent = [packet.data for packet in bench.traced if packet.direction == "tx"]
        ends = ip_address(LEFT).packed + ip_address(RIGHT).packed
        assert all(data[12:20] == ends for data in sent)
        left.far.send(PACKET[:16] + bytes([10, 9, 9, 9]) + PACKET[20:])
        await until(lambda: left_port.counters().tx_drops == {DropReason.NO_REMOTE: 1})
        refused = [r for r in bench.reports if getattr(r, "reason", 0) is DropReason.NO_REMOTE]
        assert [report.detail for report in refused] == ["to 10.9.9.9"]

    play(scenario)


def test_a_wrong_key_is_reported_beside_the_right_one(play: Play) -> None:
    async def scenario(bench: Bench) -> None:
        left, _ = bench.tunnel(LEFT, RIGHT, output_key=7)
        _, right_port = bench.tunnel(RIGHT, LEFT, input_key=5)
        left.far.send(PACKET)
        await until(lambda: right_port.counters().rx_drops == {DropReason.KEY_MISMATCH: 1})
        (report,) = [r for r in bench.reports if getattr(r, "reason", 0) is DropReason.KEY_MISMATCH]
        assert (report.key, report.detail) == (7, "it has key 7, expected key 5")

    play(scenario)
