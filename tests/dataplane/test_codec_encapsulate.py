"""Egress: the ladder of refusals, and what the GRE and delivery headers of a frame become."""

import struct
from dataclasses import replace
from typing import Any

import pytest

from gred.dataplane.layout import Datagram, Frame, TunnelFlag
from gred.wire import gre
from gred.wire.checksum import checksum
from gred.wire.drop import DropReason
from gred.wire.gre import GreHeader
from gred.wire.ip import DONT_FRAGMENT
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import LOCAL, LOCAL6, REMOTE, REMOTE6, Egress, drops, make_record, rows
from tests.dataplane.packets import Packet, Udp, ethernet, pattern

INNER = Packet().ip(b"payload")
INNER6 = Packet(version=6).ip(b"payload")


def refused(codec: Any, frame: bytes | tuple[VnetHeader, bytes], **fields: Any) -> DropReason:
    """Give one frame to a tunnel with *fields*; return the verdict, which must be counted."""
    bench = Egress([frame], make_record(**fields))
    before = bytes(bench.arena)
    result = bench.run(codec)
    (verdict,) = bench.verdicts
    if verdict:
        assert result == (0, 1, 1)
        assert drops(bench.after.tx_drops) == {verdict: 1}
        assert bytes(bench.arena) == before
        assert (bench.after.tx_packets, bench.after.tx_bytes) == (0, 0)
    else:
        assert result == (1, 1, 0)
        assert drops(bench.after.tx_drops) == {}
        assert bench.after.tx_packets == 1
    return verdict


def test_a_packet_is_sent_behind_four_bytes_and_counted(codec: Any) -> None:
    """RFC 2784 §2."""
    bench = Egress([INNER, INNER6])
    assert bench.run(codec) == (2, 2, 0)
    first, second = bench.sent(2)
    assert first.data == struct.pack("!HH", 0, 0x0800) + INNER
    assert second.data == struct.pack("!HH", 0, 0x86DD) + INNER6
    assert (first.frame, second.frame, first.inner_length) == (0, 1, len(INNER))
    assert (bench.after.tx_packets, bench.after.tx_bytes) == (2, len(INNER) + len(INNER6))


def test_only_the_asked_frames_are_sent(codec: Any) -> None:
    bench = Egress([INNER, INNER6])
    assert bench.run(codec, first=1) == (1, 2, 0)
    assert bench.sent(1)[0].data[4:] == INNER6


def test_a_blocked_tunnel_sends_nothing(codec: Any) -> None:
    assert refused(codec, INNER, flags=TunnelFlag.BLOCKED) == DropReason.DEAD_LOOP


def test_a_tunnel_without_a_remote_sends_nothing(codec: Any) -> None:
    assert refused(codec, INNER, flags=TunnelFlag.NO_REMOTE) == DropReason.NO_REMOTE


def test_blocked_comes_before_no_remote(codec: Any) -> None:
    flags = TunnelFlag.BLOCKED | TunnelFlag.NO_REMOTE
    assert refused(codec, b"", flags=flags) == DropReason.DEAD_LOOP


@pytest.mark.parametrize("version", [4, 6])
def test_in_udp_its_own_packets_are_those_to_its_port(codec: Any, version: int) -> None:
    local, remote = (LOCAL, REMOTE) if version == 4 else (LOCAL6, REMOTE6)
    ends: dict[str, Any] = {"version": version, "source": local, "destination": remote}
    record: dict[str, Any] = {"port": 4754, "family": version, "local": local, "remote": remote}
    own = Udp(**ends, ports=(50000, 4754), payload=b"gre").build()
    assert refused(codec, own, **record) == DropReason.DEAD_LOOP
    assert refused(codec, own, **record | {"local": b""}) == DropReason.DEAD_LOOP
    for other in (
        Udp(**ends, ports=(4754, 50000)).build(),
        Udp(**ends | {"destination": local}, ports=(50000, 4754)).build(),
        Packet(**ends, protocol=47).ip(bytes(8)),
        Packet(**ends, protocol=17).ip(b"\0\0\x12\x92"),  # cut off within the header
        Packet(**ends, protocol=253).ip(own[-11:]),
    ):
        assert refused(codec, other, **record) == DropReason.NONE
    # Without UDP it is a packet like any other.
    assert refused(codec, own, **record | {"port": 0}) == DropReason.NONE


def test_the_flow_goes_with_each_datagram(codec: Any) -> None:
    bench = Egress([INNER, INNER6])
    for number, frame in enumerate(rows(bench.frame_table, Frame)):
        frame.flow = 0xFFFFFFF0 + number
    bench.run(codec)
    found = [row.flow for row in rows(bench.datagram_table, Datagram)[:2]]
    assert found == [0xFFFFFFF0, 0xFFFFFFF1]


