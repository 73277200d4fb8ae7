"""The forwarder: readiness -> bounded batch -> encapsulate or decapsulate -> batch.

    egress   TUN fd --read_frames--> frames --order_frames--> frames in the order they leave
                    --encapsulate--> datagrams --send_datagrams--> underlay
    ingress  underlay --receive_datagrams--> datagrams --decapsulate--> frames --write_frames--> TUN

A tunnel sends by turns (turns.py); a ready underlay socket moves at most one batch and returns: no
direction and no tunnel starves another. There is no Python per packet on this path: only what was
refused, failed or is traced is looked at one by one. A full queue is a drop: counted, never
retried, never waited for.
"""

import asyncio
import contextlib
import ctypes
import errno
import mmap
from collections.abc import Callable
from dataclasses import dataclass

from gred.dataplane import codec, io
from gred.dataplane.batch import STRIDE, EgressBatch, IngressBatch, destination_table
from gred.dataplane.icmp_errors import IcmpErrors, UnderlayError, told_mtu
from gred.dataplane.layout import Destination, Outgoing, TunnelFlag, Way
from gred.dataplane.peers import PeerLearned, PeerMap, learn_from
from gred.dataplane.punt import Allowance, Report, report_refused
from gred.dataplane.too_big import ANSWERS_AT_ONCE, ANSWERS_PER_SECOND, Outcome, TooBig
from gred.dataplane.trace import TracedPacket, trace_received, trace_sent
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, TunnelParameters, TunnelTable, wire_address
from gred.dataplane.turns import Turns
from gred.dataplane.underlay import NO_SOCKET, Family, Membership, Senders, Underlay
from gred.wire.drop import DropReason
from gred.wire.icmp import ErrorKind

__all__ = [
    "DataPlane",
    "DeviceLost",
    "PeerLearned",
    "Report",
    "Told",
    "TracedPacket",
    "TunnelPort",
    "UnderlayError",
]

# To learn costs Python; whoever floods a tunnel with new sources must not slow the others down.
LESSONS_PER_SECOND = 100.0

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
NEWS_PER_SECOND = 0.1  # for each tunnel: packets too big for the kernel, told to control
WRITE_ERRORS = {
    errno.EIO: DropReason.DEVICE_DOWN,
    errno.EBADFD: DropReason.DEVICE_DOWN,
    errno.EAGAIN: DropReason.NO_BUFS,
    errno.ENOBUFS: DropReason.NO_BUFS,
    errno.ENOMEM: DropReason.NO_BUFS,
}


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """A TUN device that can be read no more: deleted from outside."""

    tunnel: str
    error: OSError


Told = Report | DeviceLost | UnderlayError | PeerLearned


