"""Ingress: packets of one flow leave as one super-packet, and only those that belong together."""

import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gred.dataplane.hashes import mix
from gred.dataplane.layout import Transport, TunnelFlag
from gred.wire import vnet
from gred.wire.checksum import checksum, ones_complement_sum, pseudo_header_sum
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6
from gred.wire.ip import DONT_FRAGMENT, MORE_FRAGMENTS
from gred.wire.transport import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from gred.wire.vnet import VnetHeader
from tests.dataplane.benches import Ingress, drops, gre, make_record, outer
from tests.dataplane.packets import Packet, Tcp, Udp, ethernet, pattern

BOTH = TunnelFlag.WRITE_TSO | TunnelFlag.WRITE_USO
SIZE = 100
Inner = Tcp | Udp


def tcp_stream(count: int, **fields: Any) -> list[Tcp]:
    """Consecutive segments of SIZE bytes."""
    first = Tcp(**fields)
    return [
        replace(
            first,
            sequence=first.sequence + SIZE * index,
            identification=(first.identification + index) & 0xFFFF,
            payload=pattern(SIZE, seed=index),
        )
        for index in range(count)
    ]


def udp_stream(count: int, **fields: Any) -> list[Udp]:
    first = Udp(**fields)
    return [
        replace(
            first,
            identification=(first.identification + index) & 0xFFFF,
            payload=pattern(SIZE, seed=index),
        )
        for index in range(count)
    ]


def arrive(*packets: Inner | bytes, record: Any = None, **options: Any) -> Ingress:
    """Put packets on a bench for a device that takes super-packets."""
    datagrams = []
    for packet in packets:
        inner = packet if isinstance(packet, bytes) else packet.build()
        protocol = PROTOCOL_IPV4 if inner[0] >> 4 == 4 else PROTOCOL_IPV6
        datagrams.append(outer(gre(inner, protocol)))
    record = record or make_record(vnet_header=10, flags=BOTH)
    return Ingress(datagrams, [record], **options)


@dataclass(frozen=True)
class Written:
    """A written frame: vnet header, packet, and how many packets it is made of."""

    meta: VnetHeader
    data: bytes
    packets: int


def written(codec: Any, *packets: Inner | bytes, **options: Any) -> list[Written]:
    bench = arrive(*packets, **options)
    frames = bench.frames(codec)
    return [
        Written(VnetHeader.parse(frame), frame[10:], bench.tun_write_row(index).packets)
        for index, frame in enumerate(frames)
    ]


def counts(codec: Any, *packets: Inner | bytes, **options: Any) -> list[int]:
    return [frame.packets for frame in written(codec, *packets, **options)]


