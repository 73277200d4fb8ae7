"""Ingress: the ladder of refusals, from the outer header to the sequence number."""

import struct
from ctypes import c_ubyte
from dataclasses import replace
from typing import Any

import pytest

from gred.dataplane.layout import Received, Transport, TunnelFlag
from gred.wire.drop import DropReason
from gred.wire.echo import ECHO_MARK
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6, GreHeader
from tests.dataplane.benches import (
    LOCAL,
    LOCAL6,
    REMOTE,
    REMOTE6,
    Arrival,
    Datagram6,
    Ingress,
    Truncated,
    drops,
    gre,
    make_lookup,
    make_record,
    outer,
    rows,
)
from tests.dataplane.packets import Packet, ethernet, pattern

INNER = Packet().ip(b"payload")
INNER6 = Packet(version=6).ip(b"payload")
OTHER = bytes([198, 51, 100, 7])


def verdict(codec: Any, datagram: Arrival, **fields: Any) -> tuple[DropReason, int]:
    """Give one datagram to a tunnel with *fields*; return verdict and tunnel, both counted."""
    bench = Ingress([datagram], [make_record(**fields)])
    frames, refused = bench.run(codec)
    (entry,) = bench.entries
    reason = DropReason(entry.verdict)
    assert (frames, refused) == ((0, 1) if reason else (1, 0))
    for tunnel in (0, 1):
        record = bench.after(tunnel)
        mine = tunnel == entry.tunnel
        assert drops(record.rx_drops) == ({reason: 1} if mine and reason else {})
        assert record.rx_packets == (mine and not reason)
        assert record.rx_bytes == (entry.inner_length if mine and not reason else 0)
    return reason, entry.tunnel


class TestAccepted:
    """What a frame and its entry look like."""

    @pytest.mark.parametrize(
        ("inner", "protocol"), [(INNER, PROTOCOL_IPV4), (INNER6, PROTOCOL_IPV6)]
    )
    def test_the_inner_packet_is_written(self, codec: Any, inner: bytes, protocol: int) -> None:
        bench = Ingress([outer(gre(inner, protocol), tos=0xB8, ttl=9)])
        assert bench.frames(codec) == [inner]
        (entry,) = bench.entries
        assert (entry.verdict, entry.tunnel, entry.protocol, entry.key) == (0, 1, protocol, 0)
        assert (entry.inner_offset, entry.inner_length) == (entry.offset + 24, len(inner))
        assert (entry.tos, entry.ttl) == (0xB8, 9)
        assert bytes(entry.source) == REMOTE.ljust(16, b"\0")
        assert bytes(entry.destination) == LOCAL.ljust(16, b"\0")
        row = bench.tun_write_row(0)
        assert (row.tunnel, row.fd, row.pieces, row.packets, row.error) == (1, 7, 1, 1, 0)

    def test_outer_options_are_skipped(self, codec: Any) -> None:
        assert Ingress([outer(gre(INNER), options=b"\1" * 12)]).frames(codec) == [INNER]

    def test_an_ipv6_socket_has_taken_the_outer_header_off(self, codec: Any) -> None:
        record = make_record(family=6, local=LOCAL6, remote=REMOTE6)
        bench = Ingress([Datagram6(gre(INNER), tos=0xB8, ttl=9)], [record])
        assert bench.frames(codec) == [INNER]
        (entry,) = bench.entries
        assert (entry.tos, entry.ttl, bytes(entry.source)) == (0xB8, 9, REMOTE6)

    def test_ethernet_is_kept_as_it_is(self, codec: Any) -> None:
        frame = ethernet(INNER + b"padding")
        bench = Ingress(
            [outer(gre(frame, PROTOCOL_ETHERNET))], [make_record(flags=TunnelFlag.ETHERNET)]
        )
        assert bench.frames(codec) == [frame]

    @pytest.mark.parametrize("inner", [INNER, INNER6])
    def test_what_trails_the_inner_packet_is_cut_off(self, codec: Any, inner: bytes) -> None:
        protocol = PROTOCOL_IPV4 if inner is INNER else PROTOCOL_IPV6
        bench = Ingress([outer(gre(inner + b"trailer", protocol))])
        assert bench.frames(codec) == [inner]
        assert bench.after().rx_bytes == len(inner)

    def test_a_vnet_header_of_zeros_stands_before_the_frame(self, codec: Any) -> None:
        bench = Ingress([outer(gre(INNER))], [make_record(vnet_header=10)])
        assert bench.frames(codec) == [bytes(10) + INNER]

    def test_without_input_sequence_the_number_is_ignored(self, codec: Any) -> None:
        datagrams = [outer(gre(INNER, flags=0x1000, options=b"\0\0\0\5"))] * 2
        assert Ingress(datagrams).frames(codec) == [INNER] * 2


