"""Tunnels with many remotes: the longest prefix wins, on both twins."""

import ctypes
from ipaddress import ip_address, ip_network
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec
from gred.dataplane.layout import (
    NO_DESTINATION,
    Datagram,
    Destination,
    Frame,
    PeerHeader,
    TunnelFlag,
)
from gred.dataplane.peers import HOLD, LEARNED_LIMIT, REMOTE_LIMIT, PeerMap
from gred.wire.drop import DropReason
from tests import require
from tests.dataplane.benches import Egress, Ingress, gre, make_record, outer, rows
from tests.dataplane.packets import Udp

Known = list[tuple[str, str]]


def template() -> Destination:
    row = Destination(family=4)
    row.local[:4] = bytes([192, 0, 2, 1])
    return row


def peer_map(known: Known, *, learns: bool = False) -> PeerMap:
    pairs = [(ip_network(inner), ip_address(remote)) for inner, remote in known]
    return PeerMap(pairs, template(), learns=learns)


def packet_to(address: str) -> bytes:
    to = ip_address(address)
    return Udp(version=to.version, destination=to.packed, payload=b"x").build()


def packet_from(address: str) -> bytes:
    return Udp(source=ip_address(address).packed, payload=b"x").build()


def route(codec: Any, bench: Egress, peers: PeerMap, count: int, limit: int = 64) -> int:
    routed: int = codec.route_frames(
        bench.arena, bench.frame_table, count, limit, peers.peers, peers.destinations
    )
    return routed


def remote_of(codec: Any, peers: PeerMap, packet: bytes) -> str | None:
    """Return the outer address that *packet* would be sent to."""
    bench = Egress([packet])
    route(codec, bench, peers, 1)
    index = rows(bench.frame_table, Frame)[0].destination
    if index == NO_DESTINATION:
        assert bench.run(codec)[2] == 1
        assert bench.verdicts == [DropReason.NO_REMOTE]
        return None
    row = Destination.from_buffer(peers.destinations, index * ctypes.sizeof(Destination))
    assert bytes(row.local)[:4] == bytes([192, 0, 2, 1])
    return str(ip_address(bytes(row.remote)[:4]))


KNOWN: Known = [
    ("10.0.0.0/8", "192.0.2.8"),
    ("10.0.3.0/24", "192.0.2.3"),
    ("10.0.0.2/32", "192.0.2.2"),
    ("10.0.3.128/25", "192.0.2.8"),
    ("fd00::/16", "192.0.2.6"),
    ("fd00:3::/33", "192.0.2.3"),
]


@pytest.mark.parametrize(
    ("inner", "remote"),
    [
        ("10.0.0.2", "192.0.2.2"),
        ("10.0.0.3", "192.0.2.8"),
        ("10.0.3.127", "192.0.2.3"),
        ("10.0.3.128", "192.0.2.8"),
        ("11.0.0.1", None),
        ("224.0.0.5", None),
        ("fd00:3::1", "192.0.2.3"),
        ("fd00:3:8000::1", "192.0.2.6"),
        ("fe80::1", None),
    ],
)
def test_the_longest_prefix_wins(codec: Any, inner: str, remote: str | None) -> None:
    assert remote_of(codec, peer_map(KNOWN), packet_to(inner)) == remote


def test_a_default_route_of_each_version_is_possible(codec: Any) -> None:
    peers = peer_map([("0.0.0.0/0", "192.0.2.4"), ("::/0", "192.0.2.6")])
    assert remote_of(codec, peers, packet_to("8.8.8.8")) == "192.0.2.4"
    assert remote_of(codec, peers, packet_to("2001:db8::1")) == "192.0.2.6"


def test_without_peers_there_is_nobody_to_send_to(codec: Any) -> None:
    assert remote_of(codec, peer_map([]), packet_to("10.0.0.2")) is None


@pytest.mark.parametrize("packet", [b"", b"\x45" + bytes(18), b"\x60" + bytes(38), bytes(60)])
def test_a_packet_without_an_address_has_no_destination(codec: Any, packet: bytes) -> None:
    peers = peer_map([("0.0.0.0/0", "192.0.2.4")])
    bench = Egress([packet])
    route(codec, bench, peers, 1)
    assert rows(bench.frame_table, Frame)[0].destination == NO_DESTINATION


