"""Packets too big for the path: answered, cut or sent all the same, and counted for it."""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scapy.layers.inet import ICMP, IP, TCPerror
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Dot1Q, Ether

from gred.dataplane import too_big
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch
from gred.dataplane.layout import FRAME_HEADROOM, TunnelFlag
from gred.dataplane.punt import Allowance
from gred.dataplane.too_big import Outcome, TooBig, first_size
from gred.dataplane.transmit import Transmitter, Unsent
from gred.dataplane.tunnels import TunnelParameters, TunnelTable
from gred.wire import vnet
from gred.wire.drop import DropReason
from gred.wire.ip import DONT_FRAGMENT, MORE_FRAGMENTS
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.packets import Packet, Tcp, Udp, ethernet, pattern

LIMIT = 1000
PARAMETERS = TunnelParameters(
    family=4,
    local=ip_address("192.0.2.1"),
    remote=ip_address("192.0.2.2"),
    output_key=7,
    output_sequence=True,
    path_mtu=LIMIT,
)
BIG = Udp(payload=pattern(1372), identification=9).build()
BIG_DF = Udp(payload=pattern(1372), fragment=DONT_FRAGMENT).build()


@dataclass
class Sent:
    """One datagram: the inner packet, and whether its outer one may be fragmented."""

    inner: bytes
    sequence: int
    fragmentable: bool
    destination: int = 0


@dataclass
class Bench:
    """A tunnel whose path carries LIMIT bytes, the codec, and a pipe for a TUN device."""

    codec: Any
    vnet_header: int = 0
    is_ethernet: bool = False
    destination: int = 0
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tunnels = TunnelTable()
        self.index = self.tunnels.add(PARAMETERS)
        self.parameters = PARAMETERS
        self.sender = SimpleNamespace(overhead=20)
        self.record = self.tunnels.record(self.index)
        (self.worker,) = self.tunnels.workers
        self.tx = self.worker.tx(self.index)
        self.record.vnet_header = self.vnet_header
        self.tunnels.set_flag(self.index, TunnelFlag.ETHERNET, to=self.is_ethernet)
        self.batch = EgressBatch()
        self.answers = Allowance(1.0, 1.0)
        self.tun, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.tun.setblocking(False)
        self.descriptor = device.detach()
        # It plays the transmitter and the attachment: of both only this much is used.
        self.too_big = TooBig(
            self.tunnels, self.tunnels.workers[0], cast("Transmitter", self), self.fail
        )

    def close(self) -> None:
        self.tun.close()
        os.close(self.descriptor)

    @property
    def attachment(self) -> Attachment:
        return cast("Attachment", self)

    def fail(self, *_: object) -> bool:
        raise AssertionError("nothing fails here")

    def send(self, _: object, batch: EgressBatch, datagrams: int, unsent: Unsent) -> None:
        assert unsent == self.fail
        for index in range(datagrams):
            datagram = batch.datagram(index)
            head = batch.arena[datagram.head_offset :][: datagram.head_length]
            body = batch.arena[datagram.body_offset :][: datagram.body_length]
            assert head[:4] == b"\x30\x00\x08\x00" or head[2:4] in {b"\x86\xdd", b"\x65\x58"}
            sequence = int.from_bytes(head[8:12])
            fragmentable = not datagram.dont_fragment
            inner = head[12:] + body
            self.sent.append(Sent(inner, sequence, fragmentable, datagram.destination))

    def put(self, frame: bytes, meta: VnetHeader | None = None) -> int:
        """Let the codec see *frame*; return how many datagrams it made."""
        header = b""
        if self.vnet_header:
            header = (meta or VnetHeader()).pack()
        start = FRAME_HEADROOM
        self.batch.arena[start - len(header) : start + len(frame)] = header + frame
        entry = self.batch.frame(0)
        entry.offset, entry.length, entry.done, entry.verdict = start, len(frame), 0, 0
        entry.destination = self.destination
        filled: int = self.codec.encapsulate(
            self.batch.arena,
            self.batch.frames,
            0,
            1,
            self.tunnels.memory,
            self.worker.tx_states,
            self.index,
            self.batch.datagrams,
            self.batch.headers_begin,
            self.batch.headers_end,
        )[0]
        return filled

    def refused(self, frame: bytes, meta: VnetHeader | None = None) -> bool:
        """Let the codec refuse *frame*, and the slow path see it; return whether it was sent."""
        assert self.put(frame, meta) == 0
        assert self.batch.frame(0).verdict == DropReason.TOO_BIG
        return self.too_big.refused(self.attachment, self.batch, 0, now=10.0)

    def unsent(self, frame: bytes, outer_mtu: int) -> Outcome:
        """Let the codec pass *frame*, and the kernel refuse the datagram."""
        self.record.path_mtu = 65535
        assert self.put(frame) == 1
        return self.too_big.unsent(self.attachment, self.batch, 0, outer_mtu, now=10.0)

    def answer(self) -> bytes | None:
        """What was written into the TUN, without the vnet header."""
        try:
            written = self.tun.recv(65536)
        except BlockingIOError:
            return None
        assert written[: self.vnet_header] == bytes(self.vnet_header)
        return written[self.vnet_header :]

    @property
    def drops(self) -> int:
        return int(self.tx.tx_drops[DropReason.TOO_BIG])


