"""The search for what a path carries, against paths and a clock of our own."""

from heapq import heappop, heappush
from itertools import count, pairwise
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.control.path_mtu import LEAST
from gred.control.probing import (
    CONFIRM,
    LOSSES_IN_USE,
    RAISE,
    RAISE_SOON,
    ROUND,
    SILENCE_AT_MOST,
    Prober,
    Search,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CEILING = 1500


def always(_size: int) -> bool:
    return True


class World:
    """A prober, and a path that carries *carries* bytes and answers after *rtt* seconds."""

    def __init__(
        self,
        carries: int = CEILING,
        *,
        rtt: float = 0.01,
        known: int | None = None,
        version: int = 4,
    ) -> None:
        self.prober = Prober(version, b"t1", known)
        self.carries = carries
        self.rtt = rtt
        self.answers: Callable[[int], bool] = always
        """Whether a packet of a size that fits is answered."""
        self.ceiling = CEILING
        self.is_sending = True
        self.now = 0.0
        self.limits: list[tuple[float, int | None]] = []
        self.sent: list[tuple[float, int]] = []
        self._arriving: list[tuple[float, int, bytes]] = []
        self._order = count()

    @property
    def limit(self) -> int | None:
        return self.prober.search.limit

    def run(self, seconds: float) -> int | None:
        """Let time pass; return the limit at its end."""
        until = self.now + seconds
        while True:
            arrives = self._arriving[0][0] if self._arriving else float("inf")
            self.now = max(self.now, min(arrives, self.prober.due))
            if self.now >= until:
                self.now = until
                return self.limit
            if arrives <= self.now:
                _at, _order, cookie = heappop(self._arriving)
                self.prober.heard(cookie, self.now)
            else:
                self._look()
            if not self.limits or self.limits[-1][1] != self.limit:
                self.limits.append((self.now, self.limit))

    def _look(self) -> None:
        moved = int(self.now * 1000) if self.is_sending else 0
        for probe in self.prober.look(self.ceiling, moved, self.now):
            self.sent.append((self.now, probe.size))
            if probe.size <= self.carries and self.answers(probe.size):
                heappush(self._arriving, (self.now + self.rtt, next(self._order), probe.cookie))
        assert self.prober.due > self.now, "it is not asked for ever"


class TestSearch:
    @given(st.integers(552, 9000), st.integers(552, 9000), st.integers(0, 9000))
    def test_it_finds_what_passes_in_few_steps(self, carries: int, ceiling: int, hint: int) -> None:
        search = Search(4)
        search.hint = hint or None
        search.aim(ceiling)
        steps = 0
        while (size := search.size) is not None:
            assert 0 < size <= ceiling
            (search.passed if size <= carries else search.failed)(size)
            steps += 1
            assert steps < 20
        assert search.in_use == min(carries, ceiling)
        assert (search.limit is None) == (carries >= ceiling)

    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2000)), max_size=60))
    def test_whatever_happens(self, steps: list[tuple[int, int]]) -> None:
        search = Search(4)
        for what, size in steps:
            if what == 0:
                search.aim(size)
            elif what == 1:
                search.again()
            elif search.size is not None:
                (search.passed if what == 2 else search.failed)(search.size)
            elif search.carries:
                (search.passed if what == 2 else search.failed)(search.carries)
            assert 0 <= search.in_use <= search.ceiling
            assert search.size is None or 0 < search.size <= search.ceiling
            assert search.limit is None or search.limit > 0

    def test_it_lowers_at_once_and_raises_at_the_end(self) -> None:
        search = Search(4)
        search.aim(1500)
        limits = []
        while (size := search.size) is not None:
            (search.passed if size <= 1300 else search.failed)(size)
            limits.append(search.limit)
        assert sorted(set(filter(None, limits))) == [1280, 1300]
        assert limits[:2] == [None, 1280], "1500 has failed, 1280 has passed"

    def test_less_than_is_believed_is_found_too(self) -> None:
        """It is sent in fragments."""
        search = Search(4)
        search.aim(1500)
        while (size := search.size) is not None:
            (search.passed if size <= 400 else search.failed)(size)
        assert search.limit == 400

    def test_who_answers_nothing_padded_says_nothing(self) -> None:
        search = Search(4)
        search.aim(1500)
        while (size := search.size) is not None:
            search.failed(size)
        assert search.limit is None

    def test_ipv6_knows_no_less_than_1280(self) -> None:
        search = Search(6)
        search.aim(1500)
        while (size := search.size) is not None:
            search.failed(size)
        assert search.limit is None

    def test_what_somebody_told_is_tried_first(self) -> None:
        search, tried = Search(4), []
        search.aim(1500)
        search.hint = 1400
        while (size := search.size) is not None:
            tried.append(size)
            (search.passed if size <= 1400 else search.failed)(size)
        assert tried == [1500, 1400, 1401]

    def test_what_was_known_is_where_it_begins(self) -> None:
        search = Search(4, 1300)
        search.aim(1500)
        assert (search.size, search.in_use) == (1301, 1300)