def test_the_destination_reaches_the_datagram(codec: Any) -> None:
    peers = peer_map(KNOWN)
    bench = Egress([packet_to("10.0.0.2"), packet_to("10.0.3.1")])
    route(codec, bench, peers, 2)
    wanted = [row.destination for row in rows(bench.frame_table, Frame)]
    bench.run(codec)
    got = [row.destination for row in rows(bench.datagram_table, Datagram)[:2]]
    assert got == wanted
    assert got[0] != got[1]


HOME, AWAY = bytes([192, 0, 2, 2]), bytes([192, 0, 2, 99])
SILENT = HOLD  # at this time, whoever was heard at 0


def unlearned(
    codec: Any, peers: PeerMap, *packets: tuple[str, bytes], first: int = 0, now: int = 0
) -> int:
    datagrams = [outer(gre(packet_from(inner)), source=source) for inner, source in packets]
    bench = Ingress(datagrams, [make_record(remote=b"")])
    bench.run(codec)
    found: int = codec.find_unlearned_source(
        bench.arena,
        bench.received,
        first,
        len(packets),
        1,
        peers.peers,
        peers.destinations,
        now,
        HOLD,
    )
    return found


def packed(address: str) -> bytes:
    return ip_address(address).packed


def test_who_is_behind_no_remote_is_unlearned(codec: Any) -> None:
    peers = peer_map(KNOWN)
    assert unlearned(codec, peers, ("10.0.0.2", HOME)) == 1
    assert unlearned(codec, peers, ("10.0.0.2", HOME), ("172.16.0.1", HOME)) == 1
    assert unlearned(codec, peers, ("172.16.0.1", HOME), ("172.16.0.2", HOME), first=1) == 1


def test_what_is_configured_is_not_asked_about(codec: Any) -> None:
    """Nor overruled: not by another remote, and not by an address within the network."""
    peers = peer_map(KNOWN, learns=True)
    assert unlearned(codec, peers, ("10.0.0.2", AWAY), ("10.0.0.77", AWAY)) == 2
    assert peers.refused == (0, 0)
    for inner in ("10.0.0.2", "10.0.0.77"):
        assert not peers.learn(packed(inner), AWAY, 0)
    assert remote_of(codec, peers, packet_to("10.0.0.2")) == "192.0.2.2"
    assert remote_of(codec, peers, packet_to("10.0.0.77")) == "192.0.2.8"


def test_what_was_learned_stays_where_it_is_heard_and_moves_when_it_is_not(codec: Any) -> None:
    peers = peer_map([], learns=True)
    assert unlearned(codec, peers, ("10.9.9.9", HOME)) == 0
    assert peers.learn(packed("10.9.9.9"), HOME, 0)
    assert unlearned(codec, peers, ("10.9.9.9", AWAY), now=SILENT - 1) == 1
    assert peers.refused == (1, 0)
    assert not peers.learn(packed("10.9.9.9"), AWAY, SILENT - 1)
    # Heard from once more: the time begins anew.
    assert unlearned(codec, peers, ("10.9.9.9", HOME), now=SILENT - 1) == 1
    assert unlearned(codec, peers, ("10.9.9.9", AWAY), ("10.9.9.9", AWAY), now=SILENT) == 2
    assert peers.refused == (3, 1)
    assert remote_of(codec, peers, packet_to("10.9.9.9")) == str(ip_address(HOME))
    late = 2 * SILENT - 1
    assert unlearned(codec, peers, ("10.9.9.9", AWAY), now=late) == 0
    assert peers.learn(packed("10.9.9.9"), AWAY, late)
    assert remote_of(codec, peers, packet_to("10.9.9.9")) == str(ip_address(AWAY))


@pytest.mark.parametrize(
    "inner", ["224.0.0.5", str(ip_address(0)), "255.255.255.255", "ff02::5", "::"]
)
def test_an_address_of_nobody_is_not_learned(inner: str) -> None:
    peers = peer_map([], learns=True)
    assert not peers.learn(packed(inner), HOME, 0)
    assert peers.count == 0


def number(value: int) -> bytes:
    return (0x0A000000 + value).to_bytes(4)


def remote(value: int) -> bytes:
    return bytes([198, 18, *value.to_bytes(2)])


def test_one_remote_has_so_many_and_gives_up_its_own(codec: Any) -> None:
    peers = peer_map(KNOWN[2:3], learns=True)
    peers.learn(packed("172.16.0.1"), AWAY, 0)
    for value in range(REMOTE_LIMIT + 50):
        assert peers.learn(number(value + 1000), HOME, 1)
    assert peers.count == REMOTE_LIMIT + 2
    assert remote_of(codec, peers, packet_to("172.16.0.1")) == str(ip_address(AWAY))


