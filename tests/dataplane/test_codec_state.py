"""Ingress: congestion marks and sequence numbers."""

import struct
from collections.abc import Iterable
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6
from gred.wire.ip import CE, ECT_0, ECT_1, NOT_ECT
from tests.dataplane.benches import Ingress, drops, gre, make_record, outer
from tests.dataplane.packets import Packet, ethernet

INNER = Packet().ip(b"payload")

# RFC 6040 §4.2, figure 4. Rows: inner; columns: outer Not-ECT, ECT(0), ECT(1), CE. None: drop.
FIGURE_4 = {
    NOT_ECT: (NOT_ECT, NOT_ECT, NOT_ECT, None),
    ECT_0: (ECT_0, ECT_0, ECT_1, CE),
    ECT_1: (ECT_1, ECT_1, ECT_1, CE),
    CE: (CE, CE, CE, CE),
}
COLUMNS = (NOT_ECT, ECT_0, ECT_1, CE)
CASES = [
    (inner, outside, result)
    for inner, row in FIGURE_4.items()
    for outside, result in zip(COLUMNS, row, strict=True)
]


class TestEcn:
    """RFC 6040 §4.2."""

    @pytest.mark.parametrize("dscp", [0, 0xB8])
    @pytest.mark.parametrize(("inner", "outside", "result"), CASES)
    def test_figure_4_for_ipv4(
        self, codec: Any, dscp: int, inner: int, outside: int, result: int | None
    ) -> None:
        packet = Packet(tos=dscp | inner).ip(b"payload")
        bench = Ingress([outer(gre(packet), tos=0x28 | outside)])
        frames = bench.frames(codec)
        if result is None:
            assert (frames, bench.verdicts) == ([], [DropReason.ECN_ERR])
            return
        assert frames == [Packet(tos=dscp | result).ip(b"payload")]
        assert checksum(frames[0][:20]) == 0

    @pytest.mark.parametrize(("inner", "outside", "result"), CASES)
    def test_figure_4_for_ipv6(
        self, codec: Any, inner: int, outside: int, result: int | None
    ) -> None:
        packet = Packet(version=6, tos=0xB8 | inner, flow_label=0xFFFFF)
        bench = Ingress([outer(gre(packet.ip(b""), PROTOCOL_IPV6), tos=outside)])
        if result is None:
            assert (bench.frames(codec), bench.verdicts) == ([], [DropReason.ECN_ERR])
            return
        expected = Packet(version=6, tos=0xB8 | result, flow_label=0xFFFFF).ip(b"")
        assert bench.frames(codec) == [expected]

    @pytest.mark.parametrize(("inner", "outside", "result"), CASES)
    @pytest.mark.parametrize("version", [4, 6])
    def test_figure_4_for_ip_in_ethernet(
        self, codec: Any, version: int, inner: int, outside: int, result: int | None
    ) -> None:
        ethertype = PROTOCOL_IPV4 if version == 4 else PROTOCOL_IPV6
        frame = ethernet(Packet(version=version, tos=inner).ip(b""), ethertype)
        record = make_record(flags=TunnelFlag.ETHERNET)
        bench = Ingress([outer(gre(frame, PROTOCOL_ETHERNET), tos=outside)], [record])
        if result is None:
            assert (bench.frames(codec), bench.verdicts) == ([], [DropReason.ECN_ERR])
            return
        changed = Packet(version=version, tos=result).ip(b"")
        assert bench.frames(codec) == [ethernet(changed, ethertype)]

    @pytest.mark.parametrize(
        "frame",
        [
            ethernet(INNER, tags=b"\x81\0\0\1"),
            ethernet(INNER, 0x0806),
            ethernet(INNER[:19]),
            ethernet(INNER, PROTOCOL_IPV6),
        ],
        ids=["VLAN", "ARP", "short", "v4 as v6"],
    )
    def test_other_ethernet_frames_pass_marked_or_not(self, codec: Any, frame: bytes) -> None:
        record = make_record(flags=TunnelFlag.ETHERNET)
        bench = Ingress([outer(gre(frame, PROTOCOL_ETHERNET), tos=CE)], [record])
        assert bench.frames(codec) == [frame]

    @pytest.mark.parametrize("identification", range(0, 0x10000, 251))
    def test_the_incremental_checksum_is_right(self, codec: Any, identification: int) -> None:
        """RFC 1624 §3."""
        packet = Packet(tos=ECT_0, identification=identification).ip(b"")
        (frame,) = Ingress([outer(gre(packet), tos=CE)]).frames(codec)
        assert checksum(frame[:20]) == 0