class TestOuter:
    def test_a_datagram_that_was_cut_is_truncated(self, codec: Any) -> None:
        reason = verdict(codec, Truncated(outer(gre(INNER))))
        assert reason == (DropReason.TRUNCATED, 0)

    @pytest.mark.parametrize("reason", [DropReason.TRUNCATED, DropReason.OTHER])
    def test_what_was_no_good_as_it_arrived_is_counted_as_such(
        self, codec: Any, reason: DropReason
    ) -> None:
        bench = Ingress([outer(gre(INNER)), outer(gre(INNER))])
        rows(bench.received, Received)[0].verdict = reason
        assert bench.frames(codec) == [INNER]
        assert bench.verdicts == [reason, DropReason.NONE]
        assert drops(bench.after(0).rx_drops) == {reason: 1}

    def test_a_header_that_ends_behind_the_datagram_is_truncated(self, codec: Any) -> None:
        bench = Ingress([outer(gre(INNER))])
        rows(bench.received, Received)[0].outer_length = len(outer(gre(INNER))) + 1
        assert bench.frames(codec) == []
        assert bench.verdicts == [DropReason.TRUNCATED]

    def test_where_gre_begins_is_told_and_not_guessed(self, codec: Any) -> None:
        """A transport may leave a header of any length before GRE, over IPv6 too."""
        record = make_record(family=6, local=LOCAL6, remote=REMOTE6)
        bench = Ingress([Datagram6(b"x" * 56 + gre(INNER))], [record])
        rows(bench.received, Received)[0].outer_length = 56
        assert bench.frames(codec) == [INNER]

    def test_another_transport_is_another_tunnel(self, codec: Any) -> None:
        over_udp, over_ip = make_record(fd=8), make_record(fd=9)
        bench = Ingress([outer(gre(INNER)), outer(gre(INNER))], [over_udp])
        bench.lookup = make_lookup([over_udp], transport=Transport.UDP)
        rows(bench.received, Received)[1].transport = Transport.UDP
        assert bench.frames(codec) == [INNER]
        assert bench.verdicts == [DropReason.NO_TUNNEL, DropReason.NONE]
        bench = Ingress([outer(gre(INNER))], [over_ip])
        rows(bench.received, Received)[0].transport = Transport.UDP
        assert bench.frames(codec) == []
        assert bench.verdicts == [DropReason.NO_TUNNEL]


class TestGreHeader:
    """RFC 2784 §2.3, RFC 2890 §2."""

    @pytest.mark.parametrize("length", range(4))
    def test_less_than_four_bytes_are_truncated(self, codec: Any, length: int) -> None:
        assert verdict(codec, outer(gre(b"")[:length])) == (DropReason.TRUNCATED, 0)
        data = Datagram6(gre(b"")[:length])
        assert verdict(codec, data, family=6) == (DropReason.TRUNCATED, 0)

    @pytest.mark.parametrize("flags", [0x8000, 0x2000, 0x1000, 0xA000, 0x9000, 0x3000, 0xB000])
    def test_truncated_options_are_dropped_and_counted(self, codec: Any, flags: int) -> None:
        needed = 4 * (flags >> 12).bit_count()
        for length in range(needed):
            data = outer(gre(b"", flags=flags, options=bytes(length)))
            assert verdict(codec, data) == (DropReason.TRUNCATED, 0)

    @pytest.mark.parametrize("version", range(1, 8))
    def test_other_versions_are_refused(self, codec: Any, version: int) -> None:
        reason = verdict(codec, outer(gre(INNER, flags=version | 0x4C00)))
        assert reason == (DropReason.BAD_VERSION, 0)

    @pytest.mark.parametrize(
        ("version", "reason"), [(1, DropReason.PPTP), (2, DropReason.BAD_VERSION)]
    )
    def test_version_1_with_ppp_is_pptp(self, codec: Any, version: int, reason: DropReason) -> None:
        """RFC 2637 §4.1."""
        data = outer(gre(b"", 0x880B, 0x3000 | version, bytes(8)))
        assert verdict(codec, data) == (reason, 0)

    def test_the_routing_bit_is_refused(self, codec: Any) -> None:
        assert verdict(codec, outer(gre(INNER, flags=0x4C00))) == (DropReason.ROUTING, 0)

    @pytest.mark.parametrize("bit", [0x0800, 0x0400])
    def test_bits_4_and_5_are_refused(self, codec: Any, bit: int) -> None:
        assert verdict(codec, outer(gre(INNER, flags=bit))) == (DropReason.RESERVED_BITS, 0)

    @pytest.mark.parametrize("bit", [1 << shift for shift in range(3, 10)])
    def test_bits_6_to_12_are_ignored(self, codec: Any, bit: int) -> None:
        assert verdict(codec, outer(gre(INNER, flags=bit))) == (DropReason.NONE, 1)

    def test_what_is_refused_here_tells_nothing_more(self, codec: Any) -> None:
        bench = Ingress([outer(gre(INNER, flags=0x2001, options=b"\0\0\0\7"))])
        bench.run(codec)
        (entry,) = bench.entries
        assert (entry.protocol, entry.key, entry.inner_offset, entry.inner_length) == (0,) * 4