class TestSuperPacket:
    """What a run becomes."""

    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize("options", [b"", b"\x01\x01\x08\x0a12345678"])
    def test_tcp_segments_become_one(self, codec: Any, version: int, options: bytes) -> None:
        stream = tcp_stream(5, version=version, tcp_options=options)
        (frame,) = written(codec, *stream)
        payload = b"".join(packet.payload for packet in stream)
        assert frame.data == replace(stream[0], payload=payload, partial=True).build()
        header = (20 if version == 4 else 40) + 20 + len(options)
        gso_type = vnet.GSO_TCPV4 if version == 4 else vnet.GSO_TCPV6
        start = header - 20 - len(options)
        assert frame.meta == VnetHeader(vnet.NEEDS_CSUM, gso_type, header, SIZE, start, 16)
        assert frame.packets == 5

    @pytest.mark.parametrize("version", [4, 6])
    def test_udp_datagrams_become_one(self, codec: Any, version: int) -> None:
        stream = udp_stream(5, version=version)
        (frame,) = written(codec, *stream)
        payload = b"".join(packet.payload for packet in stream)
        assert frame.data == replace(stream[0], payload=payload, partial=True).build()
        start = 20 if version == 4 else 40
        gso = vnet.GSO_UDP_L4
        assert frame.meta == VnetHeader(vnet.NEEDS_CSUM, gso, start + 8, SIZE, start, 6)

    @pytest.mark.parametrize("version", [4, 6])
    def test_ethernet_frames_with_equal_mac_headers_become_one(
        self, codec: Any, version: int
    ) -> None:
        stream = tcp_stream(3, version=version)
        ethertype = PROTOCOL_IPV4 if version == 4 else PROTOCOL_IPV6
        frames = [ethernet(packet.build(), ethertype) for packet in stream]
        (frame,) = self.arrive_as_ethernet(codec, frames)
        payload = b"".join(packet.payload for packet in stream)
        whole = replace(stream[0], payload=payload, partial=True).build()
        assert frame[10:] == ethernet(whole, ethertype)
        meta = VnetHeader.parse(frame)
        assert (meta.csum_start, meta.hdr_len) == ((34, 54) if version == 4 else (54, 74))

    def test_ethernet_frames_with_other_mac_headers_do_not(self, codec: Any) -> None:
        first, second = (ethernet(packet.build()) for packet in tcp_stream(2))
        frames = [first, second[:5] + b"\x09" + second[6:]]
        assert len(self.arrive_as_ethernet(codec, frames)) == 2

    @pytest.mark.parametrize("tags", [b"\x81\0\0\1", b"\x88\xa8\0\1"])
    def test_tagged_frames_are_not_looked_into(self, codec: Any, tags: bytes) -> None:
        frames = [ethernet(packet.build(), tags=tags) for packet in tcp_stream(2)]
        assert len(self.arrive_as_ethernet(codec, frames)) == 2

    def test_padded_frames_do_not_join_but_end_the_runs(self, codec: Any) -> None:
        """Their flow is not read, so no later packet may overtake them."""
        stream = [replace(p, identification=9) for p in udp_stream(3, fragment=DONT_FRAGMENT)]
        one, two, three = (ethernet(packet.build()) for packet in stream)
        assert len(self.arrive_as_ethernet(codec, [one, three])) == 1
        assert len(self.arrive_as_ethernet(codec, [one, two + b"pad", three])) == 3

    def arrive_as_ethernet(self, codec: Any, frames: list[bytes]) -> list[bytes]:
        record = make_record(vnet_header=10, flags=BOTH | TunnelFlag.ETHERNET)
        data = [outer(gre(frame, PROTOCOL_ETHERNET)) for frame in frames]
        return Ingress(data, [record]).frames(codec)

    def test_payload_is_not_copied_and_nothing_is_counted_twice(self, codec: Any) -> None:
        bench = arrive(*tcp_stream(4))
        assert bench.run(codec) == (1, 0)
        row = bench.tun_write_row(0)
        assert (row.pieces, row.length, row.fd) == (4, 10 + 40 + 4 * SIZE, 7)
        after = bench.after()
        assert (after.rx_packets, after.rx_bytes) == (4, 4 * (40 + SIZE))

    def test_a_run_of_one_is_written_as_it_came(self, codec: Any) -> None:
        (packet,) = tcp_stream(1)
        (frame,) = written(codec, packet)
        assert frame == Written(VnetHeader(), packet.build(), 1)

    def test_psh_and_fin_are_gathered(self, codec: Any) -> None:
        one, two, three = tcp_stream(3)
        (frame,) = written(codec, one, two, replace(three, flags=ACK | PSH | FIN))
        assert frame.data[33] == ACK | PSH | FIN

    def test_cwr_of_the_first_marks_the_gso_type(self, codec: Any) -> None:
        one, two = tcp_stream(2)
        (frame,) = written(codec, replace(one, flags=ACK | CWR), two)
        assert frame.meta.gso_type == vnet.GSO_TCPV4 | vnet.GSO_ECN

    def test_frames_leave_in_the_order_in_which_runs_began(self, codec: Any) -> None:
        a, b = tcp_stream(3), tcp_stream(3, ports=(40001, 80))
        assert slot_of(a[0]) != slot_of(b[0])
        frames = written(codec, a[0], b[0], Packet().ip(b"x"), b[1], a[1])
        assert [frame.packets for frame in frames] == [2, 2, 1]
        assert frames[0].data[20:24] == a[0].build()[20:24]