@pytest.fixture(autouse=True)
def _codec(codec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuts and encapsulates is the twin under test, too."""
    monkeypatch.setattr(too_big, "codec", codec)


@pytest.fixture
def bench(codec: Any) -> Iterator[Bench]:
    bench = Bench(codec)
    yield bench
    bench.close()


@pytest.fixture
def offloading(codec: Any) -> Iterator[Bench]:
    bench = Bench(codec, vnet_header=10)
    yield bench
    bench.close()


@pytest.fixture
def bridged(codec: Any) -> Iterator[Bench]:
    bench = Bench(codec, is_ethernet=True)
    yield bench
    bench.close()


def reassembled(sent: list[Sent]) -> bytes:
    """The data behind the IPv4 headers of fragments in order."""
    data = b""
    for index, one in enumerate(sent):
        word = int.from_bytes(one.inner[6:8])
        assert (word & 0x1FFF) * 8 == len(data)
        assert bool(word & MORE_FRAGMENTS) == (index < len(sent) - 1)
        assert not one.fragmentable
        data += one.inner[20:]
    return data


def test_ipv4_that_must_not_be_cut_is_answered_and_dropped(bench: Bench) -> None:
    """RFC 7588 section 3; the answer comes from where the packet went."""
    assert not bench.refused(BIG_DF)
    answer = IP(bench.answer())
    assert (answer.src, answer.dst) == ("10.0.0.2", "10.0.0.1")
    assert (answer[ICMP].type, answer[ICMP].code, answer[ICMP].nexthopmtu) == (3, 4, LIMIT)
    assert (bench.sent, bench.drops) == ([], 1)


def test_ipv6_is_answered_with_1280_at_least(bench: Bench) -> None:
    assert not bench.refused(Udp(version=6, payload=pattern(1300)).build())
    answer = IPv6(bench.answer())
    assert (answer.src, answer.dst) == ("fd00::2", "fd00::1")
    assert answer[ICMPv6PacketTooBig].mtu == 1280
    assert (bench.sent, bench.drops) == ([], 1)


@pytest.mark.parametrize("size", [LIMIT + 1, 1280])
def test_ipv6_up_to_1280_is_sent_and_may_be_fragmented_outside(bench: Bench, size: int) -> None:
    """RFC 7676 section 3.2."""
    packet = Udp(version=6, payload=pattern(size - 48)).build()
    assert bench.refused(packet)
    assert bench.sent == [Sent(packet, 0, fragmentable=True)]
    assert bench.answer() is None
    assert (bench.drops, bench.tx.tx_packets, bench.record.path_mtu) == (0, 1, LIMIT)


def test_ipv4_that_may_be_cut_is_sent_in_fragments(bench: Bench) -> None:
    assert bench.refused(BIG)
    assert [len(one.inner) for one in bench.sent] == [20 + 976, 20 + 404]
    assert reassembled(bench.sent) == BIG[20:]
    assert bench.answer() is None
    assert [one.sequence for one in bench.sent] == [0, 1], "no number is left out"
    assert (bench.drops, bench.tx.tx_packets) == (0, 2)


def test_all_that_is_sent_goes_where_the_packet_would_have_gone(bench: Bench) -> None:
    bench.destination = 3
    assert bench.refused(BIG)
    assert bench.refused(Udp(version=6, payload=pattern(1200)).build())
    assert bench.unsent(BIG, LIMIT + 32) is Outcome.SENT
    assert {one.destination for one in bench.sent} == {3}
    assert len(bench.sent) == 5


def test_more_fragments_than_a_batch_holds_are_all_sent(bench: Bench) -> None:
    bench.record.path_mtu = 68
    packet = Packet().ip(pattern(65000))
    assert bench.refused(packet)
    assert len(bench.sent) == -(-65000 // 48)
    assert reassembled(bench.sent) == packet[20:]


def test_an_unfinished_checksum_is_finished_before_the_cut(offloading: Bench) -> None:
    partial = Udp(payload=pattern(1372), identification=9, partial=True).build()
    assert offloading.refused(partial, VnetHeader(NEEDS_CSUM, csum_start=20, csum_offset=6))
    assert reassembled(offloading.sent) == BIG[20:]


def test_a_super_packet_is_answered_as_its_first_segment(offloading: Bench) -> None:
    packet = Tcp(payload=pattern(5000), partial=True, fragment=DONT_FRAGMENT).build()
    meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV4, 40, 1400, 20, 16)
    assert not offloading.refused(packet, meta)
    answer = IP(offloading.answer())
    assert answer[ICMP].nexthopmtu == LIMIT
    assert answer[ICMP].payload.len == 1440
    assert answer[TCPerror].seq == 1000


def test_a_super_packet_of_datagrams_is_cut_twice(offloading: Bench) -> None:
    """USO without Don't Fragment: segments first, then fragments of each."""
    packet = Udp(payload=pattern(2400), partial=True).build()
    meta = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 1200, 20, 6)
    assert offloading.refused(packet, meta)
    assert len(offloading.sent) == 4
    assert reassembled(offloading.sent[:2])[8:] == pattern(2400)[:1200]
    assert reassembled(offloading.sent[2:])[8:] == pattern(2400)[1200:]
    assert [one.sequence for one in offloading.sent] == [0, 1, 2, 3]