class TestSequence:
    """RFC 2890 §2.2, and the way back of a peer that restarted."""

    def receive(
        self, codec: Any, numbers: Iterable[int], **fields: Any
    ) -> tuple[list[DropReason], Any]:
        datagrams = [
            outer(gre(INNER, flags=0x1000, options=struct.pack("!I", number & 0xFFFFFFFF)))
            for number in numbers
        ]
        record = make_record(flags=TunnelFlag.INPUT_SEQUENCE, **fields)
        bench = Ingress(datagrams, [record], tun_writes=len(datagrams), pieces=len(datagrams))
        bench.run(codec)
        return bench.verdicts, bench.after()

    def test_any_first_number_is_accepted(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, [0x80000005])
        assert verdicts == [DropReason.NONE]
        assert (record.input_next, record.input_seen, record.rx_lost) == (0x80000006, 1, 0)

    def test_numbers_in_order_are_accepted(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, range(20))
        assert not any(verdicts)
        assert (record.input_next, record.rx_lost, record.rx_resyncs) == (20, 0, 0)

    def test_numbers_wrap(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, [0xFFFFFFFE, 0xFFFFFFFF, 0, 1])
        assert not any(verdicts)
        assert (record.input_next, record.rx_lost) == (2, 0)

    def test_after_the_wrap_an_old_number_is_still_old(self, codec: Any) -> None:
        """Not as the kernel, where the expected number 0 means that nothing was seen."""
        verdicts, _ = self.receive(codec, [0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFE])
        assert verdicts[2] == DropReason.OUT_OF_SEQ

    def test_gaps_are_accepted_and_counted(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, [5, 8, 9, 20])
        assert not any(verdicts)
        assert record.rx_lost == 2 + 10

    @pytest.mark.parametrize("number", [9, 8, 0, -1000])
    def test_duplicates_and_late_packets_are_dropped(self, codec: Any, number: int) -> None:
        verdicts, record = self.receive(codec, [9, number])
        assert verdicts == [DropReason.NONE, DropReason.OUT_OF_SEQ]
        assert drops(record.rx_drops) == {DropReason.OUT_OF_SEQ: 1}
        assert record.input_next == 10

    @pytest.mark.parametrize(
        ("behind", "reason"), [(1024, DropReason.OUT_OF_SEQ), (1025, DropReason.NONE)]
    )
    def test_far_behind_means_that_the_peer_restarted(
        self, codec: Any, behind: int, reason: DropReason
    ) -> None:
        verdicts, record = self.receive(codec, [5000, 5001 - behind])
        assert verdicts[1] == reason
        assert record.rx_resyncs == (reason == DropReason.NONE)

    def test_half_the_circle_behind_is_a_restart_too(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, [0, 1 + (1 << 31)])
        assert verdicts[1] == DropReason.NONE
        assert (record.rx_resyncs, record.rx_lost) == (1, 0)

    def test_eight_old_numbers_in_a_row_are_a_restart(self, codec: Any) -> None:
        verdicts, record = self.receive(codec, [100, *range(12)])
        assert verdicts == [DropReason.NONE] + [DropReason.OUT_OF_SEQ] * 7 + [DropReason.NONE] * 5
        assert (record.rx_resyncs, record.input_next, record.old_run) == (1, 12, 0)

    def test_late_packets_that_are_not_in_a_row_are_none(self, codec: Any) -> None:
        late = [number for start in range(0, 80, 10) for number in range(start, start + 7)]
        verdicts, record = self.receive(codec, [100, *late])
        assert set(verdicts[1:]) == {DropReason.OUT_OF_SEQ}
        assert record.rx_resyncs == 0

    def test_a_new_number_ends_the_row(self, codec: Any) -> None:
        verdicts, _ = self.receive(codec, [100, *range(7), 101, *range(7, 14)])
        assert verdicts.count(DropReason.OUT_OF_SEQ) == 14

    def test_the_row_goes_on_in_the_next_batch(self, codec: Any) -> None:
        fields = {"input_next": 100, "input_seen": 1, "old_run": 7, "old_next": 50}
        verdicts, record = self.receive(codec, [50], **fields)
        assert verdicts == [DropReason.NONE]
        assert (record.rx_resyncs, record.input_next) == (1, 51)

    def test_a_packet_without_a_number_is_refused(self, codec: Any) -> None:
        record = make_record(flags=TunnelFlag.INPUT_SEQUENCE)
        bench = Ingress([outer(gre(INNER))], [record])
        bench.run(codec)
        assert bench.verdicts == [DropReason.SEQ_MISSING]