def test_who_invents_sources_drives_nobody_out(codec: Any) -> None:
    peers = peer_map([], learns=True)
    peers.learn(packed("172.16.0.1"), AWAY, 0)
    for value in range(LEARNED_LIMIT - 1):
        assert peers.learn(number(value), remote(value % 8), 0)
    assert peers.count == LEARNED_LIMIT
    assert not peers.learn(number(LEARNED_LIMIT), remote(9), SILENT - 1)
    assert remote_of(codec, peers, packet_to("172.16.0.1")) == str(ip_address(AWAY))
    # The first one is heard from again; somebody who is not gives way.
    assert unlearned(codec, peers, ("172.16.0.1", AWAY), now=SILENT) == 1
    for value in range(100):
        assert peers.learn(number(LEARNED_LIMIT + value), remote(9), SILENT)
    assert peers.count == LEARNED_LIMIT
    assert remote_of(codec, peers, packet_to("172.16.0.1")) == str(ip_address(AWAY))
    for value in range(100):
        address = str(ip_address(number(LEARNED_LIMIT + value)))
        assert remote_of(codec, peers, packet_to(address)) == "198.18.0.9"


def test_the_tunnels_that_learn_are_each_named_once(codec: Any) -> None:
    learns = {"input_key": 0, "flags": TunnelFlag.LEARNS}
    records = [make_record(remote=b"", **fields) for fields in ({}, learns, learns)]
    bench = Ingress([outer(gre(packet_from("10.0.0.1")))] * 6, records)
    for entry, tunnel in zip(bench.entries, (3, 1, 3, 2, 3, 2), strict=True):
        entry.tunnel = tunnel
    bench.entries[3].verdict = DropReason.CSUM_ERR
    found = bytearray(4 * 6)
    assert codec.find_learners(bench.received, 5, bench.tables.records, found) == 1
    assert memoryview(found).cast("I")[0] == 3
    assert codec.find_learners(bench.received, 6, bench.tables.records, found) == 2
    assert memoryview(found).cast("I")[:2].tolist() == [3, 2]
    assert codec.find_learners(bench.received, 6, bench.tables.records, bytearray(4)) == 1


GROUP: Known = [
    ("224.0.0.0/4", "192.0.2.2"),
    ("224.0.0.0/4", "192.0.2.3"),
    ("224.0.0.0/4", "192.0.2.4"),
    ("224.0.0.9/32", "192.0.2.9"),
    ("10.0.0.2/32", "192.0.2.2"),
]


def spread(codec: Any, peers: PeerMap, bench: Egress, datagrams: int) -> list[tuple[int, str]]:
    """Return what leaves: the frame that each datagram came from, and where it goes."""
    index = copy = 0
    sent = []
    while index < datagrams:
        filled, index, copy = codec.spread_datagrams(
            bench.datagram_table,
            index,
            copy,
            datagrams,
            datagrams,
            peers.destinations,
            bench.tables.tx_states,
            1,
        )
        assert filled
        for row in rows(bench.datagram_table, Datagram)[datagrams : datagrams + filled]:
            at = row.destination * ctypes.sizeof(Destination)
            destination = Destination.from_buffer(peers.destinations, at)
            assert destination.copies == 0
            sent.append((row.frame, str(ip_address(bytes(destination.remote)[:4]))))
    return sent


@pytest.mark.parametrize("room", [1, 2, 60])
def test_what_goes_to_several_remotes_goes_to_each_in_its_place(codec: Any, room: int) -> None:
    peers = peer_map(GROUP)
    packets = [packet_to(to) for to in ("10.0.0.2", "224.0.0.5", "224.0.0.9", "239.1.1.1")]
    record = make_record(remote=b"", flags=TunnelFlag.OUTPUT_SEQUENCE)
    bench = Egress(packets, record=record, datagrams=len(packets) + room)
    assert route(codec, bench, peers, len(packets)) == len(packets)
    datagrams = bench.run(codec)[0]
    assert spread(codec, peers, bench, datagrams) == [
        (0, "192.0.2.2"),
        (1, "192.0.2.2"),
        (1, "192.0.2.3"),
        (1, "192.0.2.4"),
        (2, "192.0.2.9"),
        (3, "192.0.2.2"),
        (3, "192.0.2.3"),
        (3, "192.0.2.4"),
    ]
    after = bench.after
    sizes = [len(packet) for packet in packets]
    assert (after.tx_packets, after.tx_bytes) == (8, sum(sizes) + 2 * (sizes[1] + sizes[3]))
    assert after.output_next == 4  # one number for all copies: each remote sees it once


