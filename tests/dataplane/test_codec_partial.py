"""Ingress: packets that receive offload has merged, or whose checksum was left to hardware.

Their transport checksum field holds the pseudo-header sum; their GRE checksum cannot be right.
"""

from dataclasses import replace
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag
from gred.wire import vnet
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6, GreHeader
from gred.wire.ip import MORE_FRAGMENTS
from gred.wire.transport import ACK, CWR, FIN, PSH
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import Ingress, drops, gre, make_record, outer
from tests.dataplane.packets import Tcp, Udp, ethernet, pattern

TSO = TunnelFlag.WRITE_TSO
MTU = 1040  # leaves 1000 bytes for the payload of an IPv4 segment without TCP options


def arrive(*packets: Tcp | Udp | bytes, record: Any, **options: Any) -> Ingress:
    datagrams = []
    for packet in packets:
        inner = packet if isinstance(packet, bytes) else packet.build()
        protocol = PROTOCOL_IPV4 if inner[0] >> 4 == 4 else PROTOCOL_IPV6
        if record.flags & TunnelFlag.ETHERNET:
            inner, protocol = ethernet(inner, protocol), PROTOCOL_ETHERNET
        datagrams.append(outer(gre(inner, protocol)))
    return Ingress(datagrams, [record], **options)


def with_vnet(flags: int = TSO, mtu: int = MTU) -> Any:
    return make_record(vnet_header=10, flags=flags, mtu=mtu)


def plain(mtu: int = MTU, flags: int = 0) -> Any:
    return make_record(mtu=mtu, flags=flags)


class TestWithVnetHeader:
    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize("kind", [Tcp, Udp])
    def test_the_kernel_is_told_to_finish_the_checksum(
        self, codec: Any, version: int, kind: Any
    ) -> None:
        packet = kind(version=version, payload=pattern(300), partial=True)
        (frame,) = arrive(packet, record=with_vnet()).frames(codec)
        start, offset = (20 if version == 4 else 40), (16 if kind is Tcp else 6)
        assert frame == VnetHeader(NEEDS_CSUM, 0, 0, 0, start, offset).pack() + packet.build()

    @pytest.mark.parametrize(("version", "size"), [(4, 1000), (6, 980)])
    @pytest.mark.parametrize(("flags", "ecn"), [(ACK, 0), (ACK | CWR, vnet.GSO_ECN)])
    def test_the_kernel_is_told_to_cut_what_was_merged(
        self, codec: Any, version: int, size: int, flags: int, ecn: int
    ) -> None:
        packet = Tcp(version=version, payload=pattern(5000), flags=flags, partial=True)
        bench = arrive(packet, record=with_vnet())
        (frame,) = bench.frames(codec)
        gso_type = (vnet.GSO_TCPV4 if version == 4 else vnet.GSO_TCPV6) | ecn
        start = 20 if version == 4 else 40
        meta = VnetHeader(NEEDS_CSUM, gso_type, start + 20, size, start, 16)
        assert frame == meta.pack() + packet.build()
        assert bench.after().rx_packets == 1

    def test_the_mac_header_does_not_count_for_the_segment_size(self, codec: Any) -> None:
        packet = Tcp(payload=pattern(5000), partial=True)
        record = with_vnet(TSO | TunnelFlag.ETHERNET)
        (frame,) = arrive(packet, record=record).frames(codec)
        expected = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV4, 54, 1000, 34, 16)
        assert frame == expected.pack() + ethernet(packet.build())

    def test_what_fits_the_tunnel_is_not_cut(self, codec: Any) -> None:
        packet = Tcp(payload=pattern(1000), partial=True)
        (frame,) = arrive(packet, record=with_vnet()).frames(codec)
        assert VnetHeader.parse(frame).gso_type == vnet.GSO_NONE

    @pytest.mark.parametrize("mtu", [0, 39, 40])
    def test_an_mtu_without_room_for_payload_cuts_nothing(self, codec: Any, mtu: int) -> None:
        packet = Tcp(payload=pattern(1000), partial=True)
        (frame,) = arrive(packet, record=with_vnet(mtu=mtu)).frames(codec)
        assert VnetHeader.parse(frame).gso_type == vnet.GSO_NONE

    def test_a_device_without_tso_gets_segments(self, codec: Any) -> None:
        packet = Tcp(payload=pattern(2500), partial=True)
        frames = arrive(packet, record=with_vnet(flags=0)).frames(codec)
        bare = arrive(packet, record=plain()).frames(codec)
        assert frames == [VnetHeader().pack() + segment for segment in bare]
        assert [len(segment) for segment in bare] == [1040, 1040, 540]


