"""Egress comes to an end, whatever the device hands over: every frame is sent or counted."""

import struct
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec
from gred.dataplane.batch import EgressBatch
from gred.dataplane.layout import Frame, TunnelFlag
from gred.wire import vnet
from gred.wire.drop import DropReason
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests import require
from tests.dataplane.benches import Egress, drops, make_record, rows
from tests.dataplane.hostile import any_super_frame, chain
from tests.dataplane.packets import Tcp, Udp, ethernet, pattern

SPACE = EgressBatch.HEADER_SPACE
KEYED = TunnelFlag.OUTPUT_KEY | TunnelFlag.OUTPUT_CHECKSUM | TunnelFlag.OUTPUT_SEQUENCE


def bench_of(frames: list[tuple[VnetHeader, bytes]], flags: int = 0, **fields: Any) -> Egress:
    record = make_record(vnet_header=10, flags=flags, **fields)
    return Egress(frames, record, datagrams=EgressBatch.DATAGRAMS, header_space=SPACE)


class TestHeadersBeyondTheSpace:
    """Nothing is waited for that cannot come."""

    @pytest.mark.parametrize("start", [24616, 24624, 32000, 65000])
    @pytest.mark.parametrize("flags", [0, KEYED])
    def test_headers_that_never_fit_are_refused(self, codec: Any, start: int, flags: int) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 0, 100, start, 16)
        bench = bench_of([(meta, chain(start) + pattern(500))], flags)
        assert bench.run(codec) == (0, 1, 1)
        assert drops(bench.after.tx_drops) == {DropReason.BAD_INNER: 1}

    @pytest.mark.parametrize("flags", [0, KEYED])
    def test_the_longest_that_fits_is_sent_one_a_turn(self, codec: Any, flags: int) -> None:
        start = (SPACE - (16 if flags else 4) - 20) // 8 * 8
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 0, 100, start, 16)
        bench = bench_of([(meta, chain(start) + pattern(250))], flags)
        assert [bench.run(codec)[:2] for _ in range(3)] == [(1, 0), (1, 0), (1, 1)]

    def test_those_behind_it_are_sent(self, codec: Any) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 0, 100, 30000, 16)
        good = VnetHeader(), Udp(payload=b"over").build()
        bench = bench_of([(meta, chain(30000) + pattern(500)), good])
        assert bench.run(codec) == (1, 2, 1)

    def test_an_ethernet_frame_is_no_exception(self, codec: Any) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 0, 100, 30014, 16)
        frame = ethernet(chain(30000) + pattern(500), 0x86DD)
        assert bench_of([(meta, frame)], TunnelFlag.ETHERNET).run(codec) == (0, 1, 1)


class TestSegments:
    """As few bytes for each, or as many, as a kernel cuts."""

    @pytest.mark.parametrize(
        ("size", "verdict"), [(1, DropReason.BAD_INNER), (7, DropReason.BAD_INNER), (8, 0)]
    )
    def test_tcp_segments_carry_eight_bytes(self, codec: Any, size: int, verdict: int) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV4, 0, size, 20, 16)
        bench = bench_of([(meta, Tcp(payload=pattern(800), partial=True).build())])
        bench.run(codec)
        assert bench.verdicts == [verdict]

    @pytest.mark.parametrize(("length", "verdict"), [(1280, 0), (1281, DropReason.BAD_INNER)])
    def test_a_udp_super_packet_has_128_at_most(
        self, codec: Any, length: int, verdict: int
    ) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 0, 10, 20, 6)
        bench = bench_of([(meta, Udp(payload=pattern(length), partial=True).build())])
        bench.run(codec)
        assert bench.verdicts == [verdict]

    def test_a_datagram_of_one_byte_is_sent(self, codec: Any) -> None:
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 0, 1, 20, 6)
        bench = bench_of([(meta, Udp(payload=b"x", partial=True).build())])
        assert bench.run(codec) == (1, 1, 0)


def drain(codec: Any, bench: Egress) -> list[tuple[int, int, int]]:
    """Run to the end; every call makes progress, or this fails."""
    calls, first, before = list[tuple[int, int, int]](), 0, 0
    table = rows(bench.frame_table, Frame)
    while first < len(bench.frames):
        calls.append(bench.run(codec, first))
        filled, first, _refused = calls[-1]
        assert filled or first != before, "neither a datagram nor a frame"
        before = first
    for row, verdict in zip(table, bench.verdicts, strict=True):
        assert verdict is DropReason.NONE or row.done == 0
    return calls


@settings(max_examples=300, deadline=None, database=None)
@given(random=st.randoms(use_true_random=True))
def test_any_frame_leaves_in_bounded_turns_and_is_sent_or_counted(random: Random) -> None:
    """Both twins, in the geometry of a real batch."""
    require.extension()
    from gred.dataplane import _codec

    ethernet_device = random.random() < 0.3
    frames = [any_super_frame(random, ethernet_device=ethernet_device) for _ in range(4)]
    flags = random.choice([0, KEYED]) | (TunnelFlag.ETHERNET if ethernet_device else 0)
    fields = {"path_mtu": random.choice([0xFFFFFFFF, 0xFFFFFFFF, 1476, 100])}
    native, pure = bench_of(frames, flags, **fields), bench_of(frames, flags, **fields)
    calls = drain(_codec, native)
    assert sum(refused for *_, refused in calls) == sum(native.after.tx_drops)
    sent = sum(filled for filled, *_ in calls)
    assert sent == native.after.tx_packets
    assert sent <= len(frames) * 65536 // 8
    if sent < 300:  # what takes the twin long tells no more
        assert drain(pure_codec, pure) == calls
        assert pure.memory == native.memory
    for row, (meta, frame), verdict in zip(
        rows(native.frame_table, Frame), frames, native.verdicts, strict=True
    ):
        if verdict is DropReason.NONE and row.done:
            is_udp = meta.gso_type & ~vnet.GSO_ECN == vnet.GSO_UDP_L4
            header = 8 if is_udp else frame[meta.csum_start + 12] >> 4 << 2
            assert row.done == len(frame) - meta.csum_start - header


def test_hostile_frames_are_of_all_kinds() -> None:
    """Of what is drawn some is sent whole, some cut, some refused for each reason."""
    require.extension()
    from gred.dataplane import _codec

    random = Random(7)  # noqa: S311 - no secret
    found = set[DropReason]()
    cut = 0
    for _ in range(400):
        bench = bench_of([any_super_frame(random, ethernet_device=False)])
        cut += len(drain(_codec, bench)) > 1
        found.update(bench.verdicts)
    assert found >= {
        DropReason.NONE,
        DropReason.BAD_INNER,
        DropReason.TRUNCATED,
        DropReason.UNKNOWN_PROTOCOL,
    }
    assert cut


def test_a_chain_is_what_ipv6_readers_take_it_for() -> None:
    scapy = pytest.importorskip("scapy.layers.inet6")
    packet = scapy.IPv6(chain(48) + b"data")
    assert packet.plen == struct.unpack_from("!H", chain(48) + b"data", 4)[0]