class TestDevice:
    """The device says what it takes."""

    @pytest.mark.parametrize(
        ("flags", "tcp", "udp"),
        [
            (0, [1, 1], [1, 1]),
            (TunnelFlag.WRITE_TSO, [2], [1, 1]),
            (TunnelFlag.WRITE_USO, [1, 1], [2]),
        ],
    )
    def test_only_what_it_takes_is_made(
        self, codec: Any, flags: int, tcp: list[int], udp: list[int]
    ) -> None:
        record = make_record(vnet_header=10, flags=flags)
        assert counts(codec, *tcp_stream(2), record=record) == tcp
        assert counts(codec, *udp_stream(2), record=record) == udp

    def test_tunnels_are_apart(self, codec: Any) -> None:
        records = [
            make_record(vnet_header=10, flags=BOTH | TunnelFlag.INPUT_KEY, input_key=key)
            for key in (1, 2)
        ]
        one, two = tcp_stream(2)
        data = [
            outer(gre(packet.build(), flags=0x2000, options=bytes([0, 0, 0, key])))
            for packet, key in ((one, 1), (two, 2))
        ]
        assert len(Ingress(data, records).frames(codec)) == 2


ONE, TWO, THREE = tcp_stream(3)
ONE6, TWO6 = tcp_stream(2, version=6)


