"""Egress: super-packets are cut into segments; scapy finds nothing wrong with them."""

import struct
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from gred.dataplane.layout import Datagram, Frame, TunnelFlag
from gred.wire import vnet
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.transport import ACK, CWR, ECE, FIN, PSH, SYN
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import Egress, drops, make_record, rows
from tests.dataplane.packets import Tcp, Udp, ethernet, pattern

TCP4 = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV4, 40, 1000, 20, 16)
TCP6 = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 60, 1000, 40, 16)
UDP4 = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 28, 1000, 20, 6)
UDP6 = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 48, 1000, 40, 6)

Super = tuple[VnetHeader, bytes]


def tcp(**fields: Any) -> Super:
    """A TCP super-packet with its vnet header; ``size``: payload of a segment."""
    meta = TCP4 if fields.get("version", 4) == 4 else TCP6
    meta = VnetHeader(1, meta.gso_type, 0, fields.pop("size", 1000), meta.csum_start, 16)
    return meta, Tcp(partial=True, **fields).build()


def cut(codec: Any, frame: Super, **fields: Any) -> list[bytes]:
    """Return the segments of *frame*, without the GRE header."""
    bench = Egress([frame], make_record(vnet_header=10, **fields), header_space=100 * 192)
    return [sent.data[4:] for sent in bench.all(codec)]


def check(segment: bytes) -> IP | IPv6:
    """Let scapy compute lengths and checksums anew: nothing may change. Return what it read."""
    kind = IP if segment[0] >> 4 == 4 else IPv6
    packet = kind(segment)
    again = packet.copy()
    for layer, names in ((IP, ("len", "chksum")), (IPv6, ("plen",)), (TCP, ("chksum",))):
        if layer in again:
            for name in names:
                delattr(again[layer], name)
    if UDP in again:
        del again[UDP].len
        del again[UDP].chksum
    assert bytes(again) == segment
    return packet


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [1, 999, 1000, 1001, 2000, 4321])
@pytest.mark.parametrize("options", [b"", b"\x01\x01\x08\x0a12345678"])
def test_tcp_segments_are_right_and_whole(
    codec: Any, version: int, length: int, options: bytes
) -> None:
    payload = pattern(length)
    frame = tcp(version=version, payload=payload, tcp_options=options, tos=0xBA)
    packets = [check(segment) for segment in cut(codec, frame)]
    found = b"".join(bytes(packet[TCP].payload) for packet in packets)
    assert found == payload
    assert [packet[TCP].seq for packet in packets] == list(range(1000, 1000 + length, 1000))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("length", [1, 1000, 2500])
def test_udp_datagrams_are_right_and_whole(codec: Any, version: int, length: int) -> None:
    payload = pattern(length)
    frame = (
        (UDP4 if version == 4 else UDP6),
        Udp(version=version, payload=payload, partial=True).build(),
    )
    packets = [check(segment) for segment in cut(codec, frame)]
    assert b"".join(bytes(packet[UDP].payload) for packet in packets) == payload
    assert len(packets) == (length + 999) // 1000


def test_identifications_count_up_and_wrap(codec: Any) -> None:
    segments = cut(codec, tcp(payload=pattern(2500), identification=0xFFFF))
    assert [IP(segment).id for segment in segments] == [0xFFFF, 0, 1]


def test_sequence_numbers_wrap(codec: Any) -> None:
    segments = cut(codec, tcp(payload=pattern(2500), sequence=0xFFFFFF00))
    assert [IP(segment)[TCP].seq for segment in segments] == [0xFFFFFF00, 0x2E8, 0x6D0]


def test_fin_and_psh_are_on_the_last_only_and_cwr_on_the_first(codec: Any) -> None:
    """RFC 3168 §6.1.2 for CWR; the others end the data."""
    frame = tcp(payload=pattern(2500), flags=ACK | ECE | CWR | PSH | FIN)
    flags = [int(check(segment)[TCP].flags) for segment in cut(codec, frame)]
    assert flags == [ACK | ECE | CWR, ACK | ECE, ACK | ECE | PSH | FIN]


def test_the_ecn_bit_of_the_gso_type_changes_nothing(codec: Any) -> None:
    meta, frame = tcp(payload=pattern(1500))
    marked = VnetHeader(1, vnet.GSO_TCPV4 | vnet.GSO_ECN, 0, 1000, 20, 16)
    assert cut(codec, (marked, frame)) == cut(codec, (meta, frame))


