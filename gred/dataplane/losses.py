"""Losses: what was refused or failed, one packet at a time. The slow path of the forwarder.

Counts each packet under its reason and tells of a few of them; helps those that are too big
(too_big.py), and stops writing super-packets of a kind that the kernel does not take. Packets that
got where they were to go do not come here.
"""

import asyncio
import errno
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gred.dataplane.batch import EgressBatch, IngressBatch
from gred.dataplane.icmp_errors import UnderlayError, told_mtu
from gred.dataplane.layout import Outgoing, TunnelFlag
from gred.dataplane.port import TunnelPort
from gred.dataplane.punt import Allowance, Report, inner_destination, report_refused
from gred.dataplane.too_big import Outcome, TooBig
from gred.wire.drop import DropReason
from gred.wire.icmp import ErrorKind

if TYPE_CHECKING:
    from gred.dataplane.forwarder import DataPlane

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
ADDRESSES = 40  # bytes of an IP packet, to the end of its destination
WRITE_ERRORS = {
    errno.EIO: DropReason.DEVICE_DOWN,
    errno.EBADFD: DropReason.DEVICE_DOWN,
    errno.EAGAIN: DropReason.NO_BUFS,
    errno.ENOBUFS: DropReason.NO_BUFS,
    errno.ENOMEM: DropReason.NO_BUFS,
}