@pytest.mark.parametrize(
    "frame",
    [b"", INNER[:19], INNER6[:39], b"\x44" + INNER[1:], b"\x4f" + INNER[1:]],
    ids=["empty", "short v4", "short v6", "IHL 4", "IHL beyond the end"],
)
def test_a_frame_without_a_whole_ip_header_is_truncated(codec: Any, frame: bytes) -> None:
    assert refused(codec, frame) == DropReason.TRUNCATED


@pytest.mark.parametrize("first", [0x05, 0x15, 0x55, 0x75, 0xF5])
def test_other_versions_are_unknown(codec: Any, first: int) -> None:
    assert refused(codec, bytes([first]) + INNER[1:]) == DropReason.UNKNOWN_PROTOCOL


def test_a_short_ethernet_frame_is_truncated(codec: Any) -> None:
    frame = ethernet(b"")[:13]
    assert refused(codec, frame, flags=TunnelFlag.ETHERNET) == DropReason.TRUNCATED


class TestLoop:
    """A packet that this tunnel itself has sent."""

    OWN = Packet(protocol=47, source=LOCAL, destination=REMOTE)

    def test_gre_between_the_tunnel_ends_is_a_dead_loop(self, codec: Any) -> None:
        frame = self.OWN.ip(b"\0\0\x08\0")
        assert refused(codec, frame, local=LOCAL, remote=REMOTE) == DropReason.DEAD_LOOP

    def test_any_local_matches_every_source(self, codec: Any) -> None:
        frame = Packet(protocol=47, destination=REMOTE).ip(b"\0\0\x08\0")
        assert refused(codec, frame, local=b"") == DropReason.DEAD_LOOP

    @pytest.mark.parametrize(
        "packet",
        [
            Packet(protocol=47, source=LOCAL, destination=LOCAL),
            Packet(protocol=47, source=REMOTE, destination=REMOTE),
            Packet(protocol=46, source=LOCAL, destination=REMOTE),
        ],
        ids=["another destination", "another source", "another protocol"],
    )
    def test_others_pass(self, codec: Any, packet: Packet) -> None:
        assert refused(codec, packet.ip(b""), local=LOCAL) == DropReason.NONE

    def test_ipv6_is_looked_at_in_an_ipv6_tunnel(self, codec: Any) -> None:
        frame = Packet(version=6, protocol=47, source=LOCAL6, destination=REMOTE6).ip(b"")
        fields = {"family": 6, "local": LOCAL6, "remote": REMOTE6}
        assert refused(codec, frame, **fields) == DropReason.DEAD_LOOP
        assert refused(codec, frame) == DropReason.NONE
        assert refused(codec, self.OWN.ip(b""), **fields) == DropReason.NONE

    def test_ethernet_is_not_looked_into(self, codec: Any) -> None:
        frame = ethernet(self.OWN.ip(b""))
        assert refused(codec, frame, flags=TunnelFlag.ETHERNET) == DropReason.NONE


class TestSize:
    """TOO_BIG counts only where the outer packet may not be fragmented."""

    def test_what_fits_the_path_passes(self, codec: Any) -> None:
        fields = {"flags": TunnelFlag.DONT_FRAGMENT, "path_mtu": len(INNER)}
        assert refused(codec, INNER, **fields) == DropReason.NONE

    def test_one_byte_more_is_too_big(self, codec: Any) -> None:
        fields = {"flags": TunnelFlag.DONT_FRAGMENT, "path_mtu": len(INNER) - 1}
        assert refused(codec, INNER, **fields) == DropReason.TOO_BIG

    def test_without_df_it_is_left_to_fragmentation(self, codec: Any) -> None:
        assert refused(codec, INNER, path_mtu=1) == DropReason.NONE

    def test_the_inner_df_counts(self, codec: Any) -> None:
        frame = Packet(fragment=DONT_FRAGMENT).ip(b"")
        assert refused(codec, frame, path_mtu=19) == DropReason.TOO_BIG
        flags = TunnelFlag.IGNORE_DONT_FRAGMENT
        assert refused(codec, frame, path_mtu=19, flags=flags) == DropReason.NONE

    @pytest.mark.parametrize(("less", "verdict"), [(0, DropReason.NONE), (1, DropReason.TOO_BIG)])
    def test_the_mac_header_does_not_count(
        self, codec: Any, less: int, verdict: DropReason
    ) -> None:
        flags = TunnelFlag.ETHERNET | TunnelFlag.DONT_FRAGMENT
        path_mtu = len(INNER) - less
        assert refused(codec, ethernet(INNER), flags=flags, path_mtu=path_mtu) == verdict