class TestJoining:
    """Rules of the kernel's GRO: inet_gro_receive(), tcp_gro_receive()."""

    @pytest.mark.parametrize(
        "second",
        [
            replace(TWO, tos=4),
            replace(TWO, ttl=62),
            replace(TWO, fragment=DONT_FRAGMENT),
            replace(TWO, identification=7),
            replace(TWO, identification=1),
            replace(TWO, ports=(40001, 80)),
            replace(TWO, ports=(40000, 81)),
            replace(TWO, source=b"\x0a\0\0\x09"),
            replace(TWO, sequence=TWO.sequence + 1),
            replace(TWO, sequence=TWO.sequence - 1),
            replace(TWO, sequence=ONE.sequence),
            replace(TWO, acknowledgment=2001),
            replace(TWO, window=501),
            replace(TWO, tcp_options=b"\1\1\1\1"),
            replace(TWO, flags=ACK | CWR),
            replace(TWO, flags=ACK | ECE),
            replace(TWO, flags=ACK | URG),
            replace(TWO, flags=ACK | RST),
            replace(TWO, flags=ACK | SYN),
            replace(TWO, flags=0),
            replace(TWO, payload=pattern(SIZE + 1)),
            replace(TWO, payload=b""),
            replace(TWO, options=b"\1\1\1\1"),
            Udp(ports=TWO.ports, payload=TWO.payload),
        ],
    )
    def test_what_differs_does_not_join(self, codec: Any, second: Inner) -> None:
        frames = written(codec, ONE, second)
        assert [frame.packets for frame in frames] == [1, 1]
        assert [frame.data for frame in frames] == [ONE.build(), second.build()]

    @pytest.mark.parametrize(
        "second",
        [
            replace(TWO6, tos=4),
            replace(TWO6, ttl=62),
            replace(TWO6, flow_label=1),
            replace(TWO6, destination=b"\xfd" + bytes(15)),
        ],
    )
    def test_what_differs_does_not_join_in_ipv6(self, codec: Any, second: Inner) -> None:
        assert counts(codec, ONE6, TWO6) == [2]
        assert counts(codec, ONE6, second) == [1, 1]

    def test_reserved_bits_of_the_tcp_header_count(self, codec: Any) -> None:
        """The AE bit of RFC 9768 is one."""
        data = bytearray(TWO.build())
        data[32] |= 1
        data[36:38] = b"\0\0"
        data[36:38] = tcp_checksum(data)
        assert counts(codec, ONE, bytes(data)) == [1, 1]

    def test_identifications_may_stand_still_with_df(self, codec: Any) -> None:
        stream = [replace(p, identification=9, fragment=DONT_FRAGMENT) for p in tcp_stream(3)]
        assert counts(codec, *stream) == [3]

    def test_identifications_may_not_stand_still_without_df(self, codec: Any) -> None:
        stream = [replace(packet, identification=9) for packet in tcp_stream(2)]
        assert counts(codec, *stream) == [1, 1]

    def test_the_second_packet_decides_which_it_is(self, codec: Any) -> None:
        stream = tcp_stream(3, fragment=DONT_FRAGMENT)
        assert counts(codec, *stream) == [3]
        assert counts(codec, *stream[:2], replace(stream[2], identification=1)) == [2, 1]
        still = [replace(packet, identification=9) for packet in stream]
        assert counts(codec, *still[:2], replace(still[2], identification=11)) == [2, 1]

    def test_identifications_wrap(self, codec: Any) -> None:
        assert counts(codec, *tcp_stream(3, identification=0xFFFF)) == [3]

    def test_sequence_numbers_wrap(self, codec: Any) -> None:
        assert counts(codec, *tcp_stream(3, sequence=0xFFFFFFFF - SIZE)) == [3]

    def test_a_short_segment_joins_and_ends_the_run(self, codec: Any) -> None:
        short = replace(TWO, payload=pattern(SIZE - 1))
        third = replace(THREE, sequence=THREE.sequence - 1)
        assert counts(codec, ONE, short, third) == [2, 1]

    @pytest.mark.parametrize("flag", [PSH, FIN])
    def test_psh_and_fin_end_the_run(self, codec: Any, flag: int) -> None:
        assert counts(codec, ONE, replace(TWO, flags=ACK | flag), THREE) == [2, 1]
        assert counts(codec, replace(ONE, flags=ACK | flag), TWO, THREE) == [1, 2]

    def test_a_damaged_packet_does_not_join(self, codec: Any) -> None:
        damaged = TWO.build()[:-1] + b"!"
        frames = written(codec, ONE, damaged, THREE)
        assert [frame.data for frame in frames] == [ONE.build(), damaged, THREE.build()]

    def test_a_damaged_packet_is_not_joined(self, codec: Any) -> None:
        damaged = ONE.build()[:-1] + b"!"
        frames = written(codec, damaged, TWO, THREE)
        assert [frame.packets for frame in frames] == [1, 2]
        assert frames[0].data == damaged

    def test_a_super_packet_has_at_most_65535_bytes(self, codec: Any) -> None:
        size = 6000
        stream = [
            replace(
                ONE,
                sequence=ONE.sequence + size * index,
                identification=1 + index,
                payload=pattern(size, seed=index),
            )
            for index in range(12)
        ]
        assert counts(codec, *stream) == [10, 2]

    def test_a_udp_run_has_at_most_64_packets(self, codec: Any) -> None:
        assert counts(codec, *udp_stream(70)) == [64, 6]

    def test_a_run_that_gets_no_piece_ends(self, codec: Any) -> None:
        bench = arrive(*tcp_stream(3), pieces=2)
        assert bench.run(codec) == (1, 1)
        assert bench.verdicts == [DropReason.NONE, DropReason.NONE, DropReason.NO_BUFS]
        assert drops(bench.after().rx_drops) == {DropReason.NO_BUFS: 1}
        assert bench.after().rx_packets == 2

    def test_what_has_no_frame_left_is_dropped(self, codec: Any) -> None:
        bench = arrive(ONE, replace(ONE, ports=(1, 2)), TWO, tun_writes=1)
        assert bench.run(codec) == (1, 1)
        assert bench.verdicts == [DropReason.NONE, DropReason.NO_BUFS, DropReason.NONE]

    @pytest.mark.parametrize("field", [0, 1])
    def test_udp_without_checksum_or_with_another_length_does_not_join(
        self, codec: Any, field: int
    ) -> None:
        one, two = (bytearray(packet.build()) for packet in udp_stream(2))
        two[26:28] = b"\0\0"
        if field:
            one, two = (bytearray(packet.build()) for packet in udp_stream(2))
            two[24:26] = (8 + SIZE - 1).to_bytes(2, "big")
        assert counts(codec, bytes(one), bytes(two)) == [1, 1]


