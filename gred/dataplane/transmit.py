"""The transmitter: encapsulated datagrams -> underlay sockets. Below egress and the slow path.

A datagram that was not sent goes to whoever sent it, with the reason: a full queue is never
retried here, never waited for. Nothing here encapsulates, counts or helps, and nothing here knows
who calls.
"""

import errno
from collections.abc import Callable

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch
from gred.dataplane.trace import TracedPacket, trace_sent
from gred.dataplane.tunnels import TunnelTable

Unsent = Callable[[Attachment, EgressBatch, int, int], bool]
"""Called with the index of a datagram that was not sent and the errno. True: it was changed, and is
to be sent again."""


class Transmitter:
    """Sends for all tunnels of a data plane. *trace* is called for each datagram."""

    def __init__(
        self, tunnels: TunnelTable, trace: Callable[[TracedPacket], None] | None = None
    ) -> None:
        self._tunnels = tunnels
        self._trace = trace

    def send(
        self, attachment: Attachment, batch: EgressBatch, datagrams: int, unsent: Unsent
    ) -> None:
        """Send the first *datagrams* of *batch*; each that is not sent goes to *unsent*."""
        peers = attachment.peers
        if peers is None or not peers.replicates:
            self._transmit(attachment, batch, 0, datagrams, unsent)
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
                self._tunnels.memory,
                attachment.index,
            )
            end = batch.DATAGRAMS + filled
            self._transmit(attachment, batch, batch.DATAGRAMS, end, unsent)

    def _transmit(
        self, attachment: Attachment, batch: EgressBatch, sent: int, end: int, unsent: Unsent
    ) -> None:
        """Send datagrams *sent*..*end* of *batch*, each to its one destination."""
        if self._trace is not None:
            name, destinations = attachment.device.name, attachment.destinations
            trace_sent(self._trace, name, destinations, batch, sent, end)
        while sent < end:
            taken, error = io.send_datagrams(
                attachment.whole.fileno(),
                attachment.senders.fragmenting.fileno(),
                attachment.packet_socket,
                attachment.way,
                batch.arena,
                batch.datagrams,
                sent,
                end,
                attachment.destinations,
            )
            sent += taken
            if not taken and not error:
                error = errno.EIO  # who sends nothing and says nothing would be asked for ever
            if error and not unsent(attachment, batch, sent, error):
                sent += 1