class TestGreHeader:
    """RFC 2784 §2, RFC 2890 §2."""

    ALL = TunnelFlag.OUTPUT_CHECKSUM | TunnelFlag.OUTPUT_KEY | TunnelFlag.OUTPUT_SEQUENCE

    @pytest.mark.parametrize("bits", range(8))
    def test_flags_choose_the_fields(self, codec: Any, bits: int) -> None:
        flags = TunnelFlag(bits)
        bench = Egress([INNER], make_record(flags=flags, output_key=0xC0A80101, output_next=9))
        (sent,) = bench.all(codec)
        header = GreHeader.parse(sent.data)
        assert header.key == (0xC0A80101 if flags & TunnelFlag.OUTPUT_KEY else None)
        assert header.sequence == (9 if flags & TunnelFlag.OUTPUT_SEQUENCE else None)
        assert header.build(INNER) == sent.data

    def test_first_sequence_number_is_zero(self, codec: Any) -> None:
        """RFC 2890 §2.2."""
        bench = Egress([INNER] * 3, make_record(flags=TunnelFlag.OUTPUT_SEQUENCE))
        assert [GreHeader.parse(sent.data).sequence for sent in bench.all(codec)] == [0, 1, 2]
        assert bench.after.output_next == 3

    def test_sequence_numbers_wrap(self, codec: Any) -> None:
        flags = TunnelFlag.OUTPUT_SEQUENCE
        bench = Egress([INNER] * 2, make_record(flags=flags, output_next=0xFFFFFFFF))
        assert [GreHeader.parse(sent.data).sequence for sent in bench.all(codec)] == [0xFFFFFFFF, 0]
        assert bench.after.output_next == 1

    def test_a_refused_frame_takes_no_number(self, codec: Any) -> None:
        bench = Egress([b"", INNER], make_record(flags=TunnelFlag.OUTPUT_SEQUENCE))
        assert [GreHeader.parse(sent.data).sequence for sent in bench.all(codec)] == [0]

    @pytest.mark.parametrize("length", range(20, 300))
    def test_the_checksum_covers_header_and_payload(self, codec: Any, length: int) -> None:
        """RFC 2784 §2.5."""
        frame = Packet().ip(pattern(length - 20, seed=length))
        (sent,) = Egress([frame], make_record(flags=self.ALL), skew=length % 8).all(codec)
        assert checksum(sent.data) == 0
        assert sent.data[gre.LONGEST :] == frame

    def test_a_computed_zero_is_sent_as_zero(self, codec: Any) -> None:
        """It is no UDP: zero does not mean absent here."""
        frame = bytearray(Packet().ip(b"even\0\0"))
        frame[-2:] = struct.pack("!H", checksum(struct.pack("!HH", 0x8000, 0x0800) + frame))
        (sent,) = Egress([bytes(frame)], make_record(flags=TunnelFlag.OUTPUT_CHECKSUM)).all(codec)
        assert sent.data[4:8] == bytes(4)


