"""Ingress: a peer that begins its sequence numbers anew, at any moment and speed.

A life is what a peer sends from one beginning to the next. Time is what the test says it is.
"""

import ctypes
import struct
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gred.dataplane import pure_codec, pure_sequence
from gred.dataplane.layout import Received, RxState, TunnelFlag
from gred.dataplane.pure_sequence import check_number
from gred.wire.drop import DropReason
from tests.dataplane.benches import Ingress, Tunnel, gre, make_record, outer, rows
from tests.dataplane.packets import Packet

INNER = Packet().ip(b"payload")
SLOTS = 64
SIZE = ctypes.sizeof(RxState)
SECOND = 1000
OLD = DropReason.OUT_OF_SEQ


class Line:
    """Where numbered packets arrive: one tunnel, whose state can be kept and put back."""

    def __init__(self, codec: Any, start: int = 5000) -> None:
        self.codec = codec
        record = make_record(flags=TunnelFlag.INPUT_SEQUENCE)
        packet = outer(gre(INNER, flags=0x1000, options=bytes(4)))
        self.bench = Ingress([packet] * SLOTS, [record], tun_writes=SLOTS, pieces=SLOTS, now=start)
        self.places = [entry.offset + 24 for entry in self.bench.entries]

    def arrive(self, numbers: Sequence[int], after: int = 0) -> list[bool]:
        """Let *numbers* arrive together, *after* milliseconds; return which were delivered."""
        self.bench.now = (self.bench.now + after) & 0xFFFFFFFF
        if self.codec is pure_codec:  # its whole way takes too long for so many
            state = RxState.from_buffer(self.bench.tables.rx_states, SIZE)
            now = self.bench.now
            return [not check_number(state, number & 0xFFFFFFFF, now) for number in numbers]
        delivered = list[bool]()
        for first in range(0, len(numbers), SLOTS):
            part = numbers[first : first + SLOTS]
            for place, number in zip(self.places, part, strict=False):
                struct.pack_into("!I", self.bench.arena, place, number & 0xFFFFFFFF)
            bench = self.bench
            for entry in rows(bench.received, Received)[: len(part)]:
                entry.verdict = DropReason.NONE  # as they are received anew
            self.codec.decapsulate(
                bench.arena,
                bench.received,
                len(part),
                bench.tables.records,
                bench.tables.rx_states,
                bench.tables.descriptors,
                bench.lookup,
                bench.sources,
                bench.tun_write_table,
                bench.piece_table,
                bench.headers,
                bench.now,
            )
            verdicts = bench.verdicts[: len(part)]
            assert set(verdicts) <= {DropReason.NONE, OLD}
            delivered += [not verdict for verdict in verdicts]
        return delivered

    def each(self, numbers: Iterable[int], apart: int) -> list[bool]:
        """Let *numbers* arrive one by one, *apart* milliseconds."""
        return [self.arrive([number], apart)[0] for number in numbers]

    @property
    def state(self) -> bytes:
        return bytes(self.bench.tables.rx_states)

    @state.setter
    def state(self, state: bytes) -> None:
        self.bench.tables.rx_states[:] = state

    @property
    def record(self) -> Tunnel:
        return self.bench.after()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("gap", [0, 20, 999, 1000, 5000, 1 << 31])
def test_a_restart_after_any_number_of_packets_costs_one_at_most(
    codec: Any, first: int, gap: int
) -> None:
    """However young the tunnel is: the life before has taken no time at all."""
    line = Line(codec)
    for number in range(first, first + 3000):
        line.arrive([number])
        state, now = line.state, line.bench.now
        lost = line.arrive(range(first, first + 10), gap).count(False)
        assert lost <= (gap < SECOND), f"{lost} packets after {number + 1 - first}"
        line.state, line.bench.now = state, now


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
@pytest.mark.parametrize("gap", [0, 999, 1000])
def test_so_does_one_whose_first_packets_are_lost(codec: Any, missing: int, gap: int) -> None:
    line = Line(codec)
    for number in range(3000):
        line.arrive([number])
        if number > 80 and number % 50:
            continue
        state, now = line.state, line.bench.now
        lost = line.arrive(range(missing, missing + 12), gap).count(False)
        assert lost <= (gap < SECOND), f"{lost} packets after {number + 1}"
        line.state, line.bench.now = state, now


@pytest.mark.parametrize("apart", [1, 10, 100, 999, 1000, 60_000])
def test_a_restart_of_a_peer_that_was_there_for_two_seconds_costs_nothing(
    codec: Any, apart: int
) -> None:
    """Even when it is as quick as can be."""
    line = Line(codec)
    life = 2 * SECOND // apart + 3
    assert all(line.each(range(life), apart))
    for _ in range(5):
        assert all(line.each(range(life), apart))
    assert line.record.rx_resyncs == 5
    assert line.record.rx_lost == 0