class TestOrder:
    """The order within a flow never changes."""

    def test_a_packet_that_cannot_join_ends_the_run(self, codec: Any) -> None:
        ack = replace(TWO, payload=b"")
        assert counts(codec, ONE, ack, TWO) == [1, 1, 1]

    def test_a_fragment_ends_all_runs_of_its_tunnel(self, codec: Any) -> None:
        fragment = Packet(fragment=MORE_FRAGMENTS, protocol=6).ip(bytes(24))
        assert counts(codec, ONE, fragment, TWO) == [1, 1, 1]

    def test_an_ipv6_fragment_ends_all_runs_of_its_tunnel(self, codec: Any) -> None:
        fragment = Packet(version=6, protocol=44).ip(bytes(24))
        assert counts(codec, ONE6, fragment, TWO6) == [1, 1, 1]

    def test_other_protocols_end_nothing(self, codec: Any) -> None:
        assert counts(codec, ONE, Packet(protocol=1).ip(b"ping"), TWO) == [2, 1]

    def test_another_flow_in_the_same_slot_takes_it(self, codec: Any) -> None:
        other = rival(ONE)
        assert counts(codec, ONE, other, TWO) == [1, 1, 1]

    def test_one_that_begins_no_run_leaves_the_slot(self, codec: Any) -> None:
        other = replace(rival(ONE), flags=ACK | PSH)
        assert counts(codec, ONE, other, TWO) == [2, 1]

    def test_a_refused_packet_ends_nothing(self, codec: Any) -> None:
        bench = arrive(ONE, TWO)
        first, second = bench.datagrams
        refused = outer(gre(ONE.build(), flags=0x4000))
        bench = Ingress([first, refused, second], bench.records)
        assert bench.run(codec) == (1, 1)


def tcp_checksum(packet: bytearray) -> bytes:
    source, destination = bytes(packet[12:16]), bytes(packet[16:20])
    total = pseudo_header_sum(source, destination, 6, len(packet) - 20)
    return (~ones_complement_sum(packet[20:], total) & 0xFFFF).to_bytes(2, "big")


def slot_of(packet: Tcp) -> int:
    """The run slot of an IPv4 flow in tunnel 1."""
    data = packet.build()
    words = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in (12, 16, 20)]
    return mix((words[0], 0, 0, 0, words[1], 0, 0, 0, words[2], 1 | 6 << 24)) % 16


def rival(packet: Tcp) -> Tcp:
    """Another flow with the same run slot."""
    ports = ((40001 + extra, 80) for extra in range(1000))
    others = (replace(packet, ports=pair) for pair in ports)
    return next(other for other in others if slot_of(other) == slot_of(packet))


def test_the_ip_checksum_of_a_super_packet_is_right(codec: Any) -> None:
    (frame,) = written(codec, *tcp_stream(7))
    assert checksum(frame.data[:20]) == 0


class TestNextToEachOther:
    """Datagrams that the kernel merged: before each lies another, which is to stay as it is."""

    @pytest.mark.parametrize("version", [4, 6])
    def test_what_is_written_is_the_same(self, codec: Any, version: int) -> None:
        streams: list[Inner | bytes] = [
            *tcp_stream(3, version=version),
            *udp_stream(2, version=version),
            Packet(version=version).ip(pattern(50)),
            *tcp_stream(2, version=version, ports=(1, 2), flags=ACK | PSH),
        ]
        for record in (
            make_record(vnet_header=10, flags=BOTH),
            make_record(vnet_header=10),
            make_record(),
            make_record(flags=TunnelFlag.PACKET_INFO),
        ):
            apart = arrive(*streams, record=record.copy()).frames(codec)
            beside = arrive(*streams, record=record.copy(), transport=Transport.UDP)
            assert beside.frames(codec) == apart
            assert not any(beside.verdicts)

    def test_without_room_for_a_vnet_header_it_is_counted(self, codec: Any) -> None:
        packets = [Packet(protocol=253).ip(bytes([number])) for number in range(3)]
        bench = arrive(*packets, transport=Transport.UDP, header_space=64)
        assert len(bench.frames(codec)) == 1
        assert bench.verdicts == [DropReason.NONE, DropReason.NO_BUFS, DropReason.NO_BUFS]
