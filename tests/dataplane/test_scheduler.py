"""The scheduler: who sends next and how much, on a loop that only does what the test says."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from gred.dataplane.batch import EgressBatch
from gred.dataplane.layout import Datagram
from gred.dataplane.scheduler import BATCHES, FEW, SHORT_QUANTUM, SPARSE_FOR, TENURE, Scheduler
from gred.wire.drop import DropReason

if TYPE_CHECKING:
    import asyncio

FULL = EgressBatch.DATAGRAMS  # a frame of so many takes a whole turn


@dataclass(eq=False)
class Sender:
    """A tunnel with so many frames in its device, of so many datagrams each."""

    descriptor: int
    frames: int = 0
    size: int = 1
    overtakes: bool = False


@dataclass
class Loop:
    """Readers are called once a round while their sender has frames, as a level-triggered poll."""

    now: float = 100.0
    readers: dict[int, tuple[Callable[..., None], Sender]] = field(default_factory=dict)
    soon: list[tuple[Callable[..., None], Sender]] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def add_reader(self, descriptor: int, callback: Callable[..., None], sender: Sender) -> None:
        assert descriptor not in self.readers
        self.readers[descriptor] = callback, sender

    def remove_reader(self, descriptor: int) -> None:
        del self.readers[descriptor]

    def call_soon(self, callback: Callable[..., None], sender: Sender) -> None:
        self.soon.append((callback, sender))

    def round(self) -> None:
        ready = [(callback, sender) for callback, sender in self.readers.values() if sender.frames]
        soon, self.soon = self.soon, []
        for callback, sender in ready:
            if sender.descriptor in self.readers:
                callback(sender)
        for callback, sender in soon:
            callback(sender)


class Bench:
    """A scheduler on such a loop; ``log`` has (descriptor, frames sent) of each turn."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.scheduler = Scheduler[Sender](
            cast("asyncio.AbstractEventLoop", self.loop), self.move, self.discard
        )
        self.log: list[tuple[int, int]] = []
        self.datagrams: list[int] = []
        self.batches: list[EgressBatch] = []
        self.stuck: set[int] = set()
        self.discarded: list[tuple[int, int, DropReason]] = []
        self.during: Callable[[Sender], Any] = lambda _: None

    def move(self, sender: Sender, batch: EgressBatch, room: int) -> int:
        self.during(sender)
        if self.scheduler.batch_of(sender) is None:
            return 0
        read = min(sender.frames, room - batch.waiting)
        assert read >= 0
        sender.frames -= read
        batch.waiting += read
        batch.overtaken = sender.overtakes
        batch.moved = sender.descriptor not in self.stuck or read > 0
        if sender.descriptor in self.stuck:
            return read
        allowed = batch.turn.nbytes // ctypes.sizeof(Datagram)
        sent = min(batch.waiting, max(allowed // sender.size, 1))
        batch.retire(sent)
        self.log.append((sender.descriptor, sent))
        self.datagrams.append(allowed)
        self.batches.append(batch)
        return read

    def discard(self, sender: Sender, batch: EgressBatch, count: int, reason: DropReason) -> None:
        if count:
            self.discarded.append((sender.descriptor, count, reason))

    def sender(self, frames: int, **fields: Any) -> Sender:
        sender = Sender(len(self.loop.readers) + len(self.log) + 1, frames, **fields)
        self.scheduler.add(sender)
        return sender

    def given_up(self, reason: DropReason) -> int:
        return sum(count for _, count, why in self.discarded if why is reason)

    def play(self, limit: int = 1000) -> None:
        """Turn the loop until nobody has anything to do."""
        for _ in range(limit):
            if not self.loop.soon and not any(s.frames for _, s in self.loop.readers.values()):
                return
            self.loop.round()
        raise AssertionError("it does not come to an end")


def test_what_fits_into_a_turn_leaves_at_once_and_the_device_stays_watched() -> None:
    bench = Bench()
    sender = bench.sender(3)
    bench.loop.round()
    assert bench.log == [(sender.descriptor, 3)]
    assert sender.descriptor in bench.loop.readers
    assert not bench.scheduler.pending


def test_who_has_more_goes_on_in_the_next_round_unwatched() -> None:
    bench = Bench()
    sender = bench.sender(2, size=FULL)
    bench.loop.round()
    assert bench.scheduler.pending
    assert sender.descriptor not in bench.loop.readers
    bench.loop.round()
    assert bench.log == [(sender.descriptor, 1)] * 2
    assert sender.descriptor in bench.loop.readers
    assert not bench.scheduler.pending


def test_busy_tunnels_take_turns() -> None:
    bench = Bench()
    senders = [bench.sender(4, size=FULL) for _ in range(3)]
    bench.play()
    numbers = [sender.descriptor for sender in senders]
    for turn in range(4):
        assert sorted(number for number, _ in bench.log[turn * 3 : turn * 3 + 3]) == numbers


def test_a_thousand_busy_tunnels_all_come_to_their_end() -> None:
    bench = Bench()
    senders = [Sender(number, 20, size=16) for number in range(1000)]
    for sender in senders:
        bench.scheduler.add(sender)
    bench.play(limit=100_000)
    for sender in senders:
        assert sum(sent for number, sent in bench.log if number == sender.descriptor) == 20
    assert len({id(batch) for batch in bench.batches}) == BATCHES
    assert len(bench.loop.readers) == 1000


def test_who_comes_late_gets_as_much_as_those_before_from_then_on() -> None:
    bench = Bench()
    greedy = [bench.sender(10_000, size=FULL) for _ in range(BATCHES)]
    bench.loop.round()
    late = Sender(99, 40, size=FULL)
    bench.scheduler.add(late)
    for _ in range(1000):
        if late.frames or bench.scheduler.batch_of(late):
            bench.loop.round()
    assert not late.frames
    assert bench.scheduler.batch_of(late) is None
    for holder in greedy:
        sent = sum(count for number, count in bench.log if number == holder.descriptor)
        assert sent <= EgressBatch.FRAMES + 40 + 2 * FEW


def test_scheduler_are_short_for_a_while_after_a_frame_has_overtaken() -> None:
    bench = Bench()
    sender = bench.sender(200)
    bench.loop.round()
    sender.overtakes = True
    bench.loop.round()
    sender.overtakes, sender.frames = False, 1000
    bench.loop.round()
    bench.loop.now += SPARSE_FOR
    bench.loop.round()
    assert bench.datagrams == [FULL, FULL, SHORT_QUANTUM, FULL]


def test_who_is_removed_has_no_more_turns_and_leaves_nothing_behind() -> None:
    bench = Bench()
    gone, other = bench.sender(5, size=FULL), bench.sender(0)
    bench.loop.round()
    bench.scheduler.remove(gone)
    assert not bench.scheduler.pending
    bench.loop.round()
    assert bench.log == [(gone.descriptor, 1)]
    assert list(bench.loop.readers) == [other.descriptor]
    other.frames = 2
    bench.loop.round()
    assert bench.log[1:] == [(other.descriptor, 2)]


def test_who_is_removed_in_its_own_turn_has_no_more() -> None:
    bench = Bench()
    gone = bench.sender(5, size=FULL)
    bench.during = bench.scheduler.remove
    bench.loop.round()
    assert (bench.log, bench.loop.readers, bench.loop.soon) == ([], {}, [])
    assert not bench.scheduler.pending
    assert gone.frames == 5


def test_a_fault_in_a_turn_costs_the_batch_and_not_the_tunnel() -> None:
    bench = Bench()
    sender = bench.sender(70)
    bench.loop.round()
    bench.during = lambda _: 1 // 0
    sender.frames = 70
    with pytest.raises(ZeroDivisionError):
        bench.loop.round()
    assert not bench.scheduler.pending
    bench.during = lambda _: None
    bench.play()
    assert sum(count for _, count in bench.log) == EgressBatch.FRAMES + 70


def test_what_waits_when_a_turn_fails_is_counted() -> None:
    bench = Bench()
    sender = bench.sender(3, size=FULL)
    bench.loop.round()
    bench.during = lambda _: 1 // 0
    with pytest.raises(ZeroDivisionError):
        bench.loop.round()
    assert bench.discarded == [(sender.descriptor, 2, DropReason.OTHER)]
    assert not bench.scheduler.pending


def test_who_is_removed_from_the_queue_is_passed_over() -> None:
    bench = Bench()
    for _ in range(BATCHES):
        bench.sender(3, size=FULL)
    queued = [Sender(number, 1) for number in (50, 51)]
    bench.loop.round()
    for sender in queued:
        bench.scheduler.add(sender)
    bench.loop.round()
    bench.scheduler.remove(queued[0])
    bench.play()
    assert (51, 1) in bench.log
    assert 50 not in dict(bench.log)
    assert 50 not in bench.loop.readers


def test_retired_slots_are_used_first_again() -> None:
    batch = EgressBatch()
    slots = [batch.frame(index).offset for index in range(batch.FRAMES)]
    batch.waiting, batch.sparse = 5, 3
    batch.retire(2)
    assert (batch.waiting, batch.sparse) == (3, 1)
    found = [batch.frame(index).offset for index in range(batch.FRAMES)]
    assert found == [*slots[2:5], *slots[:2], *slots[5:]]
    batch.retire(3)
    assert (batch.waiting, batch.sparse) == (0, 0)
    assert sorted(batch.frame(index).offset for index in range(batch.FRAMES)) == slots


def test_who_is_prompted_has_a_turn_at_once() -> None:
    bench = Bench()
    sender = bench.sender(3)
    bench.scheduler.prompt(sender)
    assert bench.log == [(sender.descriptor, 3)]
    assert sender.descriptor in bench.loop.readers
    assert not bench.scheduler.pending


def test_who_holds_a_batch_is_not_prompted() -> None:
    bench = Bench()
    sender = bench.sender(2, size=FULL)
    bench.scheduler.prompt(sender)
    bench.scheduler.prompt(sender)
    assert bench.log == [(sender.descriptor, 1)]
    bench.play()
    assert bench.log == [(sender.descriptor, 1)] * 2


def test_nobody_is_prompted_before_those_who_wait_for_a_batch() -> None:
    bench = Bench()
    for _ in range(BATCHES):
        bench.sender(2, size=FULL)
    queued = bench.sender(1, size=FULL)
    bench.loop.round()
    bench.log.clear()
    bench.scheduler.prompt(queued)
    assert bench.log == []
    bench.play()
    assert bench.log.count((queued.descriptor, 1)) == 1


def test_a_turn_that_moves_nothing_costs_the_first_frame() -> None:
    bench = Bench()
    sender = bench.sender(5)
    bench.stuck.add(sender.descriptor)
    bench.play()
    assert bench.discarded == [(sender.descriptor, 1, DropReason.OTHER)] * 5
    assert not bench.scheduler.pending
    assert sender.descriptor in bench.loop.readers


def test_who_moves_nothing_in_every_batch_stops_nobody() -> None:
    bench = Bench()
    stuck = [bench.sender(30) for _ in range(2 * BATCHES)]
    bench.stuck = {sender.descriptor for sender in stuck}
    other = Sender(99, 3)
    bench.scheduler.add(other)
    bench.play()
    assert (99, 3) in bench.log
    assert bench.given_up(DropReason.OTHER) == 30 * len(stuck)


def test_a_batch_is_not_held_for_ever_while_others_queue() -> None:
    """However many datagrams a frame is, and however long the turns are."""
    bench = Bench()
    endless = [bench.sender(3) for _ in range(BATCHES)]
    original = bench.move

    def move(sender: Sender, batch: EgressBatch, room: int) -> int:
        if sender not in endless:
            return original(sender, batch, room)
        read = min(sender.frames, room - batch.waiting)
        sender.frames -= read
        batch.waiting += read
        batch.moved = True  # a super-packet of which a part leaves
        return read

    bench.scheduler._move = move
    bench.loop.round()
    bench.scheduler.add(Sender(99, 3))
    for _ in range(TENURE // FULL + 2):
        bench.loop.round()
    assert (99, 3) in bench.log
    assert set(bench.discarded[0][1:]) == {3, DropReason.NO_BUFS}


def test_while_nobody_queues_a_batch_is_held_as_long_as_it_takes() -> None:
    bench = Bench()
    sender = bench.sender(64 * 3, size=FULL)
    bench.play()
    assert bench.discarded == []
    assert sum(sent for number, sent in bench.log if number == sender.descriptor) == 64 * 3