class TestLookup:
    """Precedence, first match wins; as ip_tunnel_lookup() of the kernel."""

    KEYED = outer(gre(INNER, flags=0x2000, options=b"\0\0\0\7"))
    PLAIN = outer(gre(INNER))
    KEY7 = TunnelFlag.INPUT_KEY

    def tunnel_of(self, codec: Any, data: bytes, *records: Any) -> tuple[DropReason, int]:
        bench = Ingress([data], records)
        bench.run(codec)
        (entry,) = bench.entries
        return DropReason(entry.verdict), entry.tunnel

    def test_the_most_specific_tunnel_wins(self, codec: Any) -> None:
        neither = make_record(local=b"", remote=b"")
        local = make_record(local=LOCAL, remote=b"")
        remote = make_record(local=b"", remote=REMOTE)
        both = make_record(local=LOCAL, remote=REMOTE)
        order = [neither, local, remote, both]
        while order:
            assert self.tunnel_of(codec, self.PLAIN, *order) == (DropReason.NONE, len(order))
            order.pop()

    def test_unknown_addresses_have_no_tunnel(self, codec: Any) -> None:
        bench = Ingress([outer(gre(INNER), source=OTHER)])
        bench.run(codec)
        assert bench.verdicts == [DropReason.NO_TUNNEL]
        assert drops(bench.after(0).rx_drops) == {DropReason.NO_TUNNEL: 1}

    def test_a_tunnel_with_a_remote_takes_nothing_from_others(self, codec: Any) -> None:
        """The key does not help: there is no other check of the outer source."""
        keyed = make_record(local=b"", flags=self.KEY7, input_key=7)
        data = outer(gre(INNER, flags=0x2000, options=bytes([0, 0, 0, 7])), source=OTHER)
        bench = Ingress([self.KEYED, data], [keyed])
        bench.run(codec)
        assert bench.verdicts == [DropReason.NONE, DropReason.NO_TUNNEL]

    def test_the_key_chooses_among_tunnels(self, codec: Any) -> None:
        plain = make_record()
        seven = make_record(flags=self.KEY7, input_key=7)
        eight = make_record(flags=self.KEY7, input_key=8)
        assert self.tunnel_of(codec, self.KEYED, plain, eight, seven) == (DropReason.NONE, 3)
        assert self.tunnel_of(codec, self.PLAIN, eight, seven, plain) == (DropReason.NONE, 3)

    @pytest.mark.parametrize(
        ("data", "record"),
        [
            (KEYED, make_record()),
            (KEYED, make_record(flags=KEY7, input_key=8)),
            (PLAIN, make_record(flags=KEY7, input_key=7)),
            (PLAIN, make_record(flags=KEY7, input_key=0)),
            (outer(gre(INNER, flags=0x2000, options=bytes(4))), make_record()),
        ],
        ids=["unexpected", "another", "missing", "missing is not 0", "0 is not missing"],
    )
    def test_a_wrong_key_is_counted_on_the_tunnel(
        self, codec: Any, data: bytes, record: Any
    ) -> None:
        bench = Ingress([data], [record])
        bench.run(codec)
        (entry,) = bench.entries
        assert (entry.verdict, entry.tunnel) == (DropReason.KEY_MISMATCH, 1)
        assert drops(bench.after(1).rx_drops) == {DropReason.KEY_MISMATCH: 1}

    def test_the_entry_tells_the_key(self, codec: Any) -> None:
        bench = Ingress([self.KEYED], [make_record()])
        bench.run(codec)
        assert bench.entries[0].key == 7

    def test_a_less_specific_tunnel_with_the_key_beats_a_mismatch(self, codec: Any) -> None:
        exact = make_record(local=LOCAL)
        loose = make_record(remote=b"", flags=self.KEY7, input_key=7)
        assert self.tunnel_of(codec, self.KEYED, exact, loose) == (DropReason.NONE, 2)

    def test_families_are_apart(self, codec: Any) -> None:
        assert verdict(codec, outer(gre(INNER)), family=6) == (DropReason.NO_TUNNEL, 0)

    def test_many_tunnels_in_a_full_table_are_all_found(self, codec: Any) -> None:
        records = [make_record(remote=bytes([10, 1, 0, last])) for last in range(8)]
        data = [outer(gre(INNER), source=bytes([10, 1, 0, last])) for last in range(9)]
        bench = Ingress(data, records)  # 8 tunnels, 16 entries, 16 slots
        bench.run(codec)
        assert [entry.tunnel for entry in bench.entries] == [*range(1, 9), 0]

    def test_an_entry_of_a_tunnel_that_is_not_there_finds_nothing(self, codec: Any) -> None:
        bench = Ingress([self.PLAIN], [make_record()])
        bench.tables.records = bench.tables.records[: len(bench.tables.records) // 2]
        bench.run(codec)
        assert bench.verdicts == [DropReason.NO_TUNNEL]


class TestChecksum:
    """RFC 2784 §2.5; who requires and who refuses."""

    RIGHT = outer(GreHeader(protocol_type=PROTOCOL_IPV4, checksum=0, key=7).build(INNER))
    WRONG = RIGHT[:-1] + b"!"

    @pytest.mark.parametrize(
        ("data", "flags", "reason"),
        [
            (RIGHT, 0, DropReason.NONE),
            (WRONG, 0, DropReason.CSUM_ERR),
            (RIGHT, TunnelFlag.INPUT_CHECKSUM_REQUIRED, DropReason.NONE),
            (RIGHT, TunnelFlag.INPUT_CHECKSUM_REFUSED, DropReason.CSUM_UNEXPECTED),
            (WRONG, TunnelFlag.INPUT_CHECKSUM_REFUSED, DropReason.CSUM_UNEXPECTED),
        ],
    )
    def test_a_checksum_is_verified(
        self, codec: Any, data: bytes, flags: int, reason: DropReason
    ) -> None:
        fields = {"flags": flags | TunnelFlag.INPUT_KEY, "input_key": 7}
        assert verdict(codec, data, **fields) == (reason, 1)

    @pytest.mark.parametrize(
        ("flags", "reason"),
        [
            (0, DropReason.NONE),
            (TunnelFlag.INPUT_CHECKSUM_REQUIRED, DropReason.CSUM_MISSING),
            (TunnelFlag.INPUT_CHECKSUM_REFUSED, DropReason.NONE),
        ],
    )
    def test_it_may_be_required(self, codec: Any, flags: int, reason: DropReason) -> None:
        assert verdict(codec, outer(gre(INNER)), flags=flags) == (reason, 1)

    @pytest.mark.parametrize("length", range(0, 300, 7))
    def test_every_length_is_verified(self, codec: Any, length: int) -> None:
        inner = Packet().ip(pattern(length, seed=length))
        data = outer(GreHeader(protocol_type=PROTOCOL_IPV4, checksum=0).build(inner))
        assert verdict(codec, data) == (DropReason.NONE, 1)
        assert verdict(codec, data[:-1] + bytes([data[-1] ^ 1])) == (DropReason.CSUM_ERR, 1)

    def test_what_trails_the_inner_packet_is_covered(self, codec: Any) -> None:
        data = outer(GreHeader(protocol_type=PROTOCOL_IPV4, checksum=0).build(INNER + b"abc"))
        assert verdict(codec, data) == (DropReason.NONE, 1)
        assert verdict(codec, data[:-1] + b"x") == (DropReason.CSUM_ERR, 1)


class TestInner:
    @pytest.mark.parametrize(
        ("protocol", "flags"),
        [
            (PROTOCOL_ETHERNET, 0),
            (0x1234, 0),
            (PROTOCOL_IPV4, TunnelFlag.ETHERNET),
            (PROTOCOL_IPV6, TunnelFlag.ETHERNET),
        ],
    )
    def test_the_device_decides_which_protocols_it_takes(
        self, codec: Any, protocol: int, flags: int
    ) -> None:
        data = outer(gre(bytes(60), protocol))
        assert verdict(codec, data, flags=flags) == (DropReason.UNKNOWN_PROTOCOL, 1)

    @pytest.mark.parametrize("flags", [0, TunnelFlag.ETHERNET])
    @pytest.mark.parametrize(
        ("protocol", "reason"),
        [
            (0x0000, DropReason.KEEPALIVE),
            (0x8847, DropReason.MPLS),
            (0x8848, DropReason.MPLS),
            (0x88BE, DropReason.ERSPAN),
            (0x22EB, DropReason.ERSPAN),
        ],
    )
    def test_what_other_kinds_of_tunnel_carry_is_named(
        self, codec: Any, protocol: int, reason: DropReason, flags: int
    ) -> None:
        data = outer(gre(bytes(60), protocol))
        assert verdict(codec, data, flags=flags) == (reason, 1)

    @pytest.mark.parametrize("flags", [0, TunnelFlag.ETHERNET])
    @pytest.mark.parametrize(
        ("protocol", "reason"),
        [
            (0x0000, DropReason.KEEPALIVE),
            (0x8847, DropReason.MPLS),
            (0x8848, DropReason.MPLS),
            (0x88BE, DropReason.ERSPAN),
            (0x22EB, DropReason.ERSPAN),
        ],
    )
    def test_what_other_tunnels_carry_is_named(
        self, codec: Any, flags: int, protocol: int, reason: DropReason
    ) -> None:
        assert verdict(codec, outer(gre(bytes(60), protocol)), flags=flags) == (reason, 1)

    @pytest.mark.parametrize(
        ("inner", "protocol", "flags"),
        [
            (INNER[:19], PROTOCOL_IPV4, 0),
            (INNER6[:39], PROTOCOL_IPV6, 0),
            (b"", PROTOCOL_IPV4, 0),
            (ethernet(b"")[:13], PROTOCOL_ETHERNET, TunnelFlag.ETHERNET),
        ],
    )
    def test_a_part_of_an_inner_header_is_truncated(
        self, codec: Any, inner: bytes, protocol: int, flags: int
    ) -> None:
        reason = verdict(codec, outer(gre(inner, protocol)), flags=flags)
        assert reason == (DropReason.TRUNCATED, 1)

    @pytest.mark.parametrize(
        ("inner", "protocol"),
        [
            (INNER6, PROTOCOL_IPV4),
            (INNER + bytes(20), PROTOCOL_IPV6),
            (b"\x44" + INNER[1:], PROTOCOL_IPV4),
            (b"\x4f" + INNER[1:], PROTOCOL_IPV4),
            (INNER[:-1], PROTOCOL_IPV4),
            (INNER[:2] + b"\0\x13" + INNER[4:], PROTOCOL_IPV4),
            (INNER6[:-1], PROTOCOL_IPV6),
            (INNER6[:4] + b"\0\0\0" + INNER6[7:], PROTOCOL_IPV6),
        ],
        ids=[
            "v6 as v4",
            "v4 as v6",
            "IHL 4",
            "IHL beyond the total length",
            "total length beyond the end",
            "total length less than the header",
            "payload length beyond the end",
            "jumbogram",
        ],
    )
    def test_an_inner_header_that_contradicts_is_refused(
        self, codec: Any, inner: bytes, protocol: int
    ) -> None:
        assert verdict(codec, outer(gre(inner, protocol))) == (DropReason.BAD_INNER, 1)

    def test_an_ipv6_header_alone_is_a_packet(self, codec: Any) -> None:
        inner = Packet(version=6, protocol=59).ip(b"")
        assert verdict(codec, outer(gre(inner, PROTOCOL_IPV6))) == (DropReason.NONE, 1)

    @pytest.mark.parametrize("inner", [b"", b"\x45", INNER[:10], b"\0" * 60])
    def test_a_switch_does_not_judge_what_it_carries(self, codec: Any, inner: bytes) -> None:
        data = outer(gre(ethernet(inner), PROTOCOL_ETHERNET))
        assert verdict(codec, data, flags=TunnelFlag.ETHERNET) == (DropReason.NONE, 1)


class TestOrder:
    """The first rung that applies is the verdict."""

    def test_the_ladder(self, codec: Any) -> None:
        bad = replace(Packet(version=6)).ip(b"")
        flags = TunnelFlag.INPUT_CHECKSUM_REQUIRED | TunnelFlag.INPUT_SEQUENCE
        assert verdict(codec, outer(gre(bad)), flags=flags)[0] == DropReason.CSUM_MISSING
        flags = TunnelFlag.INPUT_SEQUENCE
        assert verdict(codec, outer(gre(bad)), flags=flags)[0] == DropReason.BAD_INNER
        assert verdict(codec, outer(gre(bad, 9)), flags=flags)[0] == DropReason.UNKNOWN_PROTOCOL
        assert verdict(codec, outer(gre(INNER), tos=3), flags=flags)[0] == DropReason.ECN_ERR
        assert verdict(codec, outer(gre(INNER)), flags=flags)[0] == DropReason.SEQ_MISSING

    def test_the_checksum_comes_before_the_protocol(self, codec: Any) -> None:
        data = outer(struct.pack("!HHHH", 0x8000, 9, 1, 0) + INNER)
        assert verdict(codec, data)[0] == DropReason.CSUM_ERR


class TestRedirected:
    """WCCP, as gre_parse_header() of the kernel reads it."""

    REDIRECT = b"\0\0\0\1"  # the header of version 2

    @pytest.mark.parametrize("front", [b"", REDIRECT], ids=["version 1", "version 2"])
    def test_the_packet_is_delivered(self, codec: Any, front: bytes) -> None:
        bench = Ingress([outer(gre(front + INNER, 0x883E))])
        assert bench.frames(codec) == [INNER]
        assert bench.after().rx_packets == 1

    def test_a_congestion_mark_reaches_it(self, codec: Any) -> None:
        inner = Packet(tos=2).ip(b"payload")
        bench = Ingress([outer(gre(self.REDIRECT + inner, 0x883E), tos=3)])
        assert bench.frames(codec) == [Packet(tos=3).ip(b"payload")]

    def test_over_ipv6_it_is_ipv6(self, codec: Any) -> None:
        inner = Packet(version=6).ip(b"payload")
        record = make_record(family=6, local=LOCAL6, remote=REMOTE6)
        bench = Ingress([Datagram6(gre(self.REDIRECT + inner, 0x883E))], [record])
        assert bench.frames(codec) == [inner]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (gre(b"", 0x883E), DropReason.TRUNCATED),
            (gre(REDIRECT[:3], 0x883E), DropReason.TRUNCATED),
            (gre(REDIRECT, 0x883E), DropReason.TRUNCATED),
            (gre(REDIRECT + bytes(60), 0x883E), DropReason.BAD_INNER),
            (gre(INNER, 0x883E, flags=0x0008), DropReason.WCCP),
        ],
        ids=["nothing", "half a header", "header alone", "no packet", "a reserved flag"],
    )
    def test_what_is_none_is_refused(self, codec: Any, data: bytes, reason: DropReason) -> None:
        assert verdict(codec, outer(data)) == (reason, 1)

    def test_an_ethernet_tunnel_takes_none(self, codec: Any) -> None:
        data = outer(gre(self.REDIRECT + INNER, 0x883E))
        assert verdict(codec, data, flags=TunnelFlag.ETHERNET) == (DropReason.WCCP, 1)

    def test_who_asks_for_the_protocol_itself_gets_it_whole(self, codec: Any) -> None:
        data = self.REDIRECT + INNER
        record = make_record(flags=TunnelFlag.PACKET_INFO, protocol=0x883E)
        assert Ingress([outer(gre(data, 0x883E))], [record]).frames(codec) == [
            b"\0\0\x88\x3e" + data
        ]


