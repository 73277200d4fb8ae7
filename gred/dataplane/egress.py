"""Egress: a tunnel's turn, from its TUN to the transmitter.

    TUN fd --read_frames--> frames --order_frames--> frames in the order they leave
           --route_frames--> where there are many remotes --encapsulate--> datagrams --> transmitter

Each turn moves one bounded batch and returns (scheduler.py gives the turns). There is no Python per
packet here: what the codec refused and what was not sent goes to the slow path. Nothing here adds
or removes a tunnel, receives, or calls a socket.
"""

from collections.abc import Callable

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch
from gred.dataplane.slow_path import SlowPath
from gred.dataplane.transmit import Transmitter
from gred.dataplane.tunnels import TunnelTable, Worker


class Egress:
    """Moves frames of all tunnels of a data plane out.

    *lost* is called with a tunnel whose device can be read no more, and the reason.
    """

    def __init__(
        self,
        tunnels: TunnelTable,
        worker: Worker,
        transmitter: Transmitter,
        slow_path: SlowPath,
        lost: Callable[[Attachment, OSError], None],
    ) -> None:
        self._tunnels = tunnels
        self._worker = worker
        self._transmitter = transmitter
        self._slow_path = slow_path
        self._lost = lost

    def move(self, attachment: Attachment, batch: EgressBatch, room: int) -> int:
        """Take a turn: read until *room* frames wait, send the first; return how many were read."""
        try:
            read = io.read_frames(
                attachment.descriptor,
                batch.arena,
                attachment.device.prefix,
                batch.frames,
                batch.waiting,
                room,
            )
        except OSError as error:
            self._lost(attachment, error)
            return 0
        batch.moved = read > 0
        self._queue(attachment, batch, batch.waiting + read)
        count = min(batch.waiting, batch.limit)
        peers = attachment.peers
        if peers is not None:
            count = codec.route_frames(
                batch.arena,
                batch.frames,
                count,
                batch.limit,
                peers.peers,
                attachment.destinations,
            )
        datagrams, unfinished, refused = codec.encapsulate(
            batch.arena,
            batch.frames,
            0,
            count,
            self._tunnels.memory,
            self._worker.tx_states,
            attachment.index,
            batch.turn,
            batch.headers_begin,
            batch.headers_end,
        )
        self._transmitter.send(attachment, batch, datagrams, self._slow_path.unsent)
        if refused:
            self._slow_path.refused_frames(attachment, batch, unfinished)
        batch.retire(unfinished)
        batch.moved = batch.moved or datagrams > 0 or unfinished > 0
        return read

    def _queue(self, attachment: Attachment, batch: EgressBatch, count: int) -> None:
        """Let the frames up to *count* that were just read wait in their place."""
        sparse = codec.order_frames(
            batch.arena,
            batch.frames,
            batch.sparse,
            batch.waiting,
            count,
            self._tunnels.memory,
            attachment.index,
        )
        batch.overtaken = sparse > batch.sparse and batch.waiting > batch.sparse
        batch.sparse, batch.waiting = sparse, count
