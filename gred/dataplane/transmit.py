"""The transmitter: encapsulated datagrams -> a tunnel's sender. Below egress and the slow path.

A datagram that was not sent goes to whoever sent it, with the reason: a full queue is never
retried here, never waited for. Nothing here encapsulates, counts or helps, and nothing here knows
who calls.
"""

import errno
import mmap
from collections.abc import Callable

from gred.dataplane import codec
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch
from gred.dataplane.trace import Tap, trace_sent
from gred.dataplane.tunnels import Worker
from gred.wire.drop import DropReason

# What an errno of a send means for the packet. ENOBUFS: the device queue is full; EAGAIN: the
# socket buffer is; both are tail drops. EINVAL: the local address is not this host's (any more).
SEND_ERRORS = {
    errno.EAGAIN: DropReason.NO_BUFS,
    errno.ENOBUFS: DropReason.NO_BUFS,
    errno.ENOMEM: DropReason.NO_BUFS,
    errno.EMSGSIZE: DropReason.TOO_BIG,
    errno.EPERM: DropReason.DENIED,
    errno.EACCES: DropReason.DENIED,
    errno.EINVAL: DropReason.NO_ROUTE,
    errno.EADDRNOTAVAIL: DropReason.NO_ROUTE,
    errno.ENETUNREACH: DropReason.NO_ROUTE,
    errno.EHOSTUNREACH: DropReason.NO_ROUTE,
    errno.ENETDOWN: DropReason.NO_ROUTE,
    errno.ENODEV: DropReason.NO_ROUTE,
}

Unsent = Callable[[Attachment, EgressBatch, int, int], bool]
"""Called with the index of a datagram that was not sent and the errno. True: it was changed, and is
to be sent again."""


class Transmitter:
    """Sends for all tunnels of a worker. *tap*: who watches."""

    def __init__(self, worker: Worker, tap: Tap) -> None:
        self._worker = worker
        self._tap = tap

    def send(
        self, attachment: Attachment, batch: EgressBatch, datagrams: int, unsent: Unsent
    ) -> None:
        """Send the first *datagrams* of *batch*; each that is not sent goes to *unsent*."""
        peers = attachment.peers
        if peers is None or not peers.replicates:
            self.send_each(attachment, batch, 0, datagrams, attachment.destinations, unsent)
            return
        index = copy = 0
        while index < datagrams:
            filled, index, copy = codec.spread_datagrams(
                batch.datagrams,
                index,
                copy,
                datagrams,
                batch.DATAGRAMS,
                attachment.destinations,
                self._worker.tx_states,
                attachment.index,
            )
            end = batch.DATAGRAMS + filled
            destinations = attachment.destinations
            self.send_each(attachment, batch, batch.DATAGRAMS, end, destinations, unsent)

    def send_each(
        self,
        attachment: Attachment,
        batch: EgressBatch,
        sent: int,
        end: int,
        destinations: mmap.mmap,
        unsent: Unsent,
    ) -> None:
        """Send datagrams *sent*..*end* of *batch*, each to its one row of *destinations*."""
        name = attachment.device.name
        while sent < end:
            taken, error = attachment.sender.transmit(batch, sent, end, destinations)
            if self._tap.watchers:
                trace_sent(self._tap, name, destinations, batch, sent, sent + taken)
            sent += taken
            if not taken and not error:
                error = errno.EIO  # who sends nothing and says nothing would be asked for ever
            if error and not unsent(attachment, batch, sent, error):
                if self._tap.watchers:
                    reason = SEND_ERRORS.get(error, DropReason.OTHER)
                    trace_sent(self._tap, name, destinations, batch, sent, sent + 1, reason)
                sent += 1