class TestDeliveryHeader:
    """TOS, TTL and DF of the outer packet."""

    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize("ecn", range(4))
    def test_ecn_is_always_the_inner_one(self, codec: Any, version: int, ecn: int) -> None:
        """RFC 6040 §4.1, normal mode."""
        frame = Packet(version=version, tos=0x28 | ecn).ip(b"")
        (fixed,) = Egress([frame], make_record(tos=0xB8 | (ecn ^ 3))).all(codec)
        (inherited,) = Egress([frame], make_record(flags=TunnelFlag.TOS_INHERIT)).all(codec)
        assert (fixed.tos, inherited.tos) == (0xB8 | ecn, 0x28 | ecn)

    @pytest.mark.parametrize("version", [4, 6])
    @pytest.mark.parametrize(("inner", "outer"), [(1, 1), (255, 255), (0, 1)])
    def test_ttl_may_be_inherited(self, codec: Any, version: int, inner: int, outer: int) -> None:
        frame = Packet(version=version, ttl=inner).ip(b"")
        (sent,) = Egress([frame], make_record(ttl=9, flags=TunnelFlag.TTL_INHERIT)).all(codec)
        assert sent.ttl == outer
        (sent,) = Egress([frame], make_record(ttl=9)).all(codec)
        assert sent.ttl == 9

    @pytest.mark.parametrize(
        ("flags", "version", "inner", "outer"),
        [
            (0, 4, 0, 0),
            (0, 4, DONT_FRAGMENT, 1),
            (0, 6, 0, 0),
            (TunnelFlag.DONT_FRAGMENT, 4, 0, 1),
            (TunnelFlag.DONT_FRAGMENT, 6, 0, 1),
            (TunnelFlag.IGNORE_DONT_FRAGMENT, 4, DONT_FRAGMENT, 0),
            (TunnelFlag.IGNORE_DONT_FRAGMENT | TunnelFlag.DONT_FRAGMENT, 4, 0, 1),
        ],
    )
    def test_df_is_configured_or_copied(
        self, codec: Any, flags: int, version: int, inner: int, outer: int
    ) -> None:
        frame = Packet(version=version, fragment=inner).ip(b"")
        (sent,) = Egress([frame], make_record(flags=flags)).all(codec)
        assert sent.dont_fragment == outer

    @pytest.mark.parametrize(
        "tags", [b"", b"\x81\0\0\1", b"\x88\xa8\0\1\x81\0\0\1"], ids=["untagged", "VLAN", "QinQ"]
    )
    @pytest.mark.parametrize(("version", "ethertype"), [(4, 0x0800), (6, 0x86DD)])
    def test_ethernet_is_looked_into(
        self, codec: Any, tags: bytes, version: int, ethertype: int
    ) -> None:
        inner = Packet(version=version, tos=0xBA, ttl=9, fragment=DONT_FRAGMENT).ip(b"")
        flags = TunnelFlag.ETHERNET | TunnelFlag.TOS_INHERIT | TunnelFlag.TTL_INHERIT
        frame = ethernet(inner, ethertype, tags)
        (sent,) = Egress([frame], make_record(flags=flags)).all(codec)
        assert sent.data == struct.pack("!HH", 0, 0x6558) + frame
        assert (sent.tos, sent.ttl, sent.dont_fragment) == (0xBA, 9, version == 4)
        assert sent.inner_length == len(frame)

    @pytest.mark.parametrize(
        "frame",
        [
            ethernet(b"", 0x0806),
            ethernet(INNER[:19]),
            ethernet(INNER6[:39], 0x86DD),
            ethernet(INNER6, 0x0800),
            ethernet(INNER, 0x0800, b"\x81\0\0\1" * 3),
        ],
        ids=["ARP", "short v4", "short v6", "v6 as v4", "three tags"],
    )
    def test_what_is_no_ip_leaves_with_defaults(self, codec: Any, frame: bytes) -> None:
        flags = TunnelFlag.ETHERNET | TunnelFlag.TOS_INHERIT | TunnelFlag.TTL_INHERIT
        (sent,) = Egress([frame], make_record(flags=flags)).all(codec)
        assert (sent.tos, sent.ttl, sent.dont_fragment) == (0, 64, 0)


class TestUnfinishedChecksum:
    """VIRTIO_NET_HDR_F_NEEDS_CSUM without segmentation."""

    @pytest.mark.parametrize("length", range(60))
    @pytest.mark.parametrize("version", [4, 6])
    def test_it_is_completed(self, codec: Any, length: int, version: int) -> None:
        packet = Udp(version=version, payload=pattern(length))
        start = 20 if version == 4 else 40
        frame = (
            VnetHeader(NEEDS_CSUM, 0, 0, 0, start, 6),
            replace(packet, partial=True).build(),
        )
        (sent,) = Egress([frame], make_record(vnet_header=10)).all(codec)
        assert sent.data[4:] == packet.build()

    def test_a_udp_checksum_of_zero_is_sent_as_ones(self, codec: Any) -> None:
        """RFC 768."""
        packet = Udp(payload=b"\0\0", partial=True).build()
        summed = checksum(packet[20:26] + packet[26:])
        packet = packet[:-2] + struct.pack("!H", summed)
        frame = (VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 6), packet)
        (sent,) = Egress([frame], make_record(vnet_header=10)).all(codec)
        assert sent.data[4 + 26 : 4 + 28] == b"\xff\xff"

    @pytest.mark.parametrize(
        ("start", "offset"), [(20, 8 + 7 - 1), (60, 0), (0, 0xFFFF), (0xFFFF, 0)]
    )
    def test_a_field_beyond_the_frame_is_refused(self, codec: Any, start: int, offset: int) -> None:
        frame = Udp(payload=b"payload").build()
        meta = VnetHeader(NEEDS_CSUM, 0, 0, 0, start, offset)
        assert refused(codec, (meta, frame), vnet_header=10) == DropReason.BAD_INNER

    def test_the_last_two_bytes_may_be_the_field(self, codec: Any) -> None:
        frame = Udp(payload=b"payload").build()
        meta = VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, len(frame) - 22)
        assert refused(codec, (meta, frame), vnet_header=10) == DropReason.NONE

    def test_it_is_completed_once_when_the_table_is_full(self, codec: Any) -> None:
        frame = (
            VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 6),
            Udp(payload=b"payload", partial=True).build(),
        )
        bench = Egress([frame] * 3, make_record(vnet_header=10), datagrams=1)
        assert bench.run(codec) == (1, 1, 0)
        assert [sent.data[4:] for sent in bench.sent(1)] == [Udp(payload=b"payload").build()]
        rest = bench.all(codec, first=1)
        assert [sent.data[4:] for sent in rest] == [Udp(payload=b"payload").build()] * 2