def test_a_turn_takes_no_more_copies_than_it_may_send_but_one_packet(codec: Any) -> None:
    peers = peer_map(GROUP)
    packets = [packet_to(to) for to in ("10.0.0.2", "224.0.0.5", "224.0.0.5", "10.0.0.2")]
    bench = Egress(packets)
    taken = [route(codec, bench, peers, 4, limit) for limit in (1, 3, 4, 6, 7, 8)]
    assert taken == [1, 1, 2, 2, 3, 4]
    assert route(codec, Egress(packets[1:]), peers, 3, 1) == 1


def test_ten_thousand_peers_are_each_found(codec: Any) -> None:
    known = [
        (f"{ip_address(number(value))}/32", str(ip_address(remote(value))))
        for value in range(10_000)
    ]
    peers = peer_map(known)
    for value in range(0, 10_000, 997):
        assert (
            remote_of(codec, peers, packet_to(known[value][0].partition("/")[0])) == known[value][1]
        )


@pytest.fixture(scope="module")
def native() -> ModuleType:
    require.extension()
    from gred.dataplane import _codec

    return _codec


addresses = st.one_of(
    st.integers(0, 15).map(lambda low: ip_address(0x0A000000 + low)),
    st.integers(0, 15).map(lambda low: ip_address((0xFD << 120) + low)),
)
lessons = st.tuples(addresses, st.integers(1, 3), st.integers(0, 100))
networks = st.tuples(addresses, st.integers(0, 128), st.integers(1, 3)).map(
    lambda one: (
        ip_network((one[0], min(one[1], one[0].max_prefixlen)), strict=False),
        ip_address(f"192.0.2.{one[2]}"),
    )
)


@settings(max_examples=100, deadline=None, database=None)
@given(
    configured=st.lists(networks, max_size=5, unique_by=lambda one: one[0]),
    taught=st.lists(lessons, max_size=12),
    asked=st.lists(addresses, min_size=1, max_size=8),
)
def test_the_twins_find_what_a_look_at_each_network_would_find(
    native: ModuleType, configured: Any, taught: Any, asked: Any
) -> None:
    peers = PeerMap(configured, template(), learns=True)
    known = dict(configured)
    heard: dict[Any, int] = {}
    for address, number_, now in taught:
        outer_ = ip_address(f"192.0.2.{number_}")
        covered = any(address in network for network, _ in configured)
        own = ip_network(address)
        news = not covered and known.get(own) != outer_ and now - heard.get(own, -HOLD) >= HOLD
        if address.is_unspecified:
            news = False
        assert peers.learn(address.packed, outer_.packed, now) == news
        if news:
            known[own], heard[own] = outer_, now
    for address in asked:
        covering = [network for network in known if address in network]
        wanted = max(covering, key=lambda network: network.prefixlen) if covering else None
        for codec in (native, pure_codec):
            packet = Udp(version=address.version, destination=address.packed, payload=b"x").build()
            found = remote_of(codec, peers, packet)
            assert found == (None if wanted is None else str(known[wanted]))


@settings(max_examples=300, deadline=None, database=None)
@given(
    table=st.binary(min_size=64 + 32 * 4, max_size=64 + 32 * 4),
    packets=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    places=st.binary(min_size=128, max_size=128),
)
def test_the_twins_agree_on_a_table_of_any_content(
    native: ModuleType, table: bytes, packets: list[bytes], places: bytes
) -> None:
    answers = []
    for codec in (native, pure_codec):
        peers, destinations = bytearray(table), bytearray(places)
        PeerHeader.from_buffer(peers).mask = 3
        bench = Egress([packet or b"\x45" + bytes(19) for packet in packets])
        count = codec.route_frames(
            bench.arena, bench.frame_table, len(packets), 2, peers, destinations
        )
        answers.append((count, bench.memory, peers))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("mask", [2, 4, 7, 0xFFFFFFFF])
def test_a_damaged_table_is_refused(codec: Any, mask: int) -> None:
    peers = bytearray(64 + 32 * 4)
    PeerHeader.from_buffer(peers).mask = mask
    bench = Egress([packet_to("10.0.0.1")])
    with pytest.raises(ValueError, match="damaged"):
        codec.route_frames(bench.arena, bench.frame_table, 1, 1, peers, bytearray(64))
