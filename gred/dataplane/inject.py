"""Inject: packets of gred's own on their way out. Keepalives, answers, probes.

    datagram  what an outer packet carries, as it stands    ---------------------> transmitter
    payload   behind a GRE header as the tunnel's           --GreHeader----------> transmitter
    packet    an inner packet, treated as any from the TUN  --codec.encapsulate--> transmitter

One packet for each call, sent at once or never: nothing waits here. What is not sent is counted by
its reason, as any other packet, and gets no help of the slow path. Nothing
here decides what to send or when; above what a tunnel may inject it is refused (NO_BUFS).
"""

import asyncio
import ctypes
import mmap
from typing import NamedTuple

from gred.dataplane import codec
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch, destination_table
from gred.dataplane.hashes import label_flow
from gred.dataplane.layout import FRAME_HEADROOM, Destination, TunnelFlag
from gred.dataplane.prefix import frame_prefix
from gred.dataplane.receivers import wire_address
from gred.dataplane.slow_path import SlowPath
from gred.dataplane.transmit import Transmitter
from gred.dataplane.tunnels import IPAddress, TunnelTable, Worker
from gred.wire.drop import DropReason
from gred.wire.gre import GreHeader
from gred.wire.ip import LONGEST_PACKET

TTL = 64  # of what has no inner packet to inherit from
TOS = 0xC0  # network control, CS6: RFC 4594 §3.2
LARGEST = LONGEST_PACKET - 128  # bytes; room for all headers that come before


class _Place(NamedTuple):
    """A row of a table of destinations."""

    destinations: mmap.mmap
    row: int