class TestKeepalive:
    """An answer that is to be sent back, in a packet to the sender."""

    def answer(self, source: bytes = LOCAL, to: bytes = REMOTE, **fields: Any) -> bytes:
        data = fields.pop("data", b"\0\0\0\0")
        return Packet(protocol=47, source=source, destination=to, **fields).ip(data)

    @pytest.mark.parametrize("data", [b"\0\0\0\0", b"\x20\0\0\0\0\0\0\7", bytes(12)])
    def test_it_is_named(self, codec: Any, data: bytes) -> None:
        inner = self.answer(data=data)
        assert verdict(codec, outer(gre(inner))) == (DropReason.KEEPALIVE, 1)

    @pytest.mark.parametrize(
        "fields", [{"source": bytes([10, 0, 0, 1])}, {"to": bytes([10, 0, 0, 1])}]
    )
    def test_behind_a_nat_either_end_has_another_name(
        self, codec: Any, fields: dict[str, Any]
    ) -> None:
        assert verdict(codec, outer(gre(self.answer(**fields)))) == (DropReason.KEEPALIVE, 1)

    @pytest.mark.parametrize("data", [b"\0\0\0\0", bytes(20), b"\0\0\x86\xdd"])
    def test_over_ipv6_too(self, codec: Any, data: bytes) -> None:
        """The last form, without content, is MikroTik's."""
        inner = self.answer(LOCAL6, REMOTE6, version=6, data=data)
        fields = {"family": 6, "local": LOCAL6, "remote": REMOTE6}
        found = verdict(codec, Datagram6(gre(inner, PROTOCOL_IPV6)), **fields)
        assert found == (DropReason.KEEPALIVE, 1)

    def test_ipv6_that_carries_something_is_delivered(self, codec: Any) -> None:
        inner = self.answer(LOCAL6, REMOTE6, version=6, data=b"\0\0\x86\xddx")
        record = make_record(family=6, local=LOCAL6, remote=REMOTE6)
        assert Ingress([Datagram6(gre(inner, PROTOCOL_IPV6))], [record]).frames(codec) == [inner]

    @pytest.mark.parametrize(
        "flags", [TunnelFlag.INPUT_CHECKSUM_REQUIRED, TunnelFlag.INPUT_SEQUENCE]
    )
    def test_an_answer_is_named_before_anything_is_demanded_of_it(
        self, codec: Any, flags: int
    ) -> None:
        found = verdict(codec, outer(gre(b"cookie", 0)), flags=flags)
        assert found == (DropReason.KEEPALIVE, 1)

    def test_some_mean_the_ends_inside(self, codec: Any) -> None:
        inside, other = bytes([10, 1, 2, 1]), bytes([10, 1, 2, 2])
        inner = self.answer(inside, other)
        own = (c_ubyte * 4)(*inside)
        assert verdict(codec, outer(gre(inner)), inner=own) == (DropReason.KEEPALIVE, 1)
        for address in (other, bytes(4)):
            record = make_record(inner=(c_ubyte * 4)(*address))
            bench = Ingress([outer(gre(inner))], [record])
            assert bench.frames(codec) == [inner]
        zero = self.answer(bytes(4), other)
        assert Ingress([outer(gre(zero))]).frames(codec) == [zero], "no address is nobody's"

    @pytest.mark.parametrize("flags", [0, TunnelFlag.ETHERNET])
    def test_huawei_has_a_protocol_type_of_its_own(self, codec: Any, flags: int) -> None:
        found = verdict(codec, outer(gre(self.answer(), 0x0004)), flags=flags)
        assert found == (DropReason.KEEPALIVE, 1)

    def test_who_sends_ethernet_asks_without_it(self, codec: Any) -> None:
        found = verdict(codec, outer(gre(self.answer())), flags=TunnelFlag.ETHERNET)
        assert found == (DropReason.KEEPALIVE, 1)

    def test_over_ipv6_as_well(self, codec: Any) -> None:
        inner = self.answer(LOCAL6, REMOTE6, version=6)
        record = {"family": 6, "local": LOCAL6, "remote": REMOTE6, "flags": TunnelFlag.ETHERNET}
        found = verdict(codec, Datagram6(gre(inner, PROTOCOL_IPV6)), **record)
        assert found == (DropReason.KEEPALIVE, 1)

    @pytest.mark.parametrize(
        ("data", "protocol", "flags"),
        [
            (INNER, 0x0004, 0),
            (INNER, 0x0800, TunnelFlag.ETHERNET),
            (b"", 0x0800, TunnelFlag.ETHERNET),
            (b"\x45", 0x0004, 0),
            (bytes(19), 0x86DD, TunnelFlag.ETHERNET),
        ],
    )
    def test_anything_else_of_such_a_protocol_type_is_unknown(
        self, codec: Any, data: bytes, protocol: int, flags: int
    ) -> None:
        found = verdict(codec, outer(gre(data, protocol)), flags=flags)
        assert found == (DropReason.UNKNOWN_PROTOCOL, 1)

    def test_where_the_inner_packet_lies_is_told(self, codec: Any) -> None:
        inner = self.answer()
        bench = Ingress([outer(gre(inner)), outer(gre(b"cookie", 0))])
        assert bench.frames(codec) == []
        first, second = bench.entries
        assert bench.arena[first.inner_offset :][: first.inner_length] == inner
        assert bench.arena[second.inner_offset :][:6] == b"cookie"

    @pytest.mark.parametrize(
        "fields",
        [
            {"source": REMOTE, "to": LOCAL},
            {"source": bytes([10, 0, 0, 1]), "to": bytes([10, 0, 0, 2])},
            {"data": b"\0\0\x08\0"},
            {"data": b"\0\1\0\0"},
            {"data": b"\0\0\0"},
            {"fragment": 1},
        ],
    )
    def test_what_only_looks_alike_is_delivered(self, codec: Any, fields: dict[str, Any]) -> None:
        inner = self.answer(**fields)
        assert Ingress([outer(gre(inner))]).frames(codec) == [inner]