class TestWithoutVnetHeader:
    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize("kind", [Tcp, Udp])
    @pytest.mark.parametrize("length", range(0, 60, 3))
    def test_the_checksum_is_completed(
        self, codec: Any, version: int, kind: Any, length: int
    ) -> None:
        packet = kind(version=version, payload=pattern(length, seed=length), partial=True)
        frames = arrive(packet, record=plain()).frames(codec)
        assert frames == [replace(packet, partial=False).build()]

    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize("length", [1001, 2000, 4321])
    def test_what_was_merged_is_cut(self, codec: Any, version: int, length: int) -> None:
        size = 1000 if version == 4 else 980
        packet = Tcp(version=version, payload=pattern(length), flags=ACK | PSH | FIN, partial=True)
        bench = arrive(packet, record=plain())
        frames = bench.frames(codec)
        for index, frame in enumerate(frames):
            done = index * size
            last = index == len(frames) - 1
            segment = replace(
                packet,
                sequence=packet.sequence + done,
                identification=packet.identification + index,
                payload=packet.payload[done : done + size],
                flags=ACK | PSH | FIN if last else ACK,
                partial=False,
            )
            assert frame == segment.build()
            assert bench.tun_write_row(index).packets == 1
        assert len(frames) == (length + size - 1) // size

    def test_ethernet_is_cut_behind_the_mac_header(self, codec: Any) -> None:
        packet = Tcp(payload=pattern(2000), partial=True)
        frames = arrive(packet, record=plain(flags=TunnelFlag.ETHERNET)).frames(codec)
        assert [len(frame) for frame in frames] == [1054, 1054]

    @pytest.mark.parametrize("lack", [{"tun_writes": 2}, {"pieces": 5}, {"header_space": 191}])
    def test_what_does_not_fit_whole_is_dropped(self, codec: Any, lack: dict[str, int]) -> None:
        small = Tcp(payload=b"small", ports=(1, 2))
        bench = arrive(Tcp(payload=pattern(3000), partial=True), small, record=plain(), **lack)
        assert bench.frames(codec) == [small.build()]
        assert bench.verdicts == [DropReason.NO_BUFS, DropReason.NONE]
        assert drops(bench.after().rx_drops) == {DropReason.NO_BUFS: 1}
        assert (bench.after().rx_packets, bench.after().rx_bytes) == (1, len(small.build()))