def test_a_super_packet_of_small_ipv6_segments_is_sent(offloading: Bench) -> None:
    """More segments than fit one table of datagrams are sent in turns."""
    packet = Tcp(version=6, payload=pattern(60000), partial=True).build()
    meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 60, 1220, 40, 16)
    assert offloading.refused(packet, meta)
    assert all(one.fragmentable for one in offloading.sent)
    assert b"".join(one.inner[60:] for one in offloading.sent) == pattern(60000)


def test_answers_are_limited(bench: Bench) -> None:
    bench.refused(BIG_DF)
    assert bench.answer() is not None
    bench.refused(BIG_DF)
    assert bench.answer() is None
    assert bench.drops == 2


@pytest.mark.parametrize(
    "packet",
    [
        Udp(payload=pattern(1372), fragment=DONT_FRAGMENT, destination=bytes([224, 0, 0, 5])),
        Udp(payload=pattern(1372), fragment=DONT_FRAGMENT | 5),
        Udp(version=6, payload=pattern(1372), source=bytes(16)),
    ],
)
def test_what_no_error_may_be_about_is_dropped_in_silence(bench: Bench, packet: Udp) -> None:
    assert not bench.refused(packet.build())
    assert bench.answer() is None
    assert (bench.sent, bench.drops) == ([], 1)


def test_a_device_that_takes_nothing_is_no_trouble(bench: Bench) -> None:
    bench.tun.close()
    assert not bench.refused(BIG_DF)


