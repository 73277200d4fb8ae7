"""The slow path: what was refused, is too big or failed, one packet at a time.

Counts each packet under its reason and tells of a few of them; has those that are too big helped
(too_big.py), and stops writing super-packets of a kind that the kernel does not take. Packets that
got where they were to go do not come here. What is sent from here leaves by the transmitter, and
when it fails again it is counted: nothing here helps a packet twice, or gives one back to egress.
"""

import asyncio
import errno
from collections.abc import Callable, Mapping

from gred.dataplane.attachment import Attachment
from gred.dataplane.batch import Arrivals, EgressBatch, TunWrites
from gred.dataplane.icmp_errors import UnderlayError
from gred.dataplane.layout import TunnelFlag
from gred.dataplane.punt import Allowance, Punts, Report, inner_destination, report_refused
from gred.dataplane.too_big import Outcome, TooBig
from gred.dataplane.trace import Tap, trace_refused
from gred.dataplane.transmit import SEND_ERRORS, Transmitter
from gred.dataplane.tunnels import IPAddress, TunnelTable, Worker
from gred.wire.drop import DropReason
from gred.wire.icmp import ErrorKind

ADDRESSES = 40  # bytes of an IP packet, to the end of its destination
WRITE_ERRORS = {
    errno.EIO: DropReason.DEVICE_DOWN,
    errno.EBADFD: DropReason.DEVICE_DOWN,
    errno.EAGAIN: DropReason.NO_BUFS,
    errno.ENOBUFS: DropReason.NO_BUFS,
    errno.ENOMEM: DropReason.NO_BUFS,
}


