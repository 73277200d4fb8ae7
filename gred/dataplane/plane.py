"""The plane: tunnels come, change and go; sockets and tables belong to it.

It ties the parts of a packet's way together, once, and the loop calls them:

    egress     scheduler -> egress -> transmitter -> underlay
    ingress    underlay -> ingress -> TUN; the tunnel that was written to has a turn
    slow path  what was refused, is too big or failed on either; it sends by the transmitter
    inject     packets of gred's own -> transmitter
    punts      slow path -> whoever subscribes to a reason

No packet comes here, and nothing here decides: what happens is told upwards.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gred.dataplane import codec, io
from gred.dataplane.attachment import Attachment
from gred.dataplane.egress import Egress
from gred.dataplane.foreign import Foreign
from gred.dataplane.icmp_errors import ErrorIgnored, IcmpErrors, UnderlayError
from gred.dataplane.ingress import Ingress
from gred.dataplane.inject import Injector
from gred.dataplane.layout import Transport, TunnelFlag
from gred.dataplane.learning import Learning, PeerClaimed, PeerLearned
from gred.dataplane.punt import Report
from gred.dataplane.quotes import SenderIndex
from gred.dataplane.receivers import Taken
from gred.dataplane.scheduler import Scheduler
from gred.dataplane.slow_path import SlowPath
from gred.dataplane.trace import Everything, Tap, TracedPacket
from gred.dataplane.transmit import Transmitter
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, TunnelParameters, TunnelTable
from gred.dataplane.underlay.contract import (
    Family,
    Receiver,
    Store,
    Underlay,
    Unwatch,
    Watch,
)
from gred.dataplane.underlay.raw import RawUnderlay
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


def _open_raw(family: Family, watch: Watch, unwatch: Unwatch, store: Store | None) -> Underlay:
    return RawUnderlay(family, watch=watch, unwatch=unwatch, store=store)


def _open_udp(family: Family, watch: Watch, unwatch: Unwatch, store: Store | None) -> Underlay:
    from gred.dataplane.underlay.udp import UdpUnderlay  # noqa: PLC0415 - only where it is used

    return UdpUnderlay(family, watch=watch, unwatch=unwatch, store=store)


OPENERS = {Transport.IP: _open_raw, Transport.UDP: _open_udp}


class DataPlane:
    """All tunnels of this process, and the underlay sockets.

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
        self._worker = worker = self.tunnels.workers[0]
        self._foreign = Foreign(worker)
        self._loop = loop
        self._report = report
        self._underlays: dict[tuple[Family, Transport], Underlay] = {}
        self._icmp_errors: dict[Family, IcmpErrors] = {}
        self._attachments: dict[int, Attachment] = {}
        self._store: Store | None = None
        self._waiting: list[Receiver] | None = None
        self._by_quote = SenderIndex[Attachment]()
        self.tap = Tap()
        """Who watches packets; may come and go."""
        if trace is not None:
            self.tap.add(Everything(trace))
        transmitter = Transmitter(worker, self.tap)
        slow_path = SlowPath(
            loop, self.tunnels, worker, self._attachments, transmitter, report, self.tap
        )
        self.inject = Injector(loop, self.tunnels, worker, transmitter, slow_path)
        """Sends packets of gred's own."""
        self.punts = slow_path.punts
        """Hands packets to whoever subscribes to the reason they were refused for."""
        egress = Egress(self.tunnels, worker, transmitter, slow_path, self._lose_device)
        self._scheduler = Scheduler[Attachment](loop, egress.move, slow_path.discarded)
        self._ingress = Ingress(
            loop,
            self.tunnels,
            worker,
            self._attachments,
            self._scheduler,
            slow_path,
            Learning(loop, self._attachments, report),
            self.tap,
        )

    def add_tunnel(self, device: TunDevice, parameters: TunnelParameters) -> Attachment:
        """Start moving packets between *device* and the underlay.

        The device stays the caller's to close. Raises OSError when the kernel refuses a socket or
        an option (PermissionError without CAP_NET_RAW), GroupError when it refuses a group, and
        OverflowError when there are too many tunnels. Then nothing of it is left.
        """
        underlay = self._open_underlay(parameters.family, parameters.transport)
        with contextlib.ExitStack() as undo:
            index = self.tunnels.add(parameters)
            undo.callback(self.tunnels.remove, index)
            attachment = Attachment(
                device,
                parameters,
                index,
                underlay,
                self.tunnels,
                self._by_quote,
                self._attachment_changed,
            )
            undo.callback(attachment.detach)
            self._scheduler.add(attachment)
            undo.pop_all()
        self._listen_for_errors(parameters)
        record = self.tunnels.record(index)
        self._worker.write_to(index, device.fileno())
        record.vnet_header = device.vnet_header
        self.tunnels.set_flag(index, TunnelFlag.ETHERNET, to=device.mode == "tap")
        self.tunnels.set_flag(index, TunnelFlag.PACKET_INFO, to=device.mode == "any")
        self.tunnels.set_flag(index, TunnelFlag.WRITE_TSO, to="tso" in device.offload)
        self.tunnels.set_flag(index, TunnelFlag.WRITE_USO, to="uso" in device.offload)
        self._attachments[index] = attachment
        self._ingress.learners += parameters.learn_peers
        return attachment

    def remove_tunnel(self, attachment: Attachment) -> None:
        """Stop moving packets for *attachment*. To be called before its device is closed."""
        if self._attachments.pop(attachment.index, None) is None:
            return
        self._ingress.learners -= attachment.parameters.learn_peers
        self._ingress.forget(attachment.index)
        batch = self._scheduler.batch_of(attachment)
        if batch is not None:
            self.tunnels.count_drop(attachment.index, "tx", DropReason.DEVICE_DOWN, batch.waiting)
        self._scheduler.remove(attachment)
        self._worker.write_to(attachment.index, -1)
        self.tunnels.remove(attachment.index)
        attachment.detach()

    def _listen_for_errors(self, parameters: TunnelParameters) -> None:
        errors = self._icmp_errors.get(parameters.family)
        if errors is not None and parameters.transport is Transport.UDP:
            errors.listen_for(parameters.remote_port)

    def _attachment_changed(self, attachment: Attachment, before: TunnelParameters) -> None:
        self._listen_for_errors(attachment.parameters)
        self._ingress.learners += attachment.parameters.learn_peers - before.learn_peers
        batch = self._scheduler.batch_of(attachment)
        if batch is not None:
            batch.forget_destinations()  # routed anew, or to the only destination

    def _lose_device(self, attachment: Attachment, error: OSError) -> None:
        self.remove_tunnel(attachment)
        if self._report is not None:
            self._report(DeviceLost(attachment.device.name, error))

    def sample(self, attachment: Attachment, take: Callable[[bytes], None], /) -> None:
        """Call *take* with the beginning of the next inner packet that *attachment* delivers.

        The first 64 bytes, Ethernet header included where there is one. One waits for each tunnel:
        a later one replaces it.
        """
        self._ingress.sample(attachment.index, take)

    def others_receive(self, present: bool, what: Iterable[Taken] = (), /) -> None:
        """Count what is no tunnel's as foreign while another receiver is *present*.

        *what*: what they are known to take; this also where only the key tells it from our own.
        """
        self._foreign.begin() if present else self._foreign.end()
        self.tunnels.others_take(what)

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
            for fact, value in underlay.features().items():
                known = found.setdefault(fact, value)
                if value not in known:
                    found[fact] = f"{known}; {value}"
        if self._underlays and not self._icmp_errors:
            found["icmp_errors"] = "none"
        return found

    def close(self) -> None:
        """Remove all tunnels and close the underlay sockets. Devices stay open."""
        for underlay in self._underlays.values():
            underlay.leave_stored()
        for attachment in list(self._attachments.values()):
            self.remove_tunnel(attachment)
        self.unclaimed()  # what is counted outside is lost with the sockets
        for underlay in self._underlays.values():
            underlay.close()
        self._underlays.clear()
        for errors in self._icmp_errors.values():
            errors.close()
        self._icmp_errors.clear()

    def use_store(self, store: Store) -> None:
        """Have sockets kept by *store*, and go on with those it has.

        Nothing is received until ``receive``: what waits there is for tunnels that are not added
        yet.
        """
        self._store, self._waiting = store, []

    def receive(self) -> None:
        """Receive from now on. Harmless twice."""
        waiting, self._waiting = self._waiting or [], None
        for receiver in waiting:
            self._watch(receiver)

    def _watch(self, receiver: Receiver) -> None:
        if self._waiting is not None:
            self._waiting.append(receiver)
        else:
            self._loop.add_reader(receiver.fileno(), self._ingress.move, receiver)

    def _unwatch(self, descriptor: int) -> None:
        if self._waiting is not None:
            self._waiting = [one for one in self._waiting if one.fileno() != descriptor]
        self._loop.remove_reader(descriptor)

    def _open_underlay(self, family: Family, transport: Transport) -> Underlay:
        underlay = self._underlays.get((family, transport))
        if underlay is not None:
            return underlay

        underlay = OPENERS[transport](family, self._watch, self._unwatch, self._store)
        self._underlays[family, transport] = underlay
        if self._report is not None and family not in self._icmp_errors:
            # A sandbox may have raw sockets for GRE and none for ICMP: tunnels work without.
            with contextlib.suppress(OSError):
                errors = IcmpErrors(self._loop, family, self._by_quote.find, self._report)
                self._icmp_errors[family] = errors
        return underlay