@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        (0x6400, DropReason.EOIP),
        (0x880B, DropReason.PPTP),
        (0x0800, DropReason.BAD_VERSION),
    ],
)
def test_gre_of_version_1_is_named(codec: Any, protocol: int, reason: DropReason) -> None:
    data = outer(gre(bytes(60), protocol, flags=0x2001))
    bench = Ingress([data])
    bench.run(codec)
    assert bench.verdicts == [reason]
    assert bench.entries[0].key == 0


class TestNumbers:
    """A keepalive has a number as any other packet."""

    @pytest.mark.parametrize("kind", ["outside", "Ethernet", "echo"])
    def test_what_comes_next_is_the_next_one(self, codec: Any, kind: str) -> None:
        """And none was lost."""
        inner, flags = TestKeepalive().answer(), TunnelFlag.INPUT_SEQUENCE
        if kind == "Ethernet":
            flags |= TunnelFlag.ETHERNET
        if kind == "echo":
            inner, flags = echo_reply(), flags | TunnelFlag.ECHOES
        own = INNER if kind != "Ethernet" else ethernet(INNER)
        protocol = PROTOCOL_IPV4 if kind != "Ethernet" else PROTOCOL_ETHERNET

        def numbered(protocol: int, data: bytes, number: int) -> bytes:
            return outer(GreHeader(protocol_type=protocol, sequence=number).build(data))

        packets = [
            numbered(protocol, own, 5),
            numbered(PROTOCOL_IPV4, inner, 6),
            numbered(protocol, own, 7),
        ]
        bench = Ingress(packets, [make_record(flags=flags, echo=IDENTIFIER)])
        assert bench.frames(codec) == [own, own]
        assert bench.after().rx_lost == 0
        assert [DropReason(one.verdict) for one in bench.entries][1] is DropReason.KEEPALIVE