class Injector:
    """Sends for all tunnels of a data plane, with memory of its own: a batch may be under way.

    Each of its functions returns whether the kernel took the packet. *remote*: where to, None: to
    the tunnel's own remote or, of an inner packet, where one like it would go.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: TunnelTable,
        worker: Worker,
        transmitter: Transmitter,
        slow_path: SlowPath,
    ) -> None:
        self._loop = loop
        self._tunnels = tunnels
        self._worker = worker
        self._transmitter = transmitter
        self._slow_path = slow_path
        self._batch = EgressBatch()
        self._destination = destination_table(1)
        self._is_sent = False

    def datagram(
        self,
        attachment: Attachment,
        data: bytes,
        *,
        remote: IPAddress | None = None,
        whole: bool = False,
    ) -> bool:
        """Send *data*, which begins with a GRE header, as it stands.

        *whole*: with Don't Fragment, whatever the tunnel's packets have.
        """
        record = self._tunnels.record(attachment.index)
        place = self._place(attachment, data, remote)
        if place is None:
            return False
        batch, entry = self._batch, self._batch.datagram(0)
        batch.arena[FRAME_HEADROOM : FRAME_HEADROOM + len(data)] = data
        ctypes.memset(ctypes.addressof(entry), 0, ctypes.sizeof(entry))
        entry.head_offset, entry.head_length = FRAME_HEADROOM, len(data)
        entry.destination = place.row
        entry.flow_label = record.flow_label
        if record.flags & TunnelFlag.LABELS_FLOWS:
            entry.flow_label = label_flow(0, record.flow_label)
        entry.tos = record.tos if not record.flags & TunnelFlag.TOS_INHERIT else TOS
        entry.ttl = record.ttl or TTL
        entry.dont_fragment = whole or bool(record.flags & TunnelFlag.DONT_FRAGMENT)
        # As encapsulation counts a packet; it carries no inner one.
        state = self._worker.tx(attachment.index)
        state.tx_packets += 1
        if not self._send(attachment, 1, place):
            return False
        state.tx_packets -= 1
        attachment.injected += 1
        return True

    def payload(
        self,
        attachment: Attachment,
        protocol_type: int,
        payload: bytes,
        *,
        bare: bool = False,
        remote: IPAddress | None = None,
        whole: bool = False,
    ) -> bool:
        """Send *payload* behind a GRE header of *protocol_type*.

        With the key, the checksum and the sequence number that the tunnel's packets have; *bare*:
        without any. *whole*: as of ``datagram``.
        """
        record, state = self._tunnels.record(attachment.index), self._worker.tx(attachment.index)
        flags = TunnelFlag(0) if bare else TunnelFlag(record.flags)
        has_number = TunnelFlag.OUTPUT_SEQUENCE in flags
        header = GreHeader(
            protocol_type=protocol_type,
            key=record.output_key if TunnelFlag.OUTPUT_KEY in flags else None,
            sequence=state.output_next if has_number else None,
            checksum=0 if TunnelFlag.OUTPUT_CHECKSUM in flags else None,
        )
        if not self.datagram(attachment, header.build(payload), remote=remote, whole=whole):
            return False
        if has_number:
            state.output_next = state.output_next + 1 & 0xFFFFFFFF
        return True

    def packet(
        self, attachment: Attachment, packet: bytes, *, remote: IPAddress | None = None
    ) -> bool:
        """Send an inner packet, or frame where the tunnel carries frames: encapsulate it."""
        record, batch, peers = self._tunnels.record(attachment.index), self._batch, attachment.peers
        is_routed = peers is not None and remote is None
        place = self._place(attachment, packet, remote, is_routed=is_routed)
        if place is None:
            return False
        version = packet[0] >> 4 if packet and not record.flags & TunnelFlag.ETHERNET else 0
        prefix = frame_prefix(record, version)
        end = FRAME_HEADROOM + len(packet)
        batch.arena[FRAME_HEADROOM - len(prefix) : end] = prefix + packet
        frame = batch.frame(0)
        ctypes.memset(ctypes.addressof(frame), 0, ctypes.sizeof(frame))
        frame.offset, frame.length, frame.destination = FRAME_HEADROOM, len(packet), place.row
        if peers is not None and is_routed:
            codec.route_frames(
                batch.arena, batch.frames, 1, 1, peers.peers, attachment.destinations
            )
        filled, _end, refused = codec.encapsulate(
            batch.arena,
            batch.frames,
            0,
            1,
            self._tunnels.memory,
            self._worker.tx_states,
            attachment.index,
            batch.turn,
            batch.headers_begin,
            batch.headers_end,
        )
        if refused or not self._send(attachment, filled, None if is_routed else place):
            return False
        attachment.injected += 1
        return True

    def _place(
        self,
        attachment: Attachment,
        data: bytes,
        remote: IPAddress | None,
        *,
        is_routed: bool = False,
    ) -> _Place | None:
        """Return where *data* is to go; None: it is refused, and counted."""
        record, parameters = self._tunnels.record(attachment.index), attachment.parameters
        target = parameters.remote if remote is None else remote
        if len(data) > LARGEST:
            reason = DropReason.TOO_BIG
        elif record.flags & TunnelFlag.BLOCKED:
            reason = DropReason.DEAD_LOOP
        elif target is None and not is_routed:
            reason = DropReason.NO_REMOTE
        elif target is not None and target.version != parameters.family:
            reason = DropReason.NO_ROUTE
        elif not attachment.injections.take(self._loop.time()):
            reason = DropReason.NO_BUFS
        else:
            return self._row(attachment, target)
        self._tunnels.count_drop(attachment.index, "tx", reason)
        return None

    def _row(self, attachment: Attachment, target: IPAddress | None) -> _Place:
        """Return the tunnel's row for *target*, which keeps what was sent there, or one of ours."""
        parameters, peers = attachment.parameters, attachment.peers
        row = None if peers is None or target is None else peers.row(target.packed)
        if peers is None and target == parameters.remote:
            row = 0
        if row is not None:
            return _Place(attachment.destinations, row)
        place = Destination.from_buffer(self._destination)
        place.family, place.interface = parameters.family, parameters.interface
        place.port = parameters.destination_port
        place.local[:] = wire_address(parameters.local)
        place.remote[:] = wire_address(target)
        return _Place(self._destination, 0)

    def _send(self, attachment: Attachment, datagrams: int, place: _Place | None) -> bool:
        """Send *datagrams*, to *place* or as they were routed; return whether all were sent."""
        self._is_sent = True
        if place is None:
            self._transmitter.send(attachment, self._batch, datagrams, self._unsent)
        else:
            rows = place.destinations
            self._transmitter.send_each(attachment, self._batch, 0, datagrams, rows, self._unsent)
        return self._is_sent

    def _unsent(self, attachment: Attachment, batch: EgressBatch, index: int, error: int) -> bool:
        self._is_sent = False
        return self._slow_path.give_up(attachment, batch, index, error)
