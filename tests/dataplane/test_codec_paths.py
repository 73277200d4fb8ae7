"""Tunnels with many remotes: each path carries what it carries, on both twins."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from gred.dataplane.layout import Datagram, Destination, Frame, TunnelFlag
from gred.dataplane.peers import PeerMap
from gred.wire import ip
from gred.wire.drop import DropReason
from tests.dataplane.benches import Egress, make_record, rows, table
from tests.dataplane.packets import Tcp, Udp

NARROW, WIDE = ip_address("192.0.2.2"), ip_address("192.0.2.3")
TO_NARROW, TO_WIDE, TO_BOTH = bytes([10, 0, 0, 2]), bytes([10, 0, 0, 3]), bytes([239, 1, 1, 1])
LIMIT = 1276


def peers() -> PeerMap:
    known = [("10.0.0.2/32", NARROW), ("10.0.0.3/32", WIDE)]
    known += [("224.0.0.0/4", remote) for remote in (NARROW, WIDE)]
    return PeerMap([(ip_network(net), at) for net, at in known], Destination(family=4))


def packet(destination: bytes, length: int) -> bytes:
    built = Udp(destination=destination, payload=bytes(length - 28)).build()
    assert len(built) == length
    return built


def routed(codec: Any, known: PeerMap, *packets: bytes, **fields: Any) -> Egress:
    fields.setdefault("flags", TunnelFlag.DONT_FRAGMENT)
    bench = Egress(list(packets), make_record(**fields))
    codec.route_frames(
        bench.arena, bench.frame_table, len(packets), 64, known.peers, known.destinations
    )
    return bench


def test_what_is_too_big_for_one_path_goes_on_by_the_other(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, LIMIT)
    packets = [packet(to, size) for size in (LIMIT, LIMIT + 1) for to in (TO_NARROW, TO_WIDE)]
    bench = routed(codec, known, *packets)
    assert [sent.inner_length for sent in bench.all(codec)] == [LIMIT, LIMIT, LIMIT + 1]
    assert bench.verdicts == [0, 0, DropReason.TOO_BIG, 0]


def test_the_smaller_of_the_limits_of_tunnel_and_path_holds(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, LIMIT)
    known.limit(WIDE.packed, 65000)
    packets = [packet(to, 1201) for to in (TO_NARROW, TO_WIDE)]
    bench = routed(codec, known, *packets, path_mtu=1200)
    assert bench.all(codec) == []
    assert bench.verdicts == [DropReason.TOO_BIG] * 2


@pytest.mark.parametrize("path_mtu", [None, 65535, 70000, 0xFFFFFFFF])
def test_no_limit_and_a_large_one_let_all_through(codec: Any, path_mtu: int | None) -> None:
    known = peers()
    known.limit(NARROW.packed, LIMIT)
    known.limit(NARROW.packed, path_mtu)
    bench = routed(codec, known, packet(TO_NARROW, 9000))
    assert len(bench.all(codec)) == 1


def test_outer_packets_may_be_fragmented_to_one_and_not_to_the_other(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, 528, fragmentable=True)
    bench = routed(codec, known, packet(TO_NARROW, 1400), packet(TO_WIDE, 1400))
    assert [sent.dont_fragment for sent in bench.all(codec)] == [0, 1]


def test_a_copy_for_a_narrow_path_may_be_fragmented_and_the_others_stay(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, LIMIT)
    bench = routed(codec, known, packet(TO_BOTH, LIMIT), packet(TO_BOTH, LIMIT + 1))
    count, _next, refused = bench.run(codec)
    assert (count, refused) == (2, 0)
    datagrams = table(Datagram, 16)
    datagrams[: len(bench.datagram_table)] = bench.datagram_table[: len(datagrams)]
    filled, *_rest = codec.spread_datagrams(
        datagrams, 0, 0, 2, 8, known.destinations, bench.tables.tx_states, 1
    )
    copies = rows(datagrams, Datagram)[8 : 8 + filled]
    assert [(copy.inner_length, copy.dont_fragment) for copy in copies] == [
        (LIMIT, 1),
        (LIMIT, 1),
        (LIMIT + 1, 0),
        (LIMIT + 1, 1),
    ]


def test_the_mss_is_clamped_to_the_path_of_the_destination(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, LIMIT)
    option = bytes([2, 4]) + (1460).to_bytes(2)
    syns = [
        Tcp(destination=to, flags=0x02, tcp_options=option).build() for to in (TO_NARROW, TO_WIDE)
    ]
    flags = TunnelFlag.DONT_FRAGMENT | TunnelFlag.CLAMP_MSS
    bench = routed(codec, known, *syns, flags=flags, mtu=1476)
    found = [
        int.from_bytes(sent.data[4 + ip.IPV4_HEADER + 20 + 2 :][:2]) for sent in bench.all(codec)
    ]
    assert found == [LIMIT - 40, 1436]


def test_routing_anew_forgets_what_the_last_destination_carried(codec: Any) -> None:
    known = peers()
    known.limit(NARROW.packed, 528, fragmentable=True)
    bench = routed(codec, known, packet(TO_NARROW, 1400))
    (frame,) = rows(bench.frame_table, Frame)
    assert (frame.path_mtu, frame.fragmentable) == (528, 1)
    known.limit(NARROW.packed, None)
    codec.route_frames(bench.arena, bench.frame_table, 1, 64, known.peers, known.destinations)
    assert (frame.path_mtu, frame.fragmentable) == (0, 0)


def test_a_learned_remote_that_comes_back_has_the_same_path() -> None:
    known = PeerMap([], Destination(family=4), learns=True)
    known.limit(NARROW.packed, LIMIT)
    assert known.learn(TO_NARROW, NARROW.packed, 0)
    assert Destination.from_buffer(known.destinations).path_mtu == LIMIT
    moved = PeerMap([], Destination(family=4), learns=True)
    moved.keep_paths(known)
    assert moved.learn(TO_NARROW, NARROW.packed, 0)
    assert Destination.from_buffer(moved.destinations).path_mtu == LIMIT


def test_a_map_made_anew_knows_what_was_learned_and_when() -> None:
    known = PeerMap([], Destination(family=4), learns=True)
    assert known.learn(TO_NARROW, NARROW.packed, 7)
    assert known.learn(TO_WIDE, WIDE.packed, 8)
    configured = ip_network(ip_address(TO_WIDE))
    made = PeerMap([(configured, NARROW)], Destination(family=4), learns=True)
    made.keep_learned(known)
    assert list(made.learned_peers()) == [(TO_NARROW, NARROW.packed, 7)]


def test_who_watches_is_told_of_each_remote_once() -> None:
    told: list[tuple[bytes, bool]] = []
    networks = [("10.0.0.0/24", NARROW), ("10.0.1.0/24", NARROW)]
    networks += [("224.0.0.0/4", remote) for remote in (NARROW, WIDE)]
    known = PeerMap(
        [(ip_network(net), at) for net, at in networks],
        Destination(family=4),
        learns=True,
        watch=lambda remote, comes: told.append((remote, comes)),
    )
    assert told == [(NARROW.packed, True), (WIDE.packed, True)]
    learned = bytes([192, 0, 2, 9])
    assert known.learn(bytes([10, 9, 0, 1]), learned, 0)
    assert known.learn(bytes([10, 9, 0, 1]), WIDE.packed, 100)
    assert told[2:] == [(learned, True), (learned, False)]