def test_headers_alone_are_one_packet(codec: Any) -> None:
    (segment,) = cut(codec, tcp(payload=b"", flags=SYN))
    assert check(segment)[TCP].flags == "S"


def test_ip_options_are_copied(codec: Any) -> None:
    meta = VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 24, 16)
    frame = Tcp(options=b"\x01" * 4, payload=pattern(1500), partial=True).build()
    assert [len(check(segment)) for segment in cut(codec, (meta, frame))] == [1044, 544]


def test_ipv6_extension_headers_are_copied(codec: Any) -> None:
    whole = Tcp(version=6, payload=pattern(1500), partial=True).build()
    extension = bytes([6, 0, 1, 4, 0, 0, 0, 0])  # hop-by-hop: PadN
    frame = (
        whole[:4] + struct.pack("!HB", len(whole) - 32, 0) + whole[7:40] + extension + whole[40:]
    )
    meta = VnetHeader(1, vnet.GSO_TCPV6, 0, 1000, 48, 16)
    packets = [check(segment) for segment in cut(codec, (meta, frame))]
    assert [len(packet[TCP].payload) for packet in packets] == [1000, 500]


@pytest.mark.parametrize("tags", [b"", b"\x81\0\0\1"])
def test_ethernet_super_packets_are_cut_behind_the_mac_header(codec: Any, tags: bytes) -> None:
    frame = ethernet(Tcp(payload=pattern(2500), partial=True).build(), tags=tags)
    meta = VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 34 + len(tags), 16)
    flags = TunnelFlag.ETHERNET | TunnelFlag.OUTPUT_CHECKSUM
    bench = Egress([(meta, frame)], make_record(vnet_header=10, flags=flags))
    sent = bench.all(codec)
    assert [checksum(one.data) for one in sent] == [0, 0, 0]
    for one in sent:
        assert one.data[8:20] == frame[:12]
        check(bytes(Ether(one.data[8:])[IP]))
    assert bench.after.tx_bytes == 2500 + 3 * (54 + len(tags))


def test_every_segment_has_its_own_gre_header(codec: Any) -> None:
    flags = TunnelFlag.OUTPUT_CHECKSUM | TunnelFlag.OUTPUT_KEY | TunnelFlag.OUTPUT_SEQUENCE
    bench = Egress([tcp(payload=pattern(2999))], make_record(vnet_header=10, flags=flags))
    sent = bench.all(codec)
    assert [checksum(one.data) for one in sent] == [0, 0, 0]
    assert [one.data[12:16] for one in sent] == [struct.pack("!I", index) for index in range(3)]
    assert [one.inner_length for one in sent] == [1040, 1040, 1039]
    assert (bench.after.tx_packets, bench.after.tx_bytes) == (3, 3119)


def test_headers_start_at_multiples_of_64(codec: Any) -> None:
    bench = Egress([tcp(payload=pattern(2999))], make_record(vnet_header=10))
    bench.run(codec)
    table = rows(bench.datagram_table, Datagram)[:3]
    assert [row.head_offset % 64 for row in table] == [0, 0, 0]
    assert [row.head_length for row in table] == [44, 44, 44]


def test_the_payload_is_not_copied(codec: Any) -> None:
    bench = Egress([tcp(payload=pattern(2999))], make_record(vnet_header=10))
    bench.run(codec)
    start = rows(bench.frame_table, Frame)[0].offset + 40
    table = rows(bench.datagram_table, Datagram)[:3]
    assert [row.body_offset - start for row in table] == [0, 1000, 2000]


class TestFullTables:
    """A super-packet goes on where it stopped."""

    FRAMES = (tcp(payload=pattern(4500)), tcp(payload=pattern(1500), sequence=9))

    @pytest.mark.parametrize("datagrams", range(1, 8))
    @pytest.mark.parametrize("heads", range(1, 8))
    def test_nothing_is_lost_or_doubled(self, codec: Any, datagrams: int, heads: int) -> None:
        record = make_record(vnet_header=10, flags=TunnelFlag.OUTPUT_SEQUENCE)
        wide = Egress(self.FRAMES, record)
        narrow = Egress(self.FRAMES, record, datagrams=datagrams, header_space=64 * heads)
        assert narrow.all(codec) == wide.all(codec)
        assert narrow.after.tx_packets == 7

    def test_done_tells_how_far_it_came(self, codec: Any) -> None:
        bench = Egress(self.FRAMES, make_record(vnet_header=10), datagrams=6)
        assert bench.run(codec) == (6, 1, 0)
        assert [row.done for row in rows(bench.frame_table, Frame)] == [4500, 1000]

    def test_a_header_must_fit_whole(self, codec: Any) -> None:
        bench = Egress(self.FRAMES, make_record(vnet_header=10), header_space=127)
        assert bench.run(codec) == (1, 0, 0)


