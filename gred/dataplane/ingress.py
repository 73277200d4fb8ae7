"""Ingress: one bounded batch from a ready underlay socket to the TUNs.

    underlay --receive--> datagrams --decapsulate--> frames --write_frames--> TUN

There is no Python per packet here, but for people who watch (trace.py): what was refused, or taken
by no TUN, goes to the slow path. Nothing here adds or removes a tunnel, and nothing here sends; but
a tunnel that was written to has a turn.
"""

import asyncio
import errno
from collections.abc import Callable, Mapping

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import Arrivals, TunWrites
from gred.dataplane.learning import Learning
from gred.dataplane.scheduler import Scheduler
from gred.dataplane.slow_path import SlowPath
from gred.dataplane.trace import Tap, copy_received, trace_received
from gred.dataplane.tunnels import TunnelTable, Worker
from gred.dataplane.underlay.contract import Receiver
from gred.wire.drop import DropReason

SAMPLE = 64  # bytes of an inner packet that are shown to whoever asks for one


class Ingress:
    """Moves datagrams of all tunnels of a data plane in, out of memory of the underlays.

    *attachments*: the tunnels by the index of their record. *tap*: who watches.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: TunnelTable,
        worker: Worker,
        attachments: Mapping[int, Attachment],
        scheduler: Scheduler[Attachment],
        slow_path: SlowPath,
        learning: Learning,
        tap: Tap,
    ) -> None:
        self.learners = 0
        """How many tunnels learn from what arrives."""
        self._loop = loop
        self._tunnels = tunnels
        self._worker = worker
        self._attachments = attachments
        self._scheduler = scheduler
        self._slow_path = slow_path
        self._learning = learning
        self._tap = tap
        self._samples: dict[int, Callable[[bytes], None]] = {}
        self._writes = TunWrites()

    def move(self, receiver: Receiver) -> None:
        """Move one batch from *receiver*, which is ready, to the TUNs."""
        arrivals, writes = receiver.arrivals, self._writes
        count, error = receiver.receive(
            busy_poll=not self._scheduler.pending and not self._scheduler.has_sparse_flows
        )
        if error:
            self._slow_path.tell(None, DropReason.OTHER, errno.errorcode.get(error, str(error)))
        if not count:
            return
        watched = bool(self._tap.watchers)
        copies = copy_received(self._tap, arrivals, count) if watched else []
        frames, refused = codec.decapsulate(
            arrivals.arena,
            arrivals.received,
            count,
            self._tunnels.memory,
            self._worker.rx_states,
            self._worker.descriptors,
            self._tunnels.lookup,
            self._tunnels.sources,
            writes.frames,
            writes.pieces,
            writes.headers,
            int(self._loop.time() * 1000),
        )
        if io.write_frames(arrivals.arena, writes.headers, writes.frames, writes.pieces, frames):
            self._slow_path.unwritten(arrivals, writes, frames)
        if watched:
            trace_received(self._tap, arrivals, count, copies, self._slow_path.owner)
        if refused:
            self._slow_path.refused_datagrams(arrivals, count)
        if self._samples:
            self._hand_samples(arrivals, count)
        if self.learners:
            self._learning.learn(arrivals, count, self._tunnels.memory)
        if frames:
            self._ask_for_answers(writes.frame(frames - 1).tunnel)

    def sample(self, index: int, take: Callable[[bytes], None]) -> None:
        """Call *take* with the beginning of the next inner packet that record *index* delivers."""
        self._samples[index] = take

    def forget(self, index: int) -> None:
        """Hand no sample of record *index* to anybody. Harmless where nobody waits for one."""
        self._samples.pop(index, None)

    def _hand_samples(self, arrivals: Arrivals, count: int) -> None:
        for number in range(count):
            entry = arrivals.datagram(number)
            if not entry.verdict and (take := self._samples.pop(entry.tunnel, None)) is not None:
                end = min(entry.inner_offset + SAMPLE, entry.offset + entry.length)
                take(arrivals.arena[entry.inner_offset : end])

    def _ask_for_answers(self, index: int) -> None:
        """Give a tunnel that was just written to a turn before more is received.

        The host has answered within the write: an echo reply, an acknowledgment.
        """
        attachment = self._attachments.get(index)
        if attachment is not None:
            self._scheduler.prompt(attachment)