class TunnelPort:
    """A tunnel's place in the data plane: its device, its record, its destination."""

    def __init__(
        self, plane: "DataPlane", device: TunDevice, parameters: TunnelParameters, index: int
    ) -> None:
        self.device = device
        self.parameters = parameters
        self.index = index
        self.descriptor = device.fileno()
        self.destination = destination_table(1)
        self.peers: PeerMap | None = None
        self.membership: Membership | None = None
        self.senders = plane.take_senders(parameters)
        self.answers = Allowance(ANSWERS_PER_SECOND, ANSWERS_AT_ONCE)
        self.news = Allowance(NEWS_PER_SECOND, 1.0)
        self.way = bytearray(ctypes.sizeof(Way))
        self.packet_socket = NO_SOCKET
        self._plane = plane
        self._point()

    def update(self, parameters: TunnelParameters) -> None:
        """Change the tunnel while it runs; counters and sequence state stay.

        Raises ValueError when the underlay's address family would change, and OSError when the
        kernel refuses a socket for the new parameters; then nothing has changed.
        """
        if parameters.family != self.parameters.family:
            raise ValueError("a tunnel keeps its underlay address family: remove and add it")
        before, self.senders = self.senders, self._plane.take_senders(parameters)
        self._plane.leave_senders(self.parameters.family, before)
        self._plane.change_membership(self, parameters.membership)
        self.parameters = parameters
        self._plane.configure(self)
        self._point()

    def block(self, reason: DropReason | None) -> None:
        """Stop sending, counting DEAD_LOOP; ``None``: go on. Receiving goes on in any case."""
        self._plane.tunnels.set_flag(self.index, TunnelFlag.BLOCKED, to=reason is not None)

    def counters(self) -> Counters:
        """Return what this tunnel has counted since it was added."""
        return self._plane.tunnels.counters(self.index)

    def _point(self) -> None:
        destination = Destination.from_buffer(self.destination)
        destination.family = self.parameters.family
        destination.interface = self.parameters.interface
        destination.flow_label = self.parameters.flow_label or 0
        destination.local[:] = wire_address(self.parameters.local)
        destination.remote[:] = wire_address(self.parameters.remote)
        parameters = self.parameters
        self.packet_socket = self.senders.packet_fileno() if parameters.packet_socket else NO_SOCKET
        Way.from_buffer(self.way).until = 0  # what was known is of other destinations
        self.peers = PeerMap(parameters.peers, destination) if parameters.has_many_remotes else None

    @property
    def destinations(self) -> mmap.mmap:
        """Where this tunnel's datagrams go: one place, or one for each peer."""
        return self.destination if self.peers is None else self.peers.destinations


