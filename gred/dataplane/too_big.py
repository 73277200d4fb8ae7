"""Packets too big for the path to the remote: the slow path that helps them or their senders.

    the codec refuses a frame, or the kernel a datagram; its inner packet is
      IPv6 of at most 1280 bytes   sent whole: its outer packet may be fragmented. RFC 7676 §3.2
      IPv4 without Don't Fragment  cut into fragments, each encapsulated. RFC 7588 §3
      answerable by ICMP           dropped, and its sender told the MTU, through the TUN
      anything else                dropped

The answer comes from the packet's destination: the kernel takes no packet from outside that claims
one of its own addresses, and reverse path filters expect what the route says. Linux answers in the
same way for tunnels that it bridges. Nothing here decides what the path carries, and nothing here
counts what is not sent; packets leave by the transmitter, answers by the TUN they came from.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from enum import Enum, auto

from gred.dataplane import codec
from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import EgressBatch
from gred.dataplane.layout import FRAME_HEADROOM, VNET_HEADER, TunnelFlag
from gred.dataplane.prefix import frame_prefix
from gred.dataplane.transmit import Transmitter, Unsent
from gred.dataplane.tunnels import NO_PATH_LIMIT, TunnelTable, Worker
from gred.wire import ethernet, icmp_answer, ip, transport, vnet
from gred.wire.drop import DropReason
from gred.wire.fragments import fragment
from gred.wire.vnet import VnetHeader

LEAST_ANSWERED_ETHERNET = 576  # below it Linux answers for no bridged tunnel

LINE = 64  # frames begin FRAME_HEADROOM behind a multiple of it, as those that are read


class Remedy(Enum):
    """What is to be done about a packet."""

    DROP = auto()
    ANSWER = auto()
    FRAGMENT = auto()
    SEND_WHOLE = auto()


class Outcome(Enum):
    """What became of a datagram that the kernel refused."""

    DROPPED = auto()
    SENT = auto()  # in fragments of the inner packet
    CHANGED = auto()  # the datagram may be fragmented now: to be sent again


class TooBig:
    """Help for all tunnels of a worker, with memory of its own: another batch is under way.

    *unsent* is called with what is sent from here and fails. It must not help: a fragment that is
    too big again is lost.
    """

    def __init__(
        self, tunnels: TunnelTable, worker: Worker, transmitter: Transmitter, unsent: Unsent
    ) -> None:
        self._tunnels = tunnels
        self._worker = worker
        self._transmitter = transmitter
        self._unsent = unsent
        self._batch = EgressBatch()

    def refused(self, attachment: Attachment, batch: EgressBatch, index: int, now: float) -> bool:
        """Help frame *index* of *batch*, which the codec refused as TOO_BIG and counted.

        Return whether it was sent after all; the count is then taken back. The batch's datagrams
        must have been sent: their memory is used again.
        """
        frame, record = batch.frame(index), self._tunnels.record(attachment.index)
        drops = self._worker.tx(attachment.index).tx_drops
        data = batch.arena[frame.offset : frame.offset + frame.length]
        meta = VnetHeader()
        if record.vnet_header == VNET_HEADER:
            meta = VnetHeader.parse(batch.arena[frame.offset - VNET_HEADER : frame.offset])
        inside = self._inside(attachment, data)
        size = first_size(data, inside, meta)
        # A record's limit is for what follows an Ethernet header without VLAN tags.
        path_mtu = min(record.path_mtu, frame.path_mtu or record.path_mtu)
        limit = path_mtu - (inside - ethernet.HEADER if self._is_ethernet(attachment) else 0)
        remedy = judge(data[inside:], size, limit, is_ethernet=self._is_ethernet(attachment))
        if remedy is Remedy.SEND_WHOLE:
            drops[DropReason.TOO_BIG] -= 1
            for filled in self._any_size(attachment, batch, index):
                for number in range(filled):
                    batch.datagram(number).dont_fragment = 0
                self._transmitter.send(attachment, batch, filled, self._unsent)
            return True
        if remedy is Remedy.FRAGMENT:
            drops[DropReason.TOO_BIG] -= 1
            frames = self._cut(attachment, batch, index)
            if self._send_fragments(attachment, frames, limit, frame.destination):
                return True
            drops[DropReason.TOO_BIG] += 1
        if remedy is Remedy.ANSWER:
            self._answer(attachment, data, inside, size, limit, now)
        return False

    def unsent(
        self, attachment: Attachment, batch: EgressBatch, index: int, outer_mtu: int, now: float
    ) -> Outcome:
        """Help datagram *index* of *batch*, which the kernel refused for its size.

        *outer_mtu*: the size that it would have sent; 0: it did not say. Nothing is counted.
        """
        datagram = batch.datagram(index)
        if not outer_mtu or not datagram.dont_fragment:
            return Outcome.DROPPED
        frame = _inner(batch, index)
        inside = self._inside(attachment, frame)
        size = len(frame) - inside
        gre_length = datagram.head_length + datagram.body_length - len(frame)
        limit = outer_mtu - attachment.sender.overhead - gre_length - inside
        if size <= limit:
            return Outcome.DROPPED
        remedy = judge(frame[inside:], size, limit, is_ethernet=self._is_ethernet(attachment))
        if remedy is Remedy.SEND_WHOLE:
            datagram.dont_fragment = 0
            return Outcome.CHANGED
        if remedy is Remedy.FRAGMENT and self._send_fragments(
            attachment, [frame], limit, datagram.destination
        ):
            return Outcome.SENT
        if remedy is Remedy.ANSWER:
            self._answer(attachment, frame, inside, size, limit, now)
        return Outcome.DROPPED

    def _is_ethernet(self, attachment: Attachment) -> bool:
        return bool(self._tunnels.record(attachment.index).flags & TunnelFlag.ETHERNET)

    def _inside(self, attachment: Attachment, frame: bytes) -> int:
        """Return the offset of the network packet in *frame*."""
        if not self._is_ethernet(attachment):
            return 0
        return ethernet.payload(frame)[1] if len(frame) >= ethernet.HEADER else len(frame)

    # --- what is done ---------------------------------------------------------------------------

    def _answer(
        self, attachment: Attachment, frame: bytes, inside: int, size: int, limit: int, now: float
    ) -> None:
        """Tell the sender of the packet in *frame*, of *size* bytes, that *limit* is the MTU."""
        if not attachment.answers.take(now):
            return
        packet = bytearray(frame[inside : inside + icmp_answer.LONGEST_ANSWER6])
        if inside + size < len(frame):
            # A super-packet: it is quoted as its first segment would have been.
            ip.set_length(memoryview(packet), 0, size)
        build = (
            icmp_answer.fragmentation_needed if packet[0] >> 4 == 4 else icmp_answer.packet_too_big
        )
        answer = build(packet, limit)
        if inside:
            answer = frame[6:12] + frame[:6] + frame[12:inside] + answer  # back to its sender
        version = 0 if inside else packet[0] >> 4
        header = frame_prefix(self._tunnels.record(attachment.index), version)
        with contextlib.suppress(OSError):  # down, or full: lost as on any wire
            os.writev(attachment.descriptor, [header, answer])

    def _send_fragments(
        self, attachment: Attachment, frames: Sequence[bytes], limit: int, destination: int
    ) -> bool:
        """Fragment the packet in each of *frames* and send the pieces; False when it cannot be."""
        pieces = []
        for frame in frames:
            inside = self._inside(attachment, frame)
            pieces += [frame[:inside] + part for part in fragment(frame[inside:], limit)]
        for count in self._fill(attachment, pieces, destination):
            first = 0
            while first < count:
                filled, end = self._encapsulate(attachment, self._batch, first, count)
                self._transmitter.send(attachment, self._batch, filled, self._unsent)
                first = end
        return bool(pieces)

    def _fill(
        self, attachment: Attachment, pieces: Sequence[bytes], destination: int
    ) -> Iterator[int]:
        """Put *pieces* into the batch as frames; yield how many lie there each time it is full."""
        batch = self._batch
        header = frame_prefix(self._tunnels.record(attachment.index), 4)  # only IPv4 is fragmented
        count = position = 0
        for piece in pieces:
            offset = -(-position // LINE) * LINE + FRAME_HEADROOM
            if count == batch.FRAMES or offset + len(piece) > batch.headers_begin:
                yield count
                count, offset = 0, FRAME_HEADROOM
            position = offset + len(piece)
            batch.arena[offset - len(header) : position] = header + piece
            entry = batch.frame(count)
            entry.offset, entry.length, entry.done, entry.verdict = offset, len(piece), 0, 0
            entry.destination = destination
            entry.path_mtu = entry.fragmentable = 0  # cut to what it carries
            count += 1
        if count:
            yield count

    def _cut(self, attachment: Attachment, batch: EgressBatch, index: int) -> list[bytes]:
        """Return the packets of frame *index* as segments with finished checksums, unsent."""
        state = self._worker.tx(attachment.index)
        before = state.output_next, state.tx_packets, state.tx_bytes
        packets = [
            _inner(batch, number)
            for filled in self._any_size(attachment, batch, index)
            for number in range(filled)
        ]
        state.output_next, state.tx_packets, state.tx_bytes = before
        return packets

    def _any_size(self, attachment: Attachment, batch: EgressBatch, index: int) -> Iterator[int]:
        """Encapsulate frame *index*, whatever its size; yield how many datagrams lie in *batch*."""
        record = self._tunnels.record(attachment.index)
        batch.frame(index).path_mtu = 0
        first = index
        while first == index:
            limit, record.path_mtu = record.path_mtu, NO_PATH_LIMIT
            try:
                filled, first = self._encapsulate(attachment, batch, index, index + 1)
            finally:
                record.path_mtu = limit
            yield filled

    def _encapsulate(
        self, attachment: Attachment, batch: EgressBatch, first: int, count: int
    ) -> tuple[int, int]:
        """Encapsulate frames *first*..*count*; return how many datagrams, and the next frame."""
        filled, end, _refused = codec.encapsulate(
            batch.arena,
            batch.frames,
            first,
            count,
            self._tunnels.memory,
            self._worker.tx_states,
            attachment.index,
            batch.turn,
            batch.headers_begin,
            batch.headers_end,
        )
        if not filled and end == first:
            raise AssertionError("encapsulation makes no progress")
        return filled, end


def judge(packet: bytes, size: int, limit: int, *, is_ethernet: bool) -> Remedy:
    """Return what is to be done about *packet*, of which a piece of *size* bytes exceeds *limit*.

    *packet* may be cut off behind its headers. In an Ethernet frame it is answered as Linux answers
    for a bridged tunnel.
    """
    version = packet[0] >> 4 if len(packet) >= ip.IPV4_HEADER else 0
    if version == 6:
        if size <= icmp_answer.SMALLEST_MTU6:
            return Remedy.SEND_WHOLE
        return Remedy.ANSWER if icmp_answer.answerable(packet) else Remedy.DROP
    if version != 4 or packet[0] & 0x0F < 5:
        return Remedy.DROP
    word = int.from_bytes(packet[6:8])
    if not word & ip.DONT_FRAGMENT:
        return Remedy.FRAGMENT
    if is_ethernet and (limit < LEAST_ANSWERED_ETHERNET or word != ip.DONT_FRAGMENT):
        return Remedy.DROP
    return Remedy.ANSWER if icmp_answer.answerable(packet) else Remedy.DROP


def first_size(frame: bytes, inside: int, meta: VnetHeader) -> int:
    """Return the size of the packet at *inside*; of a super-packet's first segment."""
    size = len(frame) - inside
    start = meta.csum_start
    if meta.gso_type & ~vnet.GSO_ECN == vnet.GSO_NONE or not inside < start < len(frame):
        return size
    length = transport.UDP_HEADER
    if meta.gso_type & ~vnet.GSO_ECN != vnet.GSO_UDP_L4:
        if len(frame) - start < transport.TCP_HEADER:
            return size
        length = transport.TcpHeader.parse(frame[start:]).length
    return min(size, start - inside + length + meta.gso_size)


def _inner(batch: EgressBatch, index: int) -> bytes:
    """Return the inner packet or frame of datagram *index*."""
    datagram = batch.datagram(index)
    end = datagram.head_offset + datagram.head_length
    body = datagram.body_offset + datagram.body_length
    whole = batch.arena[datagram.head_offset : end] + batch.arena[datagram.body_offset : body]
    return whole[len(whole) - datagram.inner_length :]