class TestSize:
    """The path must carry a segment, not the super-packet."""

    @pytest.mark.parametrize(
        ("path_mtu", "verdict"), [(1040, DropReason.NONE), (1039, DropReason.TOO_BIG)]
    )
    def test_the_size_is_that_of_a_segment(
        self, codec: Any, path_mtu: int, verdict: DropReason
    ) -> None:
        flags = TunnelFlag.DONT_FRAGMENT
        record = make_record(vnet_header=10, flags=flags, path_mtu=path_mtu)
        bench = Egress([tcp(payload=pattern(3000))], record)
        bench.run(codec)
        assert bench.verdicts == [verdict]

    def test_or_of_the_whole_if_that_is_smaller(self, codec: Any) -> None:
        flags = TunnelFlag.DONT_FRAGMENT
        record = make_record(vnet_header=10, flags=flags, path_mtu=540)
        bench = Egress([tcp(payload=pattern(500))], record)
        assert bench.run(codec) == (1, 1, 0)


class TestRefusals:
    """A vnet header that contradicts the frame: BAD_INNER."""

    GOOD = Tcp(payload=pattern(2000), partial=True).build()
    GOOD6 = Tcp(version=6, payload=pattern(2000), partial=True).build()

    @pytest.mark.parametrize(
        ("meta", "frame"),
        [
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 0, 20, 16), GOOD),
            (VnetHeader(0, vnet.GSO_TCPV4, 0, 1000, 20, 16), GOOD),
            (VnetHeader(1, 3, 0, 1000, 20, 16), GOOD),
            (VnetHeader(1, 0x7F, 0, 1000, 20, 16), GOOD),
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 24, 16), GOOD),
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 16, 16), GOOD),
            (VnetHeader(1, vnet.GSO_TCPV6, 0, 1000, 32, 16), GOOD6),
            (VnetHeader(1, vnet.GSO_TCPV6, 0, 1000, 44, 16), GOOD6[:56] + b"\x50" + GOOD6[57:]),
            (VnetHeader(1, vnet.GSO_TCPV6, 0, 1000, 2048, 16), GOOD6),
            (VnetHeader(1, vnet.GSO_TCPV6, 0, 1000, 0xFFF8, 16), GOOD6),
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 20, 16), GOOD[:39]),
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 20, 16), GOOD[:32] + b"\x40" + GOOD[33:]),
            (VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 20, 16), GOOD[:32] + b"\xf0" + GOOD[33:70]),
            (VnetHeader(1, vnet.GSO_UDP_L4, 0, 1000, 20, 6), GOOD[:27]),
        ],
        ids=[
            "gso_size 0",
            "no NEEDS_CSUM",
            "UFO",
            "unknown type",
            "behind the transport header",
            "inside the IP header",
            "inside the IPv6 header",
            "no multiple of eight",
            "at the end",
            "beyond the end",
            "short TCP header",
            "data offset 4",
            "data offset beyond the end",
            "short UDP header",
        ],
    )
    def test_it_is_refused(self, codec: Any, meta: VnetHeader, frame: bytes) -> None:
        bench = Egress([(meta, frame)], make_record(vnet_header=10))
        assert bench.run(codec) == (0, 1, 1)
        assert drops(bench.after.tx_drops) == {DropReason.BAD_INNER: 1}

    def test_a_frame_that_is_no_ip_cannot_be_cut(self, codec: Any) -> None:
        meta = VnetHeader(1, vnet.GSO_TCPV4, 0, 1000, 34, 16)
        record = make_record(vnet_header=10, flags=TunnelFlag.ETHERNET)
        bench = Egress([(meta, ethernet(self.GOOD, 0x0806))], record)
        bench.run(codec)
        assert bench.verdicts == [DropReason.BAD_INNER]

    def test_without_a_vnet_header_nothing_is_read_before_the_frame(self, codec: Any) -> None:
        meta = VnetHeader(1, 0x7F, 0, 0, 0xFFFF, 0xFFFF)
        assert Egress([(meta, self.GOOD)], make_record()).run(codec) == (1, 1, 0)
