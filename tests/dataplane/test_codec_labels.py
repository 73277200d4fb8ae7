"""Flow labels of outer IPv6 headers: one for each inner flow, or a fixed one."""

from typing import Any

from gred.dataplane.layout import Frame, TunnelFlag
from gred.wire.vnet import GSO_TCPV4, NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import LOCAL6, REMOTE6, Egress, Tunnel, make_record, rows
from tests.dataplane.packets import Packet, Tcp, Udp

ONE = Tcp(ports=(1, 2), payload=b"one").build()
MORE_OF_ONE = Tcp(ports=(1, 2), sequence=3, payload=bytes(900)).build()
TWO = Tcp(ports=(1, 3), payload=b"two").build()
OTHER = Udp(version=6, ports=(1, 2), payload=b"other").build()


def labels(codec: Any, bench: Egress) -> list[int]:
    """The labels of all that *bench* sends, its flows told apart as in a tunnel's turn."""
    count = len(bench.frames)
    codec.order_frames(bench.arena, bench.frame_table, 0, 0, count, bench.tables.records, 1)
    return [sent.flow_label for sent in sorted(bench.all(codec), key=lambda sent: sent.data)]


def over_ipv6(**fields: Any) -> Tunnel:
    return make_record(family=6, local=LOCAL6, remote=REMOTE6, **fields)


def by_flow(value: int = 0x12345678, **fields: Any) -> Tunnel:
    return over_ipv6(flags=TunnelFlag.LABELS_FLOWS, flow_label=value, **fields)


class TestByFlow:
    def test_a_flow_keeps_its_label(self, codec: Any) -> None:
        first = labels(codec, Egress([ONE, MORE_OF_ONE], by_flow()))
        assert len(set(first)) == 1
        assert labels(codec, Egress([MORE_OF_ONE, ONE], by_flow())) == first

    def test_flows_have_different_ones(self, codec: Any) -> None:
        assert len(set(labels(codec, Egress([ONE, TWO, OTHER, Packet().ip(b"")], by_flow())))) == 4

    def test_they_tell_nobody_of_the_flow(self, codec: Any) -> None:
        assert labels(codec, Egress([ONE], by_flow(1))) != labels(codec, Egress([ONE], by_flow(2)))

    def test_all_segments_of_a_packet_have_one(self, codec: Any) -> None:
        packet = Tcp(ports=(1, 2), payload=bytes(5000), partial=True).build()
        meta = VnetHeader(
            flags=NEEDS_CSUM,
            gso_type=GSO_TCPV4,
            hdr_len=40,
            gso_size=1000,
            csum_start=20,
            csum_offset=16,
        )
        whole = VnetHeader(), ONE
        found = labels(codec, Egress([(meta, packet), whole], by_flow(vnet_header=10)))
        assert len(found) == 6
        assert len(set(found)) == 1

    def test_none_is_zero_or_too_long(self, codec: Any) -> None:
        """Of 2 ** 32 flows one in a million would have no label: RFC 6438 section 3."""
        flows = [0, 1, 0xFFFFFFFF, *range(0x10000, 0x10000 + 61)]
        bench = Egress([ONE] * len(flows), by_flow(), flows=flows)
        found = [sent.flow_label for sent in bench.all(codec)]
        assert all(0 < label <= 0xFFFFF for label in found)
        assert len(set(found)) > 60
        # mix(0) of a value of 0 is 0.
        (sent,) = Egress([ONE], by_flow(0), flows=[0]).all(codec)
        assert sent.flow_label == 1

    def test_a_frame_that_was_not_queued_has_one_too(self, codec: Any) -> None:
        bench = Egress([ONE], by_flow())
        assert rows(bench.frame_table, Frame)[0].flow == 0
        (sent,) = bench.all(codec)
        assert sent.flow_label


def test_a_fixed_label_is_that_of_all(codec: Any) -> None:
    for label in (0, 7, 0xFFFFF):
        found = labels(codec, Egress([ONE, TWO, OTHER], over_ipv6(flow_label=label)))
        assert found == [label] * 3
