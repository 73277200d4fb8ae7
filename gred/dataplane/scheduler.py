"""The scheduler: which tunnel may send next, and how much at a time.

A tunnel whose device is ready takes a batch, reads into it what waits in the device, sends a part
of it, and goes on in its next turn of the loop; in between everybody else has theirs. A device that
is read early cannot hide a small frame behind large ones: in the batch it goes first (codec.
order_frames). Who holds a batch is not watched by the loop, but has a turn in each of its rounds.

    ready -> batch taken -> turn, turn, ... -> nothing waits any more -> batch given back -> watched

When all batches are taken, tunnels queue for them, and holders read no more than a few frames at
once and give their batch away when it is empty, or when they have had it for long enough: whatever
frames cost, nobody waits for ever. A turn that changes nothing costs the first frame. Nothing here
reads, sends or looks into a packet.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from gred.dataplane.batch import EgressBatch
from gred.wire.drop import DropReason

BATCHES = 4
FEW = 8  # frames that a holder reads at once while others queue

# While there are small packets beside large ones a turn is short, so that the next one waits
# little: some 30 microseconds of sending. A turn costs a round of the loop: else it is long.
SHORT_QUANTUM = 8  # datagrams
SPARSE_FOR = 0.1  # seconds after the last such packet

# Datagrams that a holder has turns for while others queue. A batch of 64 KB frames, cut for a path
# of 576 bytes, is sent within them.
TENURE = 8192


class HasDescriptor(Protocol):
    """Whoever has turns."""

    descriptor: int


Holder = TypeVar("Holder", bound=HasDescriptor)


class Scheduler(Generic[Holder]):
    """Gives holders their turns.

    *move* is called for a turn, with the holder, its batch and how many frames the batch may hold
    after reading, and returns how many it has read. It may call ``remove``. It says in
    ``batch.moved`` whether anything was read, sent or refused.

    *discard* is called with a holder, its batch, how many of the frames that wait there are given
    up, the first ones, and why: OTHER when a turn moved nothing, or failed; NO_BUFS when others
    have queued for too long. They are freed afterwards.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        move: Callable[[Holder, EgressBatch, int], int],
        discard: Callable[[Holder, EgressBatch, int, DropReason], None],
    ) -> None:
        self._loop = loop
        self._move = move
        self._discard = discard
        self._free = [EgressBatch() for _ in range(BATCHES)]
        self._held: dict[Holder, EgressBatch] = {}
        self._unwatched: set[Holder] = set()
        self._queue: deque[Holder] = deque()
        self._sparse_until = 0.0

    def add(self, holder: Holder) -> None:
        """Give *holder* turns whenever its descriptor is ready."""
        self._loop.add_reader(holder.descriptor, self._ready, holder)

    def remove(self, holder: Holder) -> None:
        """Give *holder* no more turns. What waits in its batch is forgotten."""
        if holder in self._unwatched:
            self._unwatched.remove(holder)
        else:
            self._loop.remove_reader(holder.descriptor)
        if holder in self._queue:
            self._queue.remove(holder)
        batch = self._held.pop(holder, None)
        if batch is not None:
            self._pass_on(batch)

    @property
    def pending(self) -> bool:
        """Whether anybody has something to send."""
        return bool(self._held)

    @property
    def has_sparse_flows(self) -> bool:
        """Whether somebody waits for little: nobody should wait for much meanwhile."""
        return self._loop.time() < self._sparse_until

    def batch_of(self, holder: Holder) -> EgressBatch | None:
        """Return the batch in which frames of *holder* wait."""
        return self._held.get(holder)

    def prompt(self, holder: Holder) -> None:
        """Give *holder* a turn now where a free batch allows: it may have become ready."""
        if self._free and holder not in self._held:
            self._ready(holder)

    def _ready(self, holder: Holder) -> None:
        if self._free:
            self._held[holder] = self._free.pop()
            self._turn(holder)
        else:
            self._unwatch(holder)
            self._queue.append(holder)

    def _turn(self, holder: Holder) -> None:
        batch = self._held.get(holder)
        if batch is None:  # removed since this turn was arranged
            return
        batch.limit_datagrams(SHORT_QUANTUM if self.has_sparse_flows else batch.DATAGRAMS)
        room, before = self._room(batch), batch.waiting
        try:
            read = self._move(holder, batch, room)
        except BaseException:
            if holder in self._held:  # a fault costs a batch, not a tunnel
                self._give_up(holder, batch, batch.waiting, DropReason.OTHER)
                self._give_back(holder, batch, again=False)
            raise
        if holder not in self._held:
            return
        if batch.overtaken:
            self._sparse_until = self._loop.time() + SPARSE_FOR
        if batch.waiting and not batch.moved:
            self._give_up(holder, batch, 1, DropReason.OTHER)
        batch.tenure = batch.tenure + batch.limit if self._queue else 0
        if batch.waiting and batch.tenure > TENURE:
            self._give_up(holder, batch, batch.waiting, DropReason.NO_BUFS)
            self._give_back(holder, batch, again=True)
        elif batch.waiting:
            self._unwatch(holder)
            self._loop.call_soon(self._turn, holder)
        else:
            # A device that gave all that was asked for may have more.
            self._give_back(holder, batch, again=before + read == room)

    def _give_up(self, holder: Holder, batch: EgressBatch, count: int, reason: DropReason) -> None:
        self._discard(holder, batch, count, reason)
        batch.retire(count)

    def _give_back(self, holder: Holder, batch: EgressBatch, *, again: bool) -> None:
        """End the tenure of *holder*. *again*: where others queue, it queues behind them."""
        del self._held[holder]
        if again and self._queue:
            self._unwatch(holder)
            self._queue.append(holder)
        elif holder in self._unwatched:
            self._unwatched.remove(holder)
            self._loop.add_reader(holder.descriptor, self._ready, holder)
        self._pass_on(batch)

    def _room(self, batch: EgressBatch) -> int:
        """Return how many frames *batch* may hold after its next read."""
        if not self._queue:
            return batch.FRAMES
        return batch.waiting or FEW

    def _unwatch(self, holder: Holder) -> None:
        if holder not in self._unwatched:
            self._unwatched.add(holder)
            self._loop.remove_reader(holder.descriptor)

    def _pass_on(self, batch: EgressBatch) -> None:
        """Give *batch* to the first in the queue, or keep it for who comes next."""
        batch.clear()
        if not self._queue:
            self._free.append(batch)
            return
        holder = self._queue.popleft()
        self._held[holder] = batch
        self._loop.call_soon(self._turn, holder)