class SlowPath:
    """The slow path of one worker. *attachments*: tunnels by the index of their record."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tunnels: TunnelTable,
        worker: Worker,
        attachments: Mapping[int, Attachment],
        transmitter: Transmitter,
        report: Callable[[Report | UnderlayError], None] | None,
        tap: Tap,
    ) -> None:
        self._tunnels = tunnels
        self._worker = worker
        self._loop = loop
        self._attachments = attachments
        self._report = report
        self._tap = tap
        self._allowance = Allowance()
        self.punts = Punts(attachments)
        self._too_big = TooBig(tunnels, worker, transmitter, self.give_up)
        self._stuck = set[str]()

    # --- on the way out -------------------------------------------------------------------------

    def unsent(self, attachment: Attachment, batch: EgressBatch, index: int, error: int) -> bool:
        """Count datagram *index* of *batch*, which egress could not send.

        True: it was changed instead, and is to be sent again.
        """
        outcome = Outcome.DROPPED
        if error == errno.EMSGSIZE:
            now, (remote, mtu) = self._loop.time(), self._outer_mtu(attachment, batch, index)
            outcome = self._too_big.unsent(attachment, batch, index, mtu, now)
            self._tell_mtu(attachment, remote, mtu)
        if outcome is Outcome.CHANGED:
            return True
        self._take_back(attachment, batch, index)
        if outcome is Outcome.DROPPED:
            self._count_unsent(attachment, error)
        return False

    def give_up(self, attachment: Attachment, batch: EgressBatch, index: int, error: int) -> bool:
        """Count datagram *index* of *batch*, which was not sent and is not helped. False.

        One of our own; or one that had its help, and the path has changed again meanwhile.
        """
        if error == errno.EMSGSIZE:
            self._tell_mtu(attachment, *self._outer_mtu(attachment, batch, index))
        self._take_back(attachment, batch, index)
        self._count_unsent(attachment, error)
        return False

    def _outer_mtu(
        self, attachment: Attachment, batch: EgressBatch, index: int
    ) -> tuple[IPAddress | None, int]:
        """Return where datagram *index* was to go, and the size that the kernel would have sent.

        0: it does not say.
        """
        remote = attachment.remote(batch.datagram(index).destination)
        mtu = attachment.sender.told_mtu() or attachment.kernel_mtu(remote, self._loop.time())
        return remote, mtu

    def _tell_mtu(self, attachment: Attachment, remote: IPAddress | None, mtu: int) -> None:
        if self._report is not None and attachment.news.take(self._loop.time()):
            name, kind = attachment.device.name, ErrorKind.TOO_BIG
            self._report(UnderlayError(name, kind, None, mtu, is_proven=True, remote=remote))

    def _take_back(self, attachment: Attachment, batch: EgressBatch, index: int) -> None:
        """Count datagram *index* of *batch* as sent no longer."""
        state = self._worker.tx(attachment.index)
        state.tx_packets -= 1
        state.tx_bytes -= batch.datagram(index).inner_length

    def _count_unsent(self, attachment: Attachment, error: int) -> None:
        reason = SEND_ERRORS.get(error, DropReason.OTHER)
        self._tunnels.count_drop(attachment.index, "tx", reason)
        self.tell(attachment, reason, errno.errorcode.get(error, str(error)))

    def refused_frames(self, attachment: Attachment, batch: EgressBatch, end: int) -> None:
        """Look at what the codec refused of the first *end* frames of *batch*."""
        for index in range(end):
            reason = DropReason(batch.frame(index).verdict)
            if reason is DropReason.TOO_BIG and self._too_big.refused(
                attachment, batch, index, self._loop.time()
            ):
                continue
            if reason:
                self._show(attachment, batch, index, reason)
                self._tell_refused(attachment, batch, index, reason)

    def discarded(
        self, attachment: Attachment, batch: EgressBatch, count: int, reason: DropReason
    ) -> None:
        """Count the first *count* frames of *batch*, which were given up while they waited.

        OTHER is a fault of this program; it is told once for each tunnel.
        """
        if not count:
            return
        self._worker.tx(attachment.index).tx_drops[reason] += count
        for index in range(count if self._tap.watchers else 0):
            self._show(attachment, batch, index, reason)
        if reason is not DropReason.OTHER:
            self.tell(attachment, reason, "other tunnels waited for too long")
        elif attachment.device.name not in self._stuck:
            self._stuck.add(attachment.device.name)
            length = batch.frame(0).length
            self.tell(attachment, reason, f"a frame of {length} bytes was neither sent nor refused")

    def _show(
        self, attachment: Attachment, batch: EgressBatch, index: int, reason: DropReason
    ) -> None:
        if self._tap.watchers:
            name, is_ethernet = attachment.device.name, attachment.device.mode == "tap"
            trace_refused(self._tap, name, batch, index, reason, is_ethernet=is_ethernet)

    def _tell_refused(
        self, attachment: Attachment, batch: EgressBatch, index: int, reason: DropReason
    ) -> None:
        if not self._may_tell():  # asked before anything is looked up: most are not told
            return
        detail = ""
        if reason is DropReason.NO_REMOTE:
            frame = batch.frame(index)
            end = frame.offset + min(frame.length, ADDRESSES)
            detail = inner_destination(batch.arena[frame.offset : end])
        self._tell(attachment, reason, detail)

    # --- on the way in --------------------------------------------------------------------------

    def unwritten(self, arrivals: Arrivals, writes: TunWrites, frames: int) -> None:
        """Count those of the first *frames* of *writes* that no TUN took."""
        for index in range(frames):
            frame = writes.frame(index)
            if not frame.error:
                continue
            attachment = self._attachments.get(frame.tunnel)
            state = self._worker.rx(frame.tunnel)
            state.rx_packets -= frame.packets
            reason = WRITE_ERRORS.get(frame.error, DropReason.OTHER)
            state.rx_drops[reason] += frame.packets
            if attachment is None:
                continue
            if frame.error == errno.EINVAL and self._downgrade(
                attachment, writes.gso_type(frame, arrivals)
            ):
                continue
            self.tell(attachment, reason, errno.errorcode.get(frame.error, str(frame.error)))

    def _downgrade(self, attachment: Attachment, gso_type: int) -> bool:
        """Stop writing super-packets of a kind that the kernel refuses (6.6.44 did, for one)."""
        flags = TunnelFlag(self._tunnels.record(attachment.index).flags)
        if not attachment.device.vnet_header or not gso_type:
            return False
        flag = TunnelFlag.WRITE_USO if gso_type == TunWrites.GSO_UDP else TunnelFlag.WRITE_TSO
        if flag not in flags:
            return False
        self._tunnels.set_flag(attachment.index, flag, to=False)
        if self._report is not None:
            self._report(
                Report(
                    tunnel=attachment.device.name,
                    reason=DropReason.OTHER,
                    source=None,
                    destination=None,
                    key=None,
                    detail=f"the kernel refused a super-packet: {flag.name} is off from now on",
                )
            )
        return True

    def refused_datagrams(self, arrivals: Arrivals, count: int) -> None:
        """Punt: hand a few refused datagrams upwards, no more than the allowances."""
        verdicts = arrivals.verdicts(count)
        self.punts.hand_up(arrivals, verdicts, self._loop.time())
        if self._report is None:
            return
        for index, verdict in enumerate(verdicts):
            if not verdict or self.punts.takes(verdict):
                continue
            if not self._allowance.take(self._loop.time()):
                return
            entry = arrivals.datagram(index)
            attachment = self._attachments.get(entry.tunnel)
            self._report(
                report_refused(
                    arrivals,
                    entry,
                    attachment.device.name if attachment else None,
                    attachment.parameters.input_key if attachment else None,
                )
            )

    # --- telling --------------------------------------------------------------------------------

    def owner(self, index: int) -> str | None:
        """Return the name of the tunnel that record *index* belongs to."""
        attachment = self._attachments.get(index)
        return attachment.device.name if attachment is not None else None

    def tell(self, attachment: Attachment | None, reason: DropReason, detail: str) -> None:
        """Report one loss, unless the allowance is used up."""
        if self._may_tell():
            self._tell(attachment, reason, detail)

    def _may_tell(self) -> bool:
        return self._report is not None and self._allowance.take(self._loop.time())

    def _tell(self, attachment: Attachment | None, reason: DropReason, detail: str) -> None:
        if self._report is None:
            return
        self._report(
            Report(
                tunnel=attachment.device.name if attachment else None,
                reason=reason,
                source=attachment.parameters.local if attachment else None,
                destination=attachment.parameters.remote if attachment else None,
                key=attachment.parameters.output_key if attachment else None,
                detail=detail,
            )
        )
