"""The forwarder: readiness -> bounded batch -> encapsulate or decapsulate -> batch.

    egress   TUN fd --read_frames--> frames --order_frames--> frames in the order they leave
                    --encapsulate--> datagrams --send_datagrams--> underlay
    ingress  underlay --receive_datagrams--> datagrams --decapsulate--> frames --write_frames--> TUN

A tunnel sends by turns (turns.py); a ready underlay socket moves at most one batch and returns: no
direction and no tunnel starves another. There is no Python per packet on this path: only what is
traced, was refused or failed (losses.py) is looked at one by one. A full queue is a drop: counted,
never retried, never waited for.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass

from gred.dataplane import codec, io
from gred.dataplane.batch import STRIDE, EgressBatch, IngressBatch
from gred.dataplane.foreign import Foreign
from gred.dataplane.groups import Family, Membership
from gred.dataplane.icmp_errors import ErrorIgnored, IcmpErrors, UnderlayError
from gred.dataplane.layout import TunnelFlag
from gred.dataplane.learning import Learning, PeerClaimed, PeerLearned
from gred.dataplane.losses import Losses
from gred.dataplane.port import TunnelPort
from gred.dataplane.punt import Report
from gred.dataplane.quotes import SenderIndex
from gred.dataplane.trace import TracedPacket, trace_received, trace_sent
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, TunnelParameters, TunnelTable
from gred.dataplane.turns import Turns
from gred.dataplane.underlay import Senders, Underlay
from gred.wire.drop import DropReason

__all__ = [
    "DataPlane",
    "DeviceLost",
    "ErrorIgnored",
    "PeerClaimed",
    "PeerLearned",
    "Report",
    "Told",
    "TracedPacket",
    "UnderlayError",
]


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """A TUN device that can be read no more: deleted from outside."""

    tunnel: str
    error: OSError


Told = Report | DeviceLost | UnderlayError | ErrorIgnored | PeerLearned | PeerClaimed


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
        self._foreign = Foreign(self.tunnels)
        self._loop = loop
        self._trace = trace
        self._report = report
        self._turns = Turns(loop, self._move_frames, self._discard_frames)
        self._ingress = IngressBatch()
        self._underlays: dict[Family, Underlay] = {}
        self._icmp_errors: dict[Family, IcmpErrors] = {}
        self._ports: dict[int, TunnelPort] = {}
        self._by_quote = SenderIndex[TunnelPort]()
        self._losses = Losses(self, loop, self._ports, report)
        self._learning = Learning(loop, self._ports, report)
        self._learners = 0

    # --- what control asks for ------------------------------------------------------------------

    def add_tunnel(self, device: TunDevice, parameters: TunnelParameters) -> TunnelPort:
        """Start moving packets between *device* and the underlay.

        The device stays the caller's to close. Raises OSError when the kernel refuses a socket or
        an option (PermissionError without CAP_NET_RAW), GroupError when it refuses a group, and
        OverflowError when there are too many tunnels. Then nothing of it is left.
        """
        self._open_underlay(parameters.family)
        index = self.tunnels.add(parameters)
        try:
            port = TunnelPort(self, device, parameters, index)
        except BaseException:
            self.tunnels.remove(index)
            raise
        try:
            self.change_membership(port, parameters.membership)
            self._turns.add(port)
        except BaseException:
            self._by_quote.remove(port)
            self.change_membership(port, None)
            self.leave_senders(parameters.family, port.senders)
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
        self._by_quote.put(port)
        self._learners += parameters.learn_peers
        return port

    def remove_tunnel(self, port: TunnelPort) -> None:
        """Stop moving packets for *port*. To be called before its device is closed."""
        if self._ports.pop(port.index, None) is None:
            return
        self._by_quote.remove(port)
        self._learners -= port.parameters.learn_peers
        batch = self._turns.batch_of(port)
        if batch is not None:
            self.tunnels.count_drop(port.index, "tx", DropReason.DEVICE_DOWN, batch.waiting)
        self._turns.remove(port)
        self.tunnels.record(port.index).fd = -1
        self.tunnels.remove(port.index)
        self.leave_senders(port.parameters.family, port.senders)
        self.change_membership(port, None)

    def now(self) -> float:
        """Return the time of the loop's clock."""
        return self._loop.time()

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
            underlay.groups.join(wanted)
        if port.membership is not None:
            underlay.groups.leave(port.membership)
        port.membership = wanted

    def configure(self, port: TunnelPort) -> None:
        """Hand changed parameters of *port* to the codec; called by the port itself."""
        self.tunnels.configure(port.index, port.parameters)
        self._by_quote.put(port)
        batch = self._turns.batch_of(port)
        if batch is not None:
            for index in range(batch.waiting):  # routed anew, or to the only destination
                frame = batch.frame(index)
                frame.destination = frame.path_mtu = frame.fragmentable = 0

    def follow_remotes(self, port: TunnelPort, remote: bytes | None, *, comes: bool) -> None:
        """Note that one of many remotes comes or goes, or that all go; called by ports."""
        if remote is None:
            self._by_quote.remove(port)
        elif comes:
            self._by_quote.add_remote(port, remote)
        else:
            self._by_quote.remove_remote(port, remote)

    def others_receive(self, present: bool, /) -> None:
        """Count what is no tunnel's as foreign while another receiver is *present*."""
        self._foreign.begin() if present else self._foreign.end()

    def unclaimed(self) -> Counters:
        """Return the count of packets that belong to no tunnel, or of which none is known."""
        for underlay in self._underlays.values():
            self.tunnels.count_drop(0, "rx", DropReason.RX_OVERRUN, underlay.overrun())
        self._foreign.fold()
        return self.tunnels.counters(0)

    def features(self) -> dict[str, str]:
        """Return what was found at start, for one log line."""
        found = {"codec": codec.IMPLEMENTATION, "io": io.IMPLEMENTATION}
        for underlay in self._underlays.values():
            found["receive_buffer"] = str(underlay.receive_buffer)
            if underlay.drops is None:
                found["receive_drops"] = "not counted: the kernel does not tell"
        if lacks := [name for one in self._underlays.values() for name in one.lacks]:
            found["socket_options"] = f"without {', '.join(lacks)}"
        if self._underlays and not self._icmp_errors:
            found["icmp_errors"] = "none"
        return found

    def close(self) -> None:
        """Remove all tunnels and close the underlay sockets. Devices stay open."""
        for port in list(self._ports.values()):
            self.remove_tunnel(port)
        self.unclaimed()  # what is counted outside is lost with the sockets
        for underlay in self._underlays.values():
            underlay.close()
        self._underlays.clear()
        for errors in self._icmp_errors.values():
            errors.close()
        self._icmp_errors.clear()

    def _open_underlay(self, family: Family) -> None:
        if family in self._underlays:
            return

        def watch(receiver: socket.socket) -> None:
            self._loop.add_reader(receiver, self._move_datagrams, family, receiver)

        self._underlays[family] = Underlay(family, watch=watch, unwatch=self._loop.remove_reader)
        if self._report is not None:
            # A sandbox may have raw sockets for GRE and none for ICMP: tunnels work without.
            with contextlib.suppress(OSError):
                errors = IcmpErrors(self._loop, family, self._by_quote.find, self._report)
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
        batch.moved = read > 0
        self._queue_frames(port, batch, batch.waiting + read)
        count = min(batch.waiting, batch.limit)
        if port.peers is not None:
            count = codec.route_frames(
                batch.arena, batch.frames, count, batch.limit, port.peers.peers, port.destinations
            )
        datagrams, unfinished, refused = self.encapsulate(port, batch, 0, count)
        self.send(port, batch, datagrams)
        if refused:
            self._losses.refused_frames(port, batch, unfinished)
        batch.retire(unfinished)
        batch.moved = batch.moved or datagrams > 0 or unfinished > 0
        return read

    def _discard_frames(
        self, port: TunnelPort, batch: EgressBatch, count: int, reason: DropReason
    ) -> None:
        self._losses.discarded(port, batch, count, reason)

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
        if port.peers is None or not port.peers.replicates:
            self._transmit(port, batch, 0, datagrams)
            return
        index = copy = 0
        while index < datagrams:
            filled, index, copy = codec.spread_datagrams(
                batch.datagrams,
                index,
                copy,
                datagrams,
                batch.DATAGRAMS,
                port.destinations,
                self.tunnels.memory,
                port.index,
            )
            self._transmit(port, batch, batch.DATAGRAMS, batch.DATAGRAMS + filled)

    def _transmit(self, port: TunnelPort, batch: EgressBatch, sent: int, datagrams: int) -> None:
        """Send datagrams *sent*..*datagrams* of *batch*, each to its one destination."""
        if self._trace is not None:
            trace_sent(self._trace, port.device.name, port.destinations, batch, sent, datagrams)
        while sent < datagrams:
            taken, error = io.send_datagrams(
                port.whole.fileno(),
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
            if not taken and not error:
                error = errno.EIO  # who sends nothing and says nothing would be asked for ever
            if error and not self._losses.unsent(port, batch, sent, error):
                sent += 1

    def _lose_device(self, port: TunnelPort, error: OSError) -> None:
        self.remove_tunnel(port)
        if self._report is not None:
            self._report(DeviceLost(port.device.name, error))

    # --- ingress --------------------------------------------------------------------------------

    def _move_datagrams(self, family: Family, receiver: socket.socket) -> None:
        """Move one batch from a ready underlay socket to the TUNs."""
        batch = self._ingress
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
            self._losses.tell(None, DropReason.OTHER, errno.errorcode.get(error, str(error)))
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
            int(self._loop.time() * 1000),
        )
        if io.write_frames(batch.arena, batch.outgoing, batch.pieces, frames):
            self._losses.unwritten(batch, frames)
        if self._trace is not None:
            for index, packet in enumerate(seen):
                entry = batch.datagram(index)
                self._trace(
                    packet.judged(self._losses.owner(entry.tunnel), DropReason(entry.verdict))
                )
        if refused:
            self._losses.refused_datagrams(batch, count)
        if self._learners:
            self._learning.learn(batch, count, self.tunnels.memory)
        if frames:
            self._ask_for_answers(batch.frame(frames - 1).tunnel)

    def _ask_for_answers(self, index: int) -> None:
        """Give a tunnel that was just written to a turn before more is received.

        The host has answered within the write: an echo reply, an acknowledgment.
        """
        port = self._ports.get(index)
        if port is not None:
            self._turns.prompt(port)