class TestRecognition:
    """What is partial, and what only looks like it."""

    @pytest.mark.parametrize(
        "packet",
        [
            Tcp(payload=pattern(100)),
            Tcp(payload=pattern(100), partial=True, fragment=MORE_FRAGMENTS),
            Tcp(payload=pattern(100), partial=True, fragment=1),
            Tcp(version=6, payload=pattern(100), partial=True).build()[:6]
            + b"\x3c"
            + Tcp(version=6, payload=pattern(100), partial=True).build()[7:],
            Udp(payload=pattern(100)).build()[:26] + b"\0\0" + pattern(100),
        ],
        ids=["finished", "first fragment", "later fragment", "behind options", "no checksum"],
    )
    def test_others_are_written_as_they_are(self, codec: Any, packet: Tcp | bytes) -> None:
        expected = packet if isinstance(packet, bytes) else packet.build()
        assert arrive(packet, record=with_vnet()).frames(codec) == [bytes(10) + expected]
        assert arrive(packet, record=plain()).frames(codec) == [expected]

    def test_ip_options_do_not_hide_it(self, codec: Any) -> None:
        packet = Tcp(payload=pattern(100), partial=True, options=b"\1" * 4)
        (frame,) = arrive(packet, record=with_vnet()).frames(codec)
        assert VnetHeader.parse(frame).csum_start == 24

    @pytest.mark.parametrize(
        ("flags", "reason"),
        [
            (0, DropReason.NONE),
            (TunnelFlag.INPUT_CHECKSUM_REQUIRED, DropReason.NONE),
            (TunnelFlag.INPUT_CHECKSUM_REFUSED, DropReason.CSUM_UNEXPECTED),
        ],
    )
    def test_a_wrong_gre_checksum_is_excused(
        self, codec: Any, flags: int, reason: DropReason
    ) -> None:
        header = GreHeader(protocol_type=PROTOCOL_IPV4, checksum=0x1234).pack()
        packet = Tcp(payload=pattern(5000), partial=True)
        bench = Ingress([outer(header + packet.build())], [with_vnet(flags | TSO)])
        bench.run(codec)
        assert bench.verdicts == [reason]

    def test_a_wrong_gre_checksum_of_another_protocol_is_not(self, codec: Any) -> None:
        header = GreHeader(protocol_type=PROTOCOL_ETHERNET, checksum=0x1234).pack()
        packet = Tcp(payload=pattern(500), partial=True)
        bench = Ingress([outer(header + packet.build())], [with_vnet()])
        bench.run(codec)
        assert bench.verdicts == [DropReason.CSUM_ERR]


class TestRuns:
    """Merged packets join merged packets."""

    @staticmethod
    def stream(*sizes: int, **fields: Any) -> list[Tcp]:
        packets, sequence = list[Tcp](), 1000
        for index, size in enumerate(sizes):
            packets.append(
                Tcp(
                    sequence=sequence,
                    identification=1 + 40 * index,
                    payload=pattern(size, seed=index),
                    partial=True,
                    **fields,
                )
            )
            sequence += size
        return packets

    def run(self, codec: Any, packets: list[Tcp]) -> list[int]:
        bench = arrive(*packets, record=with_vnet())
        count, _ = bench.run(codec)
        return [bench.tun_write_row(index).packets for index in range(count)]

    def test_merged_packets_join_whatever_their_ids(self, codec: Any) -> None:
        packets = self.stream(5000, 3000, 7001)
        bench = arrive(*packets, record=with_vnet())
        (frame,) = bench.frames(codec)
        payload = b"".join(packet.payload for packet in packets)
        assert frame[10:] == replace(packets[0], payload=payload).build()
        assert VnetHeader.parse(frame).gso_size == 1000

    def test_a_normal_packet_joins_a_merged_run(self, codec: Any) -> None:
        packets = self.stream(5000, 700, 1000)
        verified = [packets[0], *(replace(packet, partial=False) for packet in packets[1:])]
        assert self.run(codec, packets) == [3]
        assert self.run(codec, verified) == [3]

    def test_a_merged_packet_joins_no_normal_run(self, codec: Any) -> None:
        assert self.run(codec, self.stream(1000, 5000)) == [1, 1]

    def test_psh_ends_a_merged_run(self, codec: Any) -> None:
        one, two, three = self.stream(5000, 5000, 5000)
        assert self.run(codec, [one, replace(two, flags=ACK | PSH), three]) == [2, 1]

    def test_other_options_end_a_merged_run(self, codec: Any) -> None:
        one, two = self.stream(5000, 5000)
        assert self.run(codec, [one, replace(two, tcp_options=b"\1\1\1\1")]) == [1, 1]

    def test_unfinished_packets_join_as_finished_ones_do(self, codec: Any) -> None:
        packets = self.stream(500, 500)
        packets[1] = replace(packets[1], identification=2)
        assert self.run(codec, packets) == [2]

    def test_unfinished_udp_joins_too(self, codec: Any) -> None:
        packets = [Udp(payload=b"12345678", partial=True, identification=id_) for id_ in (1, 2)]
        record = with_vnet(TunnelFlag.WRITE_USO)
        bench = arrive(*packets, record=record)
        assert bench.run(codec) == (1, 0)