@pytest.mark.parametrize("packets", [1, 2, 3, 20])
def test_restarts_one_after_the_other_cost_one_packet_each(codec: Any, packets: int) -> None:
    """With half a second between them: nothing else tells that the peer began anew."""
    line = Line(codec)
    for _ in range(20):
        delivered = [line.arrive([0], SECOND // 2)[0], *line.arrive(range(1, packets))]
        assert delivered.count(False) <= 1


def test_a_clock_that_wraps_changes_nothing(codec: Any) -> None:
    line = Line(codec, start=0xFFFFFFFF - 500)
    assert all(line.each(range(20), 100))
    assert line.arrive([19, 18]) == [False, False]
    assert all(line.arrive([0, 1, 2], 1000))


def test_a_silence_alone_is_no_restart(codec: Any) -> None:
    line = Line(codec)
    assert all(line.each([*range(5), *range(8, 12)], 5000))
    assert (line.record.rx_resyncs, line.record.rx_lost) == (0, 3)


@pytest.mark.parametrize("apart", [0, 1, 50, 500, 999, 1000, 3000])
def test_duplicates_of_any_number_are_dropped(codec: Any, apart: int) -> None:
    """Each arrives twice, the second with the first or soon after it."""
    line = Line(codec)
    for number in range(100):
        assert line.arrive([number, number], apart) == [True, False]
        assert line.arrive([number], 20) == [False]
    assert line.record.rx_resyncs == 0


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_duplicate_of_a_first_number_is_dropped_whenever_it_comes_within_a_second(
    codec: Any, number: int
) -> None:
    for later in range(number + 1, 200):
        line = Line(codec)
        line.arrive(range(later))
        assert line.arrive([number], 900) == [False]
        assert line.arrive([number]) == [False]
        assert all(line.arrive(range(later, later + 3)))
        assert line.record.rx_resyncs == 0


def disordered(random: Random, numbers: Sequence[int], depth: int) -> list[int]:
    """*numbers* as a network delivers them that delays some by up to *depth* packets."""
    places = [index + (random.random() < 0.3) * random.uniform(0, depth) for index in numbers]
    return [number for _, number in sorted(zip(places, numbers, strict=True))]


chance = st.randoms(use_true_random=True)
thorough = settings(max_examples=200, deadline=None, database=None)


@thorough
@given(random=chance)
def test_reordering_is_not_taken_for_a_restart(random: Random) -> None:
    """From the first packet on: what is delivered is in order, and nothing begins anew."""
    first, depth = random.choice([0, 1, 31, 500, 0xFFFFFFF0]), random.choice([1, 3, 10, 30, 60])
    order = disordered(random, range(200), depth)
    numbers = [first + number for number in order]
    line = Line(pure_codec)
    # Who is delayed by some places may arrive behind some more: still within LATENESS.
    apart = random.choice([0, 1, 600 // depth])
    delivered = line.each(numbers, apart)
    accepted = [number for number, passed in zip(order, delivered, strict=True) if passed]
    assert accepted == sorted(accepted)
    assert line.record.rx_resyncs == 0
    assert line.record.rx_lost + len(accepted) == accepted[-1] + 1 - order[0]


@thorough
@given(random=chance)
def test_reordering_around_a_restart_costs_no_more_than_it_displaces(random: Random) -> None:
    """Packets of both lives are mixed; afterwards everything passes.

    Of a life within the window the numbers alone do not tell one from the other: then some tens are
    lost where the first of the new life is overtaken by the last of the old one.
    """
    life, depth = random.choice([5, 30, 80, 300, 2000]), random.choice([2, 10, 30])
    line = Line(pure_codec)
    apart = random.choice([0, 1, 10])
    line.each(range(life), apart)
    numbers = [*range(life, life + 40), *range(60)]
    order = disordered(random, range(100), depth)
    delivered = line.each([numbers[index] for index in order], apart)
    settled = line.each(range(60, 100), apart)
    assert all(settled[8:])
    if life <= pure_sequence.SEQUENCE_WINDOW:
        return
    assert all(settled)
    newest, ideal = -1, 0
    for index in order:  # what would be late for who knew the lives apart
        ideal += index < newest
        newest = max(newest, index)
    assert delivered.count(False) <= ideal + depth + 1


def test_old_packets_behind_the_first_of_the_new_life_are_late(codec: Any) -> None:
    line = Line(codec)
    line.each(range(300), 10)
    assert all(line.arrive([0, 1], 10))
    assert line.arrive([298, 299, 2, 297, 3, 4]) == [False, False, True, False, True, True]
    assert line.record.rx_lost == 0


def test_the_new_life_may_lose_packets_all_the_same(codec: Any) -> None:
    line = Line(codec)
    line.each(range(300), 10)
    assert all(line.arrive([0, 1, 5, 6, 60, 61, 140], 10))


def test_and_comes_past_where_the_old_one_ended(codec: Any) -> None:
    line = Line(codec)
    line.each(range(300), 10)
    assert all(line.arrive(range(400), 10))


class TestForgery:
    """Who knows the addresses only can disturb a tunnel without a key, but not stop it."""

    @pytest.mark.parametrize("forged", [0, 1, 250, 290])
    def test_an_old_number_after_a_restart_of_nobody(self, codec: Any, forged: int) -> None:
        line = Line(codec)
        line.each(range(300), 10)
        line.arrive([forged])
        assert all(line.arrive(range(300, 400)))

    @pytest.mark.parametrize("distance", [1025, 5000, 1 << 30, (1 << 31) - 1, 1 << 31, 3 << 30])
    def test_a_number_far_away(self, codec: Any, distance: int) -> None:
        line = Line(codec)
        line.each(range(3000), 10)
        line.arrive([3000 + distance])
        assert line.arrive(range(3000, 3100)).count(False) <= 1

    @pytest.mark.parametrize("distance", [1, 100, 1024])
    def test_a_number_a_little_ahead_costs_seven_packets_at_most(
        self, codec: Any, distance: int
    ) -> None:
        line = Line(codec)
        line.each(range(300), 10)
        line.arrive([300 + distance])
        assert line.arrive(range(300, 400)).count(False) <= 7 + 1