class DataPlane:
    """All tunnels of this process, the underlay sockets and the memory that packets pass through.

    *trace* is called for each packet (for people who watch); *report* for a few of the packets
    that were refused, and for what happens to devices. Both are called from the loop and must not
    block.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        trace: Callable[[TracedPacket], None] | None = None,
        report: Callable[[Told], None] | None = None,
    ) -> None:
        self.tunnels = TunnelTable()
        self._loop = loop
        self._trace = trace
        self._report = report
        self._allowance = Allowance()
        self._turns = Turns(loop, self._move_frames)
        self._ingress = IngressBatch()
        self._too_big = TooBig(self)
        self._underlays: dict[Family, Underlay] = {}
        self._icmp_errors: dict[Family, IcmpErrors] = {}
        self._ports: dict[int, TunnelPort] = {}
        self._learners: list[TunnelPort] = []
        self._lessons = Allowance(LESSONS_PER_SECOND, LESSONS_PER_SECOND)
        self._look_up_is_stale = False

    # --- what control asks for ------------------------------------------------------------------

    def add_tunnel(self, device: TunDevice, parameters: TunnelParameters) -> TunnelPort:
        """Start moving packets between *device* and the underlay.

        The device stays the caller's to close. Raises PermissionError without CAP_NET_RAW and
        OverflowError when there are too many tunnels.
        """
        self._open_underlay(parameters.family)
        index = self.tunnels.add(parameters)
        try:
            port = TunnelPort(self, device, parameters, index)
            self.change_membership(port, parameters.membership)
        except BaseException:
            self.tunnels.remove(index)
            raise
        record = self.tunnels.record(index)
        record.fd = device.fileno()
        record.vnet_header = device.vnet_header
        self.tunnels.set_flag(index, TunnelFlag.ETHERNET, to=device.mode == "tap")
        self.tunnels.set_flag(index, TunnelFlag.PACKET_INFO, to=device.mode == "any")
        self.tunnels.set_flag(index, TunnelFlag.WRITE_TSO, to="tso" in device.offload)
        self.tunnels.set_flag(index, TunnelFlag.WRITE_USO, to="uso" in device.offload)
        self._ports[index] = port
        if parameters.learn_peers:
            self._learners.append(port)
        self._look_up_is_stale = True
        self._turns.add(port)
        return port

    def remove_tunnel(self, port: TunnelPort) -> None:
        """Stop moving packets for *port*. To be called before its device is closed."""
        if self._ports.pop(port.index, None) is None:
            return
        if port in self._learners:
            self._learners.remove(port)
        self._turns.remove(port)
        self.tunnels.record(port.index).fd = -1
        self.tunnels.remove(port.index)
        self.leave_senders(port.parameters.family, port.senders)
        self.change_membership(port, None)
        self._look_up_is_stale = True

    def take_senders(self, parameters: TunnelParameters) -> Senders:
        """Return the sockets that send packets of *parameters*; called by ports. Raises OSError."""
        return self._underlays[parameters.family].take_senders(parameters.send_options)

    def leave_senders(self, family: Family, senders: Senders) -> None:
        """Give back what ``take_senders`` returned."""
        self._underlays[family].leave_senders(senders)

    def change_membership(self, port: TunnelPort, wanted: Membership | None) -> None:
        """Leave the group that *port* is in and join another; called by ports. Raises OSError."""
        underlay = self._underlays[port.parameters.family]
        if wanted == port.membership:
            return
        if wanted is not None:
            underlay.join(wanted)
        if port.membership is not None:
            underlay.leave(port.membership)
        port.membership = wanted

    def configure(self, port: TunnelPort) -> None:
        """Hand changed parameters of *port* to the codec; called by the port itself."""
        self.tunnels.configure(port.index, port.parameters)
        self._look_up_is_stale = True
        batch = self._turns.batch_of(port)
        if batch is not None:
            for index in range(batch.waiting):  # routed anew, or to the only destination
                batch.frame(index).destination = 0

    def unclaimed(self) -> Counters:
        """Return the count of packets that belong to no tunnel."""
        return self.tunnels.counters(0)

    def features(self) -> dict[str, str]:
        """Return what was found at start, for one log line."""
        found = {"codec": codec.IMPLEMENTATION, "io": io.IMPLEMENTATION}
        for underlay in self._underlays.values():
            found["receive_buffer"] = str(underlay.receive_buffer)
        if self._underlays and not self._icmp_errors:
            found["icmp_errors"] = "none"
        return found

    def close(self) -> None:
        """Remove all tunnels and close the underlay sockets. Devices stay open."""
        for port in list(self._ports.values()):
            self.remove_tunnel(port)
        for underlay in self._underlays.values():
            self._loop.remove_reader(underlay.receiver)
            underlay.close()
        self._underlays.clear()
        for errors in self._icmp_errors.values():
            errors.close()
        self._icmp_errors.clear()

    def _open_underlay(self, family: Family) -> None:
        if family in self._underlays:
            return
        underlay = Underlay(family)
        self._underlays[family] = underlay
        self._loop.add_reader(underlay.receiver, self._move_datagrams, underlay)
        if self._report is not None:
            # A sandbox may have raw sockets for GRE and none for ICMP: tunnels work without.
            with contextlib.suppress(OSError):
                errors = IcmpErrors(self._loop, family, self._ports, self._report)
                self._icmp_errors[family] = errors

    # --- egress ---------------------------------------------------------------------------------

    def _move_frames(self, port: TunnelPort, batch: EgressBatch, room: int) -> int:
        """Take a turn: read until *room* frames wait, send the first; return how many were read."""
        try:
            read = io.read_frames(
                port.descriptor,
                batch.arena,
                port.device.prefix,
                batch.frames,
                batch.waiting,
                room,
            )
        except OSError as error:
            self._lose_device(port, error)
            return 0
        self._queue_frames(port, batch, batch.waiting + read)
        count = min(batch.waiting, batch.limit)
        if port.peers is not None:
            codec.route_frames(batch.arena, batch.frames, count, port.peers.peers, port.peers.count)
        datagrams, unfinished, refused = self.encapsulate(port, batch, 0, count)
        self.send(port, batch, datagrams)
        if refused:
            self._look_at_refused_frames(port, batch, unfinished)
        batch.retire(unfinished)
        return read

    def _queue_frames(self, port: TunnelPort, batch: EgressBatch, count: int) -> None:
        """Let the frames up to *count* that were just read wait in their place."""
        leaders = codec.order_frames(
            batch.arena,
            batch.frames,
            batch.leaders,
            batch.waiting,
            count,
            self.tunnels.memory,
            port.index,
        )
        batch.overtaken = leaders > batch.leaders and batch.waiting > batch.leaders
        batch.leaders, batch.waiting = leaders, count

    def encapsulate(
        self, port: TunnelPort, batch: EgressBatch, first: int, count: int
    ) -> tuple[int, int, int]:
        """Call the codec for frames first..count of *batch*; see its contract."""
        return codec.encapsulate(
            batch.arena,
            batch.frames,
            first,
            count,
            self.tunnels.memory,
            port.index,
            batch.turn,
            batch.headers_begin,
            batch.headers_end,
        )

    def send(self, port: TunnelPort, batch: EgressBatch, datagrams: int) -> None:
        """Send the first *datagrams* of *batch*, and count those that are not sent."""
        if self._trace is not None:
            trace_sent(self._trace, port.device.name, port.parameters, batch, datagrams)
        sent = 0
        while sent < datagrams:
            taken, error = io.send_datagrams(
                port.senders.whole.fileno(),
                port.senders.fragmenting.fileno(),
                port.packet_socket,
                port.way,
                batch.arena,
                batch.datagrams,
                sent,
                datagrams,
                port.destinations,
            )
            sent += taken
            if error and not self._look_at_unsent(port, batch, sent, error):
                sent += 1

    def _look_at_unsent(self, port: TunnelPort, batch: EgressBatch, index: int, error: int) -> bool:
        """Count what was not sent; True: it was changed instead, and is to be sent again."""
        outcome = Outcome.DROPPED
        if error == errno.EMSGSIZE:
            mtu, now = told_mtu(port.senders.whole), self._loop.time()
            outcome = self._too_big.unsent(port, batch, index, mtu, now)
            if self._report is not None and port.news.take(now):
                self._report(UnderlayError(port.device.name, ErrorKind.TOO_BIG, None, mtu))
        if outcome is Outcome.CHANGED:
            return True
        record = self.tunnels.record(port.index)
        record.tx_packets -= 1
        record.tx_bytes -= batch.datagram(index).inner_length
        if outcome is Outcome.DROPPED:
            self._count_unsent(port, error)
        return False

    def _count_unsent(self, port: TunnelPort, error: int) -> None:
        reason = SEND_ERRORS.get(error, DropReason.OTHER)
        self.tunnels.count_drop(port.index, "tx", reason)
        self._tell(port, reason, errno.errorcode.get(error, str(error)))

    def _look_at_refused_frames(self, port: TunnelPort, batch: EgressBatch, end: int) -> None:
        for index in range(end):
            reason = DropReason(batch.frame(index).verdict)
            if reason is DropReason.TOO_BIG and self._too_big.refused(
                port, batch, index, self._loop.time()
            ):
                continue
            if reason:
                self._tell(port, reason, "")

    def _lose_device(self, port: TunnelPort, error: OSError) -> None:
        self.remove_tunnel(port)
        if self._report is not None:
            self._report(DeviceLost(port.device.name, error))

    # --- ingress --------------------------------------------------------------------------------

    def _move_datagrams(self, underlay: Underlay) -> None:
        """Move one batch from a ready underlay socket to the TUNs."""
        batch = self._ingress
        if self._look_up_is_stale:
            self.tunnels.rebuild()
            self._look_up_is_stale = False
        count, error = io.receive_datagrams(
            underlay.receiver.fileno(),
            underlay.family,
            batch.arena,
            0,
            STRIDE,
            batch.received,
            batch.SLOTS,
            not self._turns.pending and not self._turns.in_a_hurry,
        )
        if error:
            self._tell(None, DropReason.OTHER, errno.errorcode.get(error, str(error)))
        if not count:
            return
        # Decapsulation patches headers in place: who watches gets a copy made before.
        seen = [] if self._trace is None else trace_received(batch, count)
        frames, refused = codec.decapsulate(
            batch.arena,
            batch.received,
            count,
            self.tunnels.memory,
            self.tunnels.lookup,
            batch.outgoing,
            batch.pieces,
            batch.headers_begin,
            batch.headers_end,
        )
        if io.write_frames(batch.arena, batch.outgoing, batch.pieces, frames):
            self._count_unwritten(frames)
        if self._trace is not None:
            for index, packet in enumerate(seen):
                entry = batch.datagram(index)
                self._trace(packet.judged(self._name(entry.tunnel), DropReason(entry.verdict)))
        if refused:
            self._look_at_refused_datagrams(count)
        for port in self._learners:
            self._learn(port, port.peers, count)
        if frames:
            self._ask_for_answers(batch.frame(frames - 1).tunnel)

    def _ask_for_answers(self, index: int) -> None:
        """Give a tunnel that was just written to a turn before more is received.

        The host has answered within the write: an echo reply, an acknowledgment.
        """
        port = self._ports.get(index)
        if port is not None:
            self._turns.prompt(port)

    def _learn(self, port: TunnelPort, peers: PeerMap | None, count: int) -> None:
        """Learn which remotes the inner sources of this batch are behind."""
        batch, index = self._ingress, -1
        while peers is not None:
            index = codec.find_stranger(
                batch.arena,
                batch.received,
                index + 1,
                count,
                port.index,
                peers.peers,
                peers.count,
                peers.destinations,
            )
            if index == count or not self._lessons.take(self._loop.time()):
                return
            found = learn_from(batch, batch.datagram(index), peers)
            if found is not None and self._report is not None:
                self._report(PeerLearned(port.device.name, *found))

    def _count_unwritten(self, frames: int) -> None:
        for index in range(frames):
            frame = self._ingress.frame(index)
            if not frame.error:
                continue
            port = self._ports.get(frame.tunnel)
            record = self.tunnels.record(frame.tunnel)
            record.rx_packets -= frame.packets
            reason = WRITE_ERRORS.get(frame.error, DropReason.OTHER)
            record.rx_drops[reason] += frame.packets
            if port is None:
                continue
            if frame.error == errno.EINVAL and self._downgrade(port, frame):
                continue
            self._tell(port, reason, errno.errorcode.get(frame.error, str(frame.error)))

    def _downgrade(self, port: TunnelPort, frame: Outgoing) -> bool:
        """Stop writing super-packets of a kind that the kernel refuses (6.6.44 did, for one)."""
        flags = TunnelFlag(self.tunnels.record(port.index).flags)
        gso_type = self._ingress.gso_type(frame) if port.device.vnet_header else 0
        if not gso_type:
            return False
        flag = TunnelFlag.WRITE_USO if gso_type == self._ingress.GSO_UDP else TunnelFlag.WRITE_TSO
        if flag not in flags:
            return False
        self.tunnels.set_flag(port.index, flag, to=False)
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

    def _look_at_refused_datagrams(self, count: int) -> None:
        """Punt: hand a few refused datagrams upwards, no more than the allowance."""
        if self._report is None:
            return
        for index in range(count):
            entry = self._ingress.datagram(index)
            if not entry.verdict:
                continue
            if not self._allowance.take(self._loop.time()):
                return
            self._report(report_refused(self._ingress, entry, self._name(entry.tunnel)))

    # --- telling --------------------------------------------------------------------------------

    def _name(self, index: int) -> str | None:
        port = self._ports.get(index)
        return port.device.name if port is not None else None

    def _tell(self, port: TunnelPort | None, reason: DropReason, detail: str) -> bool:
        """Report one loss on the way out; False when the allowance is used up."""
        if self._report is None or not self._allowance.take(self._loop.time()):
            return False
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
        return True
