"""The order in which frames wait: small ones of quiet flows lead, no flow is ever reordered."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec
from gred.dataplane.layout import Frame, TunnelFlag
from tests import require
from tests.dataplane.benches import Egress, Tunnel, make_record, rows
from tests.dataplane.chance import Chance
from tests.dataplane.packets import Packet, Tcp, Udp, ethernet

SPARSE_AT_MOST = 4
QUANTUM = 1514

BULK = Tcp(ports=(1, 2), payload=bytes(9000)).build()
PING = Packet(protocol=1).ip(bytes(64))
KEY = Tcp(ports=(3, 4), flags=0x18, payload=b"k").build()
FRAGMENT = Udp(ports=(5, 6), fragment=0x2000, payload=bytes(1400)).build()
VLAN = bytes.fromhex("8100 0007")


@dataclass
class Line:
    """Frames that wait, by their place in the list they came from."""

    bench: Egress
    sparse: int = 0
    waiting: int = 0

    def read(self, codec: Any, count: int) -> None:
        """Queue *count* more."""
        bench = self.bench
        end = self.waiting + count
        self.sparse = codec.order_frames(
            bench.arena,
            bench.frame_table,
            self.sparse,
            self.waiting,
            end,
            bench.tables.records,
            1,
        )
        self.waiting = end

    @property
    def order(self) -> list[int]:
        offsets = self.offsets
        return [offsets.index(row.offset) for row in rows(self.bench.frame_table, Frame)]

    def __post_init__(self) -> None:
        self.offsets = [row.offset for row in rows(self.bench.frame_table, Frame)]


def line(frames: Sequence[bytes], record: Tunnel | None = None) -> Line:
    return Line(Egress(frames, make_record() if record is None else record))


def order(codec: Any, frames: Sequence[bytes], record: Tunnel | None = None) -> list[int]:
    """Return in which order *frames* leave that were read at once."""
    found = line(frames, record)
    found.read(codec, len(frames))
    return found.order


def test_small_frames_of_other_flows_go_before_large_ones(codec: Any) -> None:
    assert order(codec, [BULK, BULK, PING, KEY]) == [2, 3, 0, 1]


def test_what_came_first_leaves_first_among_the_small(codec: Any) -> None:
    other = Tcp(ports=(7, 8), flags=2).build()
    assert order(codec, [BULK, KEY, other, PING]) == [1, 2, 3, 0]


def test_a_small_frame_never_overtakes_its_own_flow(codec: Any) -> None:
    own = Tcp(ports=(1, 2)).build()
    assert order(codec, [BULK, own, PING, own]) == [2, 0, 1, 3]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("flags", range(256))
def test_a_bare_acknowledgment_does_not_lead(codec: Any, version: int, flags: int) -> None:
    """Unless it opens, closes, resets or pushes: it belongs to a stream of the other direction."""
    bare = Tcp(version=version, ports=(3, 4), flags=flags, tcp_options=b"\1" * 12)
    leads = bool(flags & 0x2F)
    assert order(codec, [BULK, bare.build()]) == ([1, 0] if leads else [0, 1])
    assert order(codec, [BULK, replace(bare, payload=b"k").build()]) == [1, 0]


def test_what_waits_since_an_earlier_read_is_overtaken_too(codec: Any) -> None:
    waiting = line([BULK, BULK, PING, KEY])
    waiting.read(codec, 2)
    assert waiting.sparse == 0
    waiting.read(codec, 1)
    waiting.read(codec, 1)
    assert (waiting.sparse, waiting.order) == (2, [2, 3, 0, 1])


def test_a_frame_moves_with_all_that_is_known_of_it(codec: Any) -> None:
    waiting = line([BULK, PING])
    first, second = rows(waiting.bench.frame_table, Frame)
    first.done, first.destination, second.destination = 1400, 7, 8
    waiting.read(codec, 2)
    ping, bulk = rows(waiting.bench.frame_table, Frame)
    assert (ping.length, ping.destination, ping.done) == (len(PING), 8, 0)
    assert (bulk.length, bulk.destination, bulk.done) == (len(BULK), 7, 1400)


def test_the_quantum_is_the_most_that_leads_of_one_flow(codec: Any) -> None:
    whole = Udp(payload=bytes(QUANTUM - 28)).build()
    more = Udp(payload=bytes(QUANTUM - 27)).build()
    assert order(codec, [BULK, whole]) == [1, 0]
    assert order(codec, [BULK, more]) == [0, 1]
    half = Udp(payload=bytes(700)).build()
    assert order(codec, [BULK, half, half, half]) == [1, 2, 0, 3]


def test_so_many_lead_and_no_more(codec: Any) -> None:
    small = [Udp(ports=(number, 53)).build() for number in range(10)]
    expected = [*range(1, SPARSE_AT_MOST + 1), 0, *range(SPARSE_AT_MOST + 1, 11)]
    assert order(codec, [BULK, *small]) == expected


@pytest.mark.parametrize(
    "packet",
    [
        FRAGMENT,
        Udp(ports=(5, 6), fragment=0x00B9).build(),
        *(Packet(version=6, protocol=number).ip(bytes(64)) for number in (0, 43, 44, 51, 60)),
    ],
)
def test_what_hides_its_flow_never_leads_and_holds_back_its_hosts(
    codec: Any, packet: bytes
) -> None:
    version = packet[0] >> 4
    same_hosts = Udp(version=version, ports=(9, 9)).build()
    other_hosts = Udp(version=version, source=bytes([9]) * (4 if version == 4 else 16)).build()
    assert order(codec, [BULK, packet]) == [0, 1]
    assert order(codec, [packet, same_hosts, other_hosts]) == [2, 0, 1]


@pytest.mark.parametrize("version", [4, 6])
def test_protocol_and_ports_tell_flows_apart(codec: Any, version: int) -> None:
    bulk = Tcp(version=version, ports=(1, 2), payload=bytes(3000)).build()
    for other in (
        Udp(version=version, ports=(1, 2)).build(),
        Tcp(version=version, ports=(2, 1), payload=b"k").build(),
        Tcp(version=version, ports=(1, 3), payload=b"k").build(),
        Packet(version=version, protocol=6).ip(bytes(3)),  # no ports: a flow of its own
    ):
        assert order(codec, [bulk, other]) == [1, 0]


@pytest.mark.parametrize("tags", [b"", VLAN, VLAN * 2])
def test_frames_of_a_bridge_are_told_apart_too(codec: Any, tags: bytes) -> None:
    record = make_record(flags=TunnelFlag.ETHERNET)
    arp = ethernet(bytes(28), 0x0806)
    large = ethernet(bytes(3000), 0x0806)
    bulk, ping = (ethernet(packet, tags=tags) for packet in (BULK, PING))
    assert order(codec, [bulk, ping, arp], record) == [1, 2, 0]
    assert order(codec, [large, arp, ping], record) == [2, 0, 1]


def test_other_protocols_are_one_flow_each(codec: Any) -> None:
    record = make_record(flags=TunnelFlag.PACKET_INFO, protocol=0x8847)
    bench = Egress([bytes(3000), b"\x45" * 60, b"\x45" * 61, PING], record)
    for row, kind in zip(
        rows(bench.frame_table, Frame), (0x8847, 0x8847, 0x8848, 0x0800), strict=True
    ):
        bench.arena[row.offset - 2 : row.offset] = kind.to_bytes(2)
    waiting = Line(bench)
    waiting.read(codec, 4)
    assert waiting.order == [2, 3, 0, 1]


def test_scraps_wait_in_line(codec: Any) -> None:
    """They will be dropped; until then they are one flow."""
    assert order(codec, [bytes(2000), b"", b"\x45", b"\x60" * 39]) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 3), "a table is smaller"),
        ((0, 2, 1), "a table is smaller"),
        ((1, 0, 2), "a table is smaller"),
    ],
)
def test_what_leads_out_of_a_buffer_is_refused(
    codec: Any, arguments: tuple[int, int, int], message: str
) -> None:
    bench = Egress([PING, PING])
    with pytest.raises(ValueError, match=message):
        codec.order_frames(bench.arena, bench.frame_table, *arguments, bench.tables.records, 1)
    with pytest.raises(ValueError, match=message):
        codec.order_frames(bench.arena, bench.frame_table, 0, 0, 2, bench.tables.records, 2)
    rows(bench.frame_table, Frame)[1].offset = len(bench.arena) - 1
    with pytest.raises(ValueError, match="a frame lies outside"):
        codec.order_frames(bench.arena, bench.frame_table, 0, 0, 2, bench.tables.records, 1)


thorough = settings(max_examples=1500, deadline=None, database=None)


@thorough
@given(chance=st.randoms(use_true_random=True).map(Chance), reads=st.lists(st.integers(0, 9)))
def test_the_twins_agree(chance: Chance, reads: list[int]) -> None:
    require.extension()
    from gred.dataplane import _codec

    options = chance.egress()
    ours, theirs = Line(Egress(**options)), Line(Egress(**options))
    for count in reads:
        for found, twin in ((ours, pure_codec), (theirs, _codec)):
            found.read(twin, min(count, len(found.offsets) - found.waiting))
        assert (ours.sparse, ours.bench.memory) == (theirs.sparse, theirs.bench.memory)


FLOWS = {
    (version, kind, port): lambda size, version=version, kind=kind, port=port: kind(
        version=version, ports=(port, 80), payload=bytes(size)
    ).build()
    for version in (4, 6)
    for kind in (Tcp, Udp)
    for port in range(3)
}


@thorough
@given(
    traffic=st.lists(
        st.tuples(
            st.sampled_from(sorted(FLOWS, key=str)), st.sampled_from([0, 1, 500, 1400, 5000])
        ),
        max_size=40,
    ),
    reads=st.lists(st.integers(1, 9), min_size=5),
)
def test_no_flow_is_reordered(
    traffic: list[tuple[Any, int]], reads: list[int], codec_of_both: list[ModuleType]
) -> None:
    frames = [FLOWS[flow](size) for flow, size in traffic]
    for codec in codec_of_both:
        waiting = line(frames)
        for count in reads:
            waiting.read(codec, min(count, len(frames) - waiting.waiting))
        found = waiting.order[: waiting.waiting]
        assert sorted(found) == list(range(waiting.waiting))
        for flow in FLOWS:
            mine = [index for index in found if traffic[index][0] == flow]
            assert mine == sorted(mine)
        assert waiting.sparse <= SPARSE_AT_MOST


@pytest.fixture(scope="module")
def codec_of_both() -> list[ModuleType]:
    require.extension()
    from gred.dataplane import _codec

    return [pure_codec, _codec]