class Losses:
    """The losses of one data plane. *ports*: its tunnels by the index of their record."""

    def __init__(
        self,
        plane: "DataPlane",
        loop: asyncio.AbstractEventLoop,
        ports: Mapping[int, TunnelPort],
        report: Callable[[Report | UnderlayError], None] | None,
    ) -> None:
        self._tunnels = plane.tunnels
        self._loop = loop
        self._ports = ports
        self._report = report
        self._allowance = Allowance()
        self._too_big = TooBig(plane)
        self._stuck = set[str]()

    # --- on the way out -------------------------------------------------------------------------

    def unsent(self, port: TunnelPort, batch: EgressBatch, index: int, error: int) -> bool:
        """Count datagram *index* of *batch*, which was not sent.

        True: it was changed instead, and is to be sent again.
        """
        outcome = Outcome.DROPPED
        if error == errno.EMSGSIZE:
            remote, now = port.remote(batch.datagram(index).destination), self._loop.time()
            mtu = told_mtu(port.whole) or port.kernel_mtu(remote)
            outcome = self._too_big.unsent(port, batch, index, mtu, now)
            if self._report is not None and port.news.take(now):
                name = port.device.name
                told = UnderlayError(
                    name, ErrorKind.TOO_BIG, None, mtu, is_proven=True, remote=remote
                )
                self._report(told)
        if outcome is Outcome.CHANGED:
            return True
        record = self._tunnels.record(port.index)
        record.tx_packets -= 1
        record.tx_bytes -= batch.datagram(index).inner_length
        if outcome is Outcome.DROPPED:
            self._count_unsent(port, error)
        return False

    def _count_unsent(self, port: TunnelPort, error: int) -> None:
        reason = SEND_ERRORS.get(error, DropReason.OTHER)
        self._tunnels.count_drop(port.index, "tx", reason)
        self.tell(port, reason, errno.errorcode.get(error, str(error)))

    def refused_frames(self, port: TunnelPort, batch: EgressBatch, end: int) -> None:
        """Look at what the codec refused of the first *end* frames of *batch*."""
        for index in range(end):
            reason = DropReason(batch.frame(index).verdict)
            if reason is DropReason.TOO_BIG and self._too_big.refused(
                port, batch, index, self._loop.time()
            ):
                continue
            if reason:
                self._tell_refused(port, batch, index, reason)

    def discarded(
        self, port: TunnelPort, batch: EgressBatch, count: int, reason: DropReason
    ) -> None:
        """Count the first *count* frames of *batch*, which were given up while they waited.

        OTHER is a fault of this program; it is told once for each tunnel.
        """
        if not count:
            return
        self._tunnels.record(port.index).tx_drops[reason] += count
        if reason is not DropReason.OTHER:
            self.tell(port, reason, "other tunnels waited for too long")
        elif port.device.name not in self._stuck:
            self._stuck.add(port.device.name)
            length = batch.frame(0).length
            self.tell(port, reason, f"a frame of {length} bytes was neither sent nor refused")

    def _tell_refused(
        self, port: TunnelPort, batch: EgressBatch, index: int, reason: DropReason
    ) -> None:
        if not self._may_tell():  # asked before anything is looked up: most are not told
            return
        detail = ""
        if reason is DropReason.NO_REMOTE:
            frame = batch.frame(index)
            end = frame.offset + min(frame.length, ADDRESSES)
            detail = inner_destination(batch.arena[frame.offset : end])
        self._tell(port, reason, detail)

    # --- on the way in --------------------------------------------------------------------------

    def unwritten(self, batch: IngressBatch, frames: int) -> None:
        """Count those of the first *frames* of *batch* that no TUN took."""
        for index in range(frames):
            frame = batch.frame(index)
            if not frame.error:
                continue
            port = self._ports.get(frame.tunnel)
            record = self._tunnels.record(frame.tunnel)
            record.rx_packets -= frame.packets
            reason = WRITE_ERRORS.get(frame.error, DropReason.OTHER)
            record.rx_drops[reason] += frame.packets
            if port is None:
                continue
            if frame.error == errno.EINVAL and self._downgrade(port, batch, frame):
                continue
            self.tell(port, reason, errno.errorcode.get(frame.error, str(frame.error)))

    def _downgrade(self, port: TunnelPort, batch: IngressBatch, frame: Outgoing) -> bool:
        """Stop writing super-packets of a kind that the kernel refuses (6.6.44 did, for one)."""
        flags = TunnelFlag(self._tunnels.record(port.index).flags)
        gso_type = batch.gso_type(frame) if port.device.vnet_header else 0
        if not gso_type:
            return False
        flag = TunnelFlag.WRITE_USO if gso_type == batch.GSO_UDP else TunnelFlag.WRITE_TSO
        if flag not in flags:
            return False
        self._tunnels.set_flag(port.index, flag, to=False)
        if self._report is not None:
            self._report(
                Report(
                    tunnel=port.device.name,
                    reason=DropReason.OTHER,
                    source=None,
                    destination=None,
                    key=None,
                    detail=f"the kernel refused a super-packet: {flag.name} is off from now on",
                )
            )
        return True

    def refused_datagrams(self, batch: IngressBatch, count: int) -> None:
        """Punt: hand a few refused datagrams upwards, no more than the allowance."""
        if self._report is None:
            return
        for index in range(count):
            entry = batch.datagram(index)
            if not entry.verdict:
                continue
            if not self._allowance.take(self._loop.time()):
                return
            port = self._ports.get(entry.tunnel)
            self._report(
                report_refused(
                    batch,
                    entry,
                    port.device.name if port else None,
                    port.parameters.input_key if port else None,
                )
            )

    # --- telling --------------------------------------------------------------------------------

    def owner(self, index: int) -> str | None:
        """Return the name of the tunnel that record *index* belongs to."""
        port = self._ports.get(index)
        return port.device.name if port is not None else None

    def tell(self, port: TunnelPort | None, reason: DropReason, detail: str) -> None:
        """Report one loss, unless the allowance is used up."""
        if self._may_tell():
            self._tell(port, reason, detail)

    def _may_tell(self) -> bool:
        return self._report is not None and self._allowance.take(self._loop.time())

    def _tell(self, port: TunnelPort | None, reason: DropReason, detail: str) -> None:
        if self._report is None:
            return
        self._report(
            Report(
                tunnel=port.device.name if port else None,
                reason=reason,
                source=port.parameters.local if port else None,
                destination=port.parameters.remote if port else None,
                key=port.parameters.output_key if port else None,
                detail=detail,
            )
        )
