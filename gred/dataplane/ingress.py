"""Ingress: one bounded batch from a ready underlay socket to the TUNs.

    underlay --receive_datagrams--> datagrams --decapsulate--> frames --write_frames--> TUN

There is no Python per packet here, but for people who watch (trace.py): what was refused, or taken
by no TUN, goes to the slow path. Nothing here adds or removes a tunnel, and nothing here sends; but
a tunnel that was written to has a turn.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import STRIDE, IngressBatch
from gred.dataplane.groups import Family
from gred.dataplane.learning import Learning
from gred.dataplane.slow_path import SlowPath
from gred.dataplane.trace import TracedPacket, trace_received
from gred.dataplane.tunnels import TunnelTable
from gred.dataplane.turns import Turns
from gred.wire.drop import DropReason


class Ingress:
    """Moves datagrams of all tunnels of a data plane in, through memory of its own.

    *attachments*: the tunnels by the index of their record. *trace* is called for each datagram.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: TunnelTable,
        attachments: Mapping[int, Attachment],
        turns: Turns[Attachment],
        slow_path: SlowPath,
        learning: Learning,
        trace: Callable[[TracedPacket], None] | None = None,
    ) -> None:
        self.learners = 0
        """How many tunnels learn from what arrives."""
        self._loop = loop
        self._tunnels = tunnels
        self._attachments = attachments
        self._turns = turns
        self._slow_path = slow_path
        self._learning = learning
        self._trace = trace
        self._batch = IngressBatch()

    def move(self, family: Family, receiver: socket.socket) -> None:
        """Move one batch from *receiver*, a ready underlay socket of *family*, to the TUNs."""
        batch = self._batch
        count, error = io.receive_datagrams(
            receiver.fileno(),
            family,
            batch.arena,
            0,
            STRIDE,
            batch.received,
            batch.SLOTS,
            not self._turns.pending and not self._turns.in_a_hurry,
        )
        if error:
            self._slow_path.tell(None, DropReason.OTHER, errno.errorcode.get(error, str(error)))
        if not count:
            return
        # Decapsulation patches headers in place: who watches gets a copy made before.
        seen = [] if self._trace is None else trace_received(batch, count)
        frames, refused = codec.decapsulate(
            batch.arena,
            batch.received,
            count,
            self._tunnels.memory,
            self._tunnels.lookup,
            batch.outgoing,
            batch.pieces,
            batch.headers_begin,
            batch.headers_end,
            int(self._loop.time() * 1000),
        )
        if io.write_frames(batch.arena, batch.outgoing, batch.pieces, frames):
            self._slow_path.unwritten(batch, frames)
        if self._trace is not None:
            for index, packet in enumerate(seen):
                entry = batch.datagram(index)
                owner = self._slow_path.owner(entry.tunnel)
                self._trace(packet.judged(owner, DropReason(entry.verdict)))
        if refused:
            self._slow_path.refused_datagrams(batch, count)
        if self.learners:
            self._learning.learn(batch, count, self._tunnels.memory)
        if frames:
            self._ask_for_answers(batch.frame(frames - 1).tunnel)

    def _ask_for_answers(self, index: int) -> None:
        """Give a tunnel that was just written to a turn before more is received.

        The host has answered within the write: an echo reply, an acknowledgment.
        """
        attachment = self._attachments.get(index)
        if attachment is not None:
            self._turns.prompt(attachment)