class TestEthernet:
    TAGGED = bytes.fromhex("02000000000a 02000000000b 8100 0005 0800".replace(" ", ""))

    def test_a_frame_is_answered_to_the_one_who_sent_it(self, bridged: Bench) -> None:
        frame = ethernet(BIG_DF)
        assert not bridged.refused(frame)
        answer = Ether(bridged.answer())
        assert bytes(answer)[:6] == frame[6:12]
        assert bytes(answer)[6:12] == frame[:6]
        assert answer[ICMP].nexthopmtu == LIMIT

    def test_a_tagged_frame_has_room_for_less_and_is_answered_tagged(self, bridged: Bench) -> None:
        assert not bridged.refused(self.TAGGED + BIG_DF)
        answer = Ether(bridged.answer())
        assert answer[Dot1Q].vlan == 5
        assert answer[ICMP].nexthopmtu == LIMIT - 4

    def test_fragments_have_the_header_of_the_frame(self, bridged: Bench) -> None:
        assert bridged.refused(self.TAGGED + BIG)
        assert all(one.inner[:18] == self.TAGGED for one in bridged.sent)
        assert all(len(one.inner) <= LIMIT + 14 for one in bridged.sent)
        cut = [replace(one, inner=one.inner[18:]) for one in bridged.sent]
        assert reassembled(cut) == BIG[20:]

    def test_a_first_fragment_is_not_answered(self, bridged: Bench) -> None:
        """As Linux: only Don't Fragment and nothing else."""
        packet = Udp(payload=pattern(1372), fragment=DONT_FRAGMENT | MORE_FRAGMENTS).build()
        assert not bridged.refused(ethernet(packet))
        assert bridged.answer() is None

    def test_a_small_path_is_not_answered(self, bridged: Bench) -> None:
        bridged.record.path_mtu = 575
        assert not bridged.refused(ethernet(BIG_DF))
        assert bridged.answer() is None

    def test_what_is_not_ip_is_dropped(self, bridged: Bench) -> None:
        for frame in (bytes(12) + b"\x88\xcc" + pattern(1200), bytes(13) + b"\x00" + bytes(1200)):
            assert not bridged.refused(frame)
        damaged = ethernet(b"\x44" + BIG[1:])
        assert not bridged.refused(damaged)
        assert bridged.drops == 3


class TestUnsent:
    """The kernel refused a datagram: the outer packet may have so many bytes."""

    OUTER = 20 + 12  # IPv4, and GRE with key and sequence number

    def test_what_may_be_cut_is_sent_in_fragments(self, bench: Bench) -> None:
        assert bench.unsent(BIG, LIMIT + self.OUTER) is Outcome.SENT
        assert [len(one.inner) for one in bench.sent] == [20 + 976, 20 + 404]
        assert reassembled(bench.sent) == BIG[20:]

    def test_what_must_not_be_cut_is_answered(self, bench: Bench) -> None:
        assert bench.unsent(BIG_DF, LIMIT + self.OUTER) is Outcome.DROPPED
        assert IP(bench.answer())[ICMP].nexthopmtu == LIMIT

    def test_over_ipv6_the_outer_header_is_longer(self, bench: Bench) -> None:
        bench.sender.overhead = 40 + 8
        assert bench.unsent(BIG_DF, 1400) is Outcome.DROPPED
        assert IP(bench.answer())[ICMP].nexthopmtu == 1400 - 40 - 8 - 12

    def test_ipv6_up_to_1280_is_to_be_sent_again(self, bench: Bench) -> None:
        packet = Udp(version=6, payload=pattern(1232)).build()
        assert bench.unsent(packet, LIMIT + self.OUTER) is Outcome.CHANGED
        assert not bench.batch.datagram(0).dont_fragment
        again = bench.too_big.unsent(bench.attachment, bench.batch, 0, LIMIT + self.OUTER, now=10.0)
        assert again is Outcome.DROPPED, "not for ever"

    @pytest.mark.parametrize("outer_mtu", [0, 9000])
    def test_without_a_number_that_explains_it_nothing_is_done(
        self, bench: Bench, outer_mtu: int
    ) -> None:
        assert bench.unsent(BIG, outer_mtu) is Outcome.DROPPED
        assert (bench.sent, bench.answer()) == ([], None)

    def test_a_frame_counts_with_its_header(self, bridged: Bench) -> None:
        assert bridged.unsent(ethernet(BIG_DF), LIMIT + 14 + self.OUTER) is Outcome.DROPPED
        assert Ether(bridged.answer())[ICMP].nexthopmtu == LIMIT


def test_a_first_segment_is_never_larger_than_the_packet() -> None:
    packet = Tcp(payload=pattern(100), partial=True).build()
    meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV4, 40, 1400, 20, 16)
    assert first_size(packet, 0, meta) == len(packet)
    assert first_size(packet[:30], 0, meta) == 30
    assert first_size(packet, 0, replace(meta, csum_start=0)) == len(packet)