class TestProber:
    def test_a_path_that_carries_all_costs_one_probe(self) -> None:
        world = World()
        world.is_sending = False
        world.run(3600)
        assert world.limit is None
        # And one more to see that what it knows still holds.
        assert [size for _at, size in world.sent] == [1500, 0, 1500, 0]

    def test_a_hole_is_found_soon(self) -> None:
        world = World(1300)
        assert world.run(30) == 1300
        first, lowered, *_rest = world.limits
        assert first[1] is None
        assert lowered[1] == 1280
        assert lowered[0] < 2 * LOSSES_IN_USE * ROUND, "TCP does not wait for the whole search"

    @given(st.integers(552, 1500), st.floats(0.001, 3.0))
    def test_any_hole_is_found_however_long_answers_take(self, carries: int, rtt: float) -> None:
        world = World(carries, rtt=rtt)
        assert world.run(500) == (None if carries == CEILING else carries)

    @given(st.integers(552, 1500), st.integers(552, 1500))
    def test_a_path_that_changes_is_followed(self, before: int, after: int) -> None:
        world = World(before)
        world.run(60)
        world.carries = after
        found = world.run(120 if after < before else RAISE + 60)
        assert found == (None if after == CEILING else after)

    def test_a_hole_that_opens_later_is_noticed(self) -> None:
        world = World()
        world.run(100)
        world.carries, opened = 1300, world.now
        assert world.run(60) == 1300
        lowered = next(at for at, limit in world.limits if limit is not None)
        assert lowered - opened < CONFIRM + 2 * LOSSES_IN_USE * ROUND

    def test_who_sends_nothing_is_not_probed_for_ever(self) -> None:
        world = World()
        world.run(30)
        world.is_sending = False
        world.run(10)
        before = len(world.sent)
        world.run(500)
        assert len(world.sent) == before

    def test_what_somebody_tells_is_tried_by_who_sends_nothing_too(self) -> None:
        world = World()
        world.is_sending = False
        world.run(100)
        world.prober.search.hint, before = 1280, len(world.sent)
        world.run(CONFIRM)
        assert [size for _at, size in world.sent[before:]] == [1500, 0]

    def test_loss_alone_is_no_smallness(self) -> None:
        for seed in range(20):
            world, chance = World(), Random(seed)  # noqa: S311 - a test's loss
            world.answers = lambda _size, chance=chance: chance.random() > 0.1  # type: ignore[misc]
            world.run(3600)
            assert world.limits == [(0.0, None)]

    def test_nor_is_a_queue_that_loses_long_packets_first(self) -> None:
        """As a policer that counts bytes does: a tenth of the long ones, few of the short ones."""
        for seed in range(20):
            world, chance = World(), Random(seed)  # noqa: S311
            world.answers = lambda size, chance=chance: chance.random() > size / 15000  # type: ignore[misc]
            world.run(3600)
            assert world.limits == [(0.0, None)]

    def test_what_heavy_loss_feigns_is_over_in_seconds(self) -> None:
        for seed in range(20):
            world, chance = World(), Random(seed)  # noqa: S311
            world.answers = lambda size, chance=chance: chance.random() > size / 4500  # type: ignore[misc]
            world.run(3600)
            spans = pairwise([*world.limits, (world.now, None)])
            low = sum(after - at for (at, limit), (after, _) in spans if limit and limit < 1400)
            assert low < 200

    def test_a_path_that_carries_less_than_all_others_is_found_as_well(self) -> None:
        world = World(800)
        assert world.run(60) == 800
        assert world.limits[1][1] == LEAST[4]
        assert world.limits[1][0] < 3 * LOSSES_IN_USE * ROUND

    def test_a_hole_is_found_in_spite_of_loss(self) -> None:
        for seed in range(20):
            world, chance = World(1400), Random(seed)  # noqa: S311
            world.answers = lambda _size, chance=chance: chance.random() > 0.2  # type: ignore[misc]
            found = world.run(200)
            assert found is not None
            assert 1380 <= found <= 1400, "never more"

    def test_a_path_that_loses_all_is_no_small_one(self) -> None:
        world = World(1400)
        world.run(60)
        world.answers = lambda _size: False
        assert world.run(3600) == 1400
        late = [at for at, size in world.sent if at > 1000 and size]
        assert len(late) <= 2700 / SILENCE_AT_MOST + 1

    def test_an_end_that_answers_nothing_changes_nothing(self) -> None:
        world = World()
        world.answers = lambda _size: False
        assert world.run(3600) is None

    def test_an_end_that_answers_only_short_ones_changes_nothing(self) -> None:
        """Hardware that takes what is padded for damaged."""
        world = World(80)
        assert world.run(RAISE_SOON) is None
        assert world.limits == [(0.0, None)]
        world.carries = 1300
        assert world.run(RAISE + 60) == 1300, "it is asked again after a while"

    def test_a_longer_one_that_passes_again_is_found_after_a_while(self) -> None:
        for seconds, at_most in ((20, RAISE_SOON), (6000, RAISE)):
            world = World(1300)
            world.run(seconds)
            assert world.limit == 1300
            world.carries = 1500
            assert world.run(at_most + 10) is None

    def test_what_holds_is_tried_less_and_less_often(self) -> None:
        world = World(1300)
        world.is_sending = False
        world.run(36_000)
        assert {size for at, size in world.sent if at > 100} == {1301, 0}
        assert len([at for at, size in world.sent if at > 18_000]) < 18_000 / RAISE * 2 * 3 + 6

    def test_or_at_once_when_it_begins_anew(self) -> None:
        world = World(1300)
        world.run(60)
        world.carries = 1500
        world.prober.restart()
        assert world.run(10) is None

    def test_the_route_bounds_it(self) -> None:
        world = World(1300)
        world.ceiling = 1200
        assert world.run(60) is None
        world.ceiling = 1500
        assert world.run(60) == 1300
        assert {size for at, size in world.sent if at < 60} == {1200, 0}

    def test_without_a_ceiling_nothing_is_tried(self) -> None:
        world = World()
        world.ceiling = 0
        world.run(60)
        assert world.sent == []

    @given(st.lists(st.binary(max_size=40), max_size=5))
    def test_forged_answers_move_nothing(self, forged: list[bytes]) -> None:
        world = World(1300)
        world.run(0.5)
        for trailer in forged:
            assert world.prober.heard(trailer, world.now) is None
        assert world.run(60) == 1300

    def test_an_answer_counts_once(self) -> None:
        world = World()
        (long, short) = world.prober.look(CEILING, 1, 0.0)
        assert (long.size, short.size) == (CEILING, 0)
        assert world.prober.heard(long.cookie, 0.1) == (CEILING, 0.0)
        assert world.prober.heard(long.cookie, 0.2) is None
        assert world.prober.heard(short.cookie, 0.2) == (0, 0.0)

    def test_a_late_answer_counts(self) -> None:
        """What was taken for lost was only slow."""
        world = World()
        (long, _short) = world.prober.look(CEILING, 1, 0.0)
        world.prober.look(CEILING, 1, ROUND)
        assert world.prober.heard(long.cookie, ROUND + 1) == (CEILING, 0.0)
        assert world.prober.search.size is None

    def test_what_is_awaited_is_of_the_last_round(self) -> None:
        prober = Prober(4, b"t1")
        assert prober.awaited() == []
        (long, short) = prober.look(CEILING, 1, 0.0)
        assert prober.awaited() == [long.cookie, short.cookie]
        prober.heard(short.cookie, 0.1)
        assert prober.awaited() == [long.cookie]
        prober.heard(long.cookie, 0.1)
        assert prober.awaited() == []

    @pytest.mark.parametrize("version", [4, 6])
    def test_a_jumbo_path_with_an_ordinary_one_in_it(self, version: int) -> None:
        world = World(1500, version=version)
        world.ceiling = 9000
        assert world.run(60) == 1500
        tried = list(dict.fromkeys(size for _at, size in world.sent if size))
        assert tried[:2] == [9000, 1500]