IDENTIFIER = 0x1234
MARK = ECHO_MARK.to_bytes(4)


def echo_reply(
    version: int = 4,
    *,
    identifier: int = IDENTIFIER,
    data: bytes = MARK + b"cookie",
    kind: int | None = None,
    code: int = 0,
    **fields: Any,
) -> bytes:
    kind = {4: 0, 6: 129}[version] if kind is None else kind
    fields = {"protocol": {4: 1, 6: 58}[version]} | fields
    head = struct.pack("!BBHHH", kind, code, 0, identifier, 1)
    return Packet(version=version, **fields).ip(head + data)


class TestEcho:
    """Answers to echo requests of our own, and to those of everybody else."""

    @pytest.mark.parametrize(
        "inner",
        [
            echo_reply(),
            echo_reply(6),
            echo_reply(data=MARK),
            echo_reply(options=bytes(4)),
            echo_reply(fragment=0x2000),
        ],
        ids=["IPv4", "IPv6", "no more than the mark", "with options", "the first fragment"],
    )
    def test_ours_are_handed_up(self, codec: Any, inner: bytes) -> None:
        protocol = PROTOCOL_IPV4 if inner[0] >> 4 == 4 else PROTOCOL_IPV6
        found = verdict(
            codec, outer(gre(inner, protocol)), flags=TunnelFlag.ECHOES, echo=IDENTIFIER
        )
        assert found == (DropReason.KEEPALIVE, 1)

    @pytest.mark.parametrize(
        "inner",
        [
            echo_reply(identifier=IDENTIFIER + 1),
            echo_reply(data=b"abcd" + MARK),
            echo_reply(data=MARK[:3]),
            echo_reply(kind=8),
            echo_reply(code=1),
            echo_reply(protocol=17),
            echo_reply(fragment=1),
            echo_reply(6, kind=0),
            echo_reply(6, protocol=1),
            Packet(protocol=1).ip(b""),
            Packet(version=6, protocol=58).ip(b""),
        ],
    )
    def test_those_of_others_are_delivered(self, codec: Any, inner: bytes) -> None:
        protocol = PROTOCOL_IPV4 if inner[0] >> 4 == 4 else PROTOCOL_IPV6
        record = make_record(flags=TunnelFlag.ECHOES, echo=IDENTIFIER)
        assert Ingress([outer(gre(inner, protocol))], [record]).frames(codec) == [inner]

    @pytest.mark.parametrize("flags", [0, TunnelFlag.ETHERNET])
    def test_where_nothing_is_asked_all_are(self, codec: Any, flags: int) -> None:
        inner, protocol = echo_reply(identifier=0), PROTOCOL_IPV4
        if flags:
            inner, protocol = ethernet(inner), PROTOCOL_ETHERNET
        record = make_record(flags=flags)
        assert Ingress([outer(gre(inner, protocol))], [record]).frames(codec) == [inner]
