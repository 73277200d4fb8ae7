"""Tunnels with many remotes: the longest prefix wins, on both twins."""

import ctypes
from ipaddress import ip_address, ip_network
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec
from gred.dataplane.layout import NO_DESTINATION, Destination, Frame, Peer
from gred.dataplane.peers import LEARNED_LIMIT, PeerMap
from gred.wire.drop import DropReason
from tests import require
from tests.dataplane.benches import Egress, Ingress, gre, make_record, outer, rows
from tests.dataplane.packets import Udp

Known = list[tuple[str, str]]


def peer_map(known: Known) -> PeerMap:
    template = Destination(family=4)
    template.local[:4] = bytes([192, 0, 2, 1])
    return PeerMap([(ip_network(inner), ip_address(remote)) for inner, remote in known], template)


def packet_to(address: str) -> bytes:
    to = ip_address(address)
    return Udp(version=to.version, destination=to.packed, payload=b"x").build()


def packet_from(address: str) -> bytes:
    return Udp(source=ip_address(address).packed, payload=b"x").build()


def remote_of(codec: Any, peers: PeerMap, packet: bytes) -> str | None:
    """Return the outer address that *packet* would be sent to."""
    bench = Egress([packet])
    codec.route_frames(bench.arena, bench.frame_table, 1, peers.peers, peers.count)
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
    codec.route_frames(bench.arena, bench.frame_table, 1, peers.peers, peers.count)
    assert rows(bench.frame_table, Frame)[0].destination == NO_DESTINATION


def test_the_destination_reaches_the_datagram(codec: Any) -> None:
    peers = peer_map(KNOWN)
    bench = Egress([packet_to("10.0.0.2"), packet_to("10.0.3.1")])
    codec.route_frames(bench.arena, bench.frame_table, 2, peers.peers, peers.count)
    wanted = [row.destination for row in rows(bench.frame_table, Frame)]
    bench.run(codec)
    from gred.dataplane.layout import Datagram

    got = [row.destination for row in rows(bench.datagram_table, Datagram)[:2]]
    assert got == wanted
    assert got[0] != got[1]


def stranger(codec: Any, peers: PeerMap, *packets: tuple[str, bytes], first: int = 0) -> int:
    datagrams = [outer(gre(packet_from(inner)), source=source) for inner, source in packets]
    bench = Ingress(datagrams, [make_record(remote=b"")])
    bench.run(codec)
    found: int = codec.find_stranger(
        bench.arena,
        bench.received,
        first,
        len(packets),
        1,
        peers.peers,
        peers.count,
        peers.destinations,
    )
    return found


HOME, AWAY = bytes([192, 0, 2, 2]), bytes([192, 0, 2, 99])


def test_a_known_source_behind_its_remote_is_no_stranger(codec: Any) -> None:
    assert stranger(codec, peer_map(KNOWN), ("10.0.0.2", HOME)) == 1


def test_a_source_behind_another_remote_is(codec: Any) -> None:
    peers = peer_map(KNOWN)
    assert stranger(codec, peers, ("10.0.0.2", HOME), ("10.0.0.2", AWAY)) == 1
    assert stranger(codec, peers, ("10.0.0.2", AWAY), ("172.16.0.1", HOME), first=1) == 1


def test_what_was_learned_is_known_and_newer_wins(codec: Any) -> None:
    peers = peer_map([])
    for remote in (HOME, AWAY):
        assert stranger(codec, peers, ("10.9.9.9", remote)) == 0
        peers.learn(ip_address("10.9.9.9").packed, remote)
        assert stranger(codec, peers, ("10.9.9.9", remote)) == 1
        assert remote_of(codec, peers, packet_to("10.9.9.9")) == str(ip_address(remote))


def test_what_is_configured_is_not_unlearned(codec: Any) -> None:
    peers = peer_map(KNOWN)
    peers.learn(ip_address("10.0.0.2").packed, AWAY)
    assert remote_of(codec, peers, packet_to("10.0.0.2")) == "192.0.2.2"


def test_what_is_learned_is_bounded() -> None:
    peers = peer_map(KNOWN)
    for number in range(2 * LEARNED_LIMIT):
        peers.learn((number + 1).to_bytes(4), HOME)
    assert peers.count == LEARNED_LIMIT + len(KNOWN)


@pytest.fixture(scope="module")
def native() -> ModuleType:
    require.extension()
    from gred.dataplane import _codec

    return _codec


networks = st.tuples(
    st.sampled_from([4, 6]), st.integers(0, 128), st.binary(min_size=16, max_size=16)
)


@settings(max_examples=300, deadline=None, database=None)
@given(
    known=st.lists(networks, max_size=6),
    packets=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    shared=st.binary(min_size=16, max_size=16),
)
def test_the_twins_agree(
    native: ModuleType,
    known: list[tuple[int, int, bytes]],
    packets: list[bytes],
    shared: bytes,
) -> None:
    peers = bytearray(ctypes.sizeof(Peer) * max(1, len(known)))
    for index, (family, length, network) in enumerate(known):
        row = Peer.from_buffer(peers, index * ctypes.sizeof(Peer))
        row.family, row.prefix_length, row.destination = family, length, index
        row.network[:] = shared[: length // 8].ljust(16, b"\0") if index % 2 else network
    answers = []
    for codec in (native, pure_codec):
        shaped = [packet or b"\x45" + bytes(15) + shared[:4] for packet in packets]
        bench = Egress(shaped)
        codec.route_frames(bench.arena, bench.frame_table, len(shaped), peers, len(known))
        answers.append(bench.memory)
    assert answers[0] == answers[1]
