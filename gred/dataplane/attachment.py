"""A tunnel's place in the data plane: its device, its record, where its datagrams go.

Nothing here moves a packet, and nothing here knows the plane: egress, ingress and the slow path do
their work with what they find here.
"""

import ctypes
import mmap
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gred.dataplane.batch import destination_table
from gred.dataplane.evidence import Proof, carried, weigh
from gred.dataplane.groups import Membership
from gred.dataplane.kernel_mtu import kernel_mtu
from gred.dataplane.layout import Destination, TunnelFlag, Way
from gred.dataplane.peers import PeerMap
from gred.dataplane.punt import Allowance
from gred.dataplane.receivers import wire_address
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, IPAddress, TunnelParameters, TunnelTable
from gred.dataplane.underlay import NO_SOCKET, Underlay
from gred.wire.drop import DropReason
from gred.wire.icmp import Quote

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from gred.dataplane.quotes import SenderIndex

# For each tunnel. Answers as Linux limits ICMP for a host.
ANSWERS_PER_SECOND = 1000.0
ANSWERS_AT_ONCE = 100.0
CLAIMS_PER_SECOND = 0.1  # who claims to be where another was heard, told to control
NEWS_PER_SECOND = 0.1  # packets too big for the kernel, told to control
ASKS_PER_SECOND = 1.0  # what the kernel would send


class Attachment:
    """A tunnel's place in the data plane: its device, its record, its destination.

    *underlay* gives senders and groups, *tunnels* has the record *index*, *quotes* learns what is
    sent from here and where to. *changed* is called after parameters have. Raises OSError as
    ``DataPlane.add_tunnel``, and has taken nothing then.
    """

    def __init__(
        self,
        device: TunDevice,
        parameters: TunnelParameters,
        index: int,
        underlay: Underlay,
        tunnels: TunnelTable,
        quotes: "SenderIndex[Attachment]",
        changed: "Callable[[Attachment], None]",
    ) -> None:
        self.device = device
        self.parameters = parameters
        self.index = index
        self.descriptor = device.fileno()
        self.destination = destination_table(1)
        self.peers: PeerMap | None = None
        self.answers = Allowance(ANSWERS_PER_SECOND, ANSWERS_AT_ONCE)
        self.news = Allowance(NEWS_PER_SECOND, 1.0)
        self.claims = Allowance(CLAIMS_PER_SECOND, 1.0)
        self._asks = Allowance(ASKS_PER_SECOND, 1.0)
        self._kernel_mtu: tuple[IPAddress | None, int] = None, 0
        self.way = bytearray(ctypes.sizeof(Way))
        self.last_error = LastError()
        self._underlay = underlay
        self._tunnels = tunnels
        self._quotes = quotes
        self._changed = changed
        self._membership: Membership | None = None
        self.whole: socket.socket
        """What sends datagrams with Don't Fragment."""
        self._packet: socket.socket | None
        self.no_packet_socket: str
        """Why nothing is sent through a packet socket; empty when it is."""
        self.senders = underlay.take_senders(parameters.send_options)
        try:
            self._choose_senders()
            self._point()
            self.peers = self._make_peers()
            self._change_membership(parameters.membership)
            quotes.put(self)
        except BaseException:
            self.detach()
            raise

    def update(self, parameters: TunnelParameters) -> None:
        """Change the tunnel while it runs; counters and sequence state stay.

        Raises ValueError when the underlay's address family would change, and OSError when the
        kernel refuses a socket for the new parameters; then nothing has changed.
        """
        if parameters.family != self.parameters.family:
            raise ValueError("a tunnel keeps its underlay address family: remove and add it")
        senders = self._underlay.take_senders(parameters.send_options)
        try:
            self._change_membership(parameters.membership)
        except BaseException:
            self._underlay.leave_senders(senders)
            raise
        self._underlay.leave_senders(self.senders)
        before, self.parameters, self.senders = self.parameters, parameters, senders
        self._choose_senders()
        self._tunnels.configure(self.index, parameters)
        self._quotes.put(self)
        self._changed(self)
        if replace(before, packet_socket=parameters.packet_socket) != parameters:
            self._point()
        if _peers(before) != _peers(parameters):
            self.peers = self._make_peers()

    def detach(self) -> None:
        """Give back what was taken of the underlay. To be called once, when nothing moves."""
        self._quotes.remove(self)
        self._underlay.leave_senders(self.senders)
        self._change_membership(None)

    def block(self, reason: DropReason | None) -> None:
        """Stop sending, counting DEAD_LOOP; ``None``: go on. Receiving goes on in any case."""
        self._tunnels.set_flag(self.index, TunnelFlag.BLOCKED, to=reason is not None)

    def counters(self) -> Counters:
        """Return what this tunnel has counted since it was added."""
        return self._tunnels.counters(self.index)

    def traffic(self) -> Traffic:
        """Return how much was sent and received so far."""
        record = self._tunnels.record(self.index)
        return Traffic(record.tx_packets, record.rx_packets)

    def limit_path(self, remote: IPAddress, path_mtu: int | None, *, fragmentable: bool) -> None:
        """Let packets to *remote*, one of many, obey its path.

        *path_mtu*: the largest inner packet that it carries, in bytes; None: as to all others.
        *fragmentable*: outer packets go there without Don't Fragment.
        """
        if self.peers is not None:
            self.peers.limit(remote.packed, path_mtu, fragmentable=fragmentable)

    def remote(self, row: int) -> IPAddress | None:
        """Return where destination *row* is; None: there is none."""
        if self.peers is None:
            return self.parameters.remote
        size = ctypes.sizeof(Destination)
        if (row + 1) * size > len(self.destinations):
            return None
        place = Destination.from_buffer_copy(self.destinations, row * size)
        return ip_address(bytes(place.remote)[: 16 if place.family == 6 else 4])

    def kernel_mtu(self, remote: IPAddress | None, now: float) -> int:
        """Return what the kernel would send to *remote* in one piece at *now*; 0: it does not say.

        Asked after a packet was refused for its size and no reason given, and seldom.
        """
        if self._asks.take(now):
            self._kernel_mtu = remote, kernel_mtu(self.parameters, remote)
        known, mtu = self._kernel_mtu
        return mtu if known == remote else 0

    def weigh(self, quote: Quote) -> Proof:
        """Return what a quote that fits addresses, flags and key proves to this tunnel."""
        record = self._tunnels.record(self.index)
        return weigh(quote, carried(self.device.mode, self.parameters), record.output_next)

    def note_error(self, now: float) -> None:
        """Note an ICMP error about a packet of this tunnel, whether or not it is told."""
        self.last_error = LastError(now, self.traffic())

    def _change_membership(self, wanted: Membership | None) -> None:
        """Leave the group that it is in and join another.

        Raises GroupError; then nothing has changed.
        """
        if wanted == self._membership:
            return
        if wanted is not None:
            self._underlay.groups.join(wanted)
        if self._membership is not None:
            self._underlay.groups.leave(self._membership)
        self._membership = wanted

    def _point(self) -> None:
        destination = Destination.from_buffer(self.destination)
        before = bytes(destination)
        destination.family = self.parameters.family
        destination.interface = self.parameters.interface
        destination.flow_label = self.parameters.flow_label or 0
        destination.local[:] = wire_address(self.parameters.local)
        destination.remote[:] = wire_address(self.parameters.remote)
        Way.from_buffer(self.way).until = 0  # what was known is of other destinations
        if self.peers is not None and bytes(destination) != before:
            self.peers.move(destination)

    def _make_peers(self) -> PeerMap | None:
        parameters = self.parameters
        if not parameters.has_many_remotes:
            return None
        self._quotes.remove(self)
        destination = Destination.from_buffer(self.destination)
        made = PeerMap(
            parameters.peers,
            destination,
            learns=parameters.learn_peers,
            watch=self._follow_remote,
        )
        if self.peers is not None:
            made.keep_paths(self.peers)
        return made

    def _follow_remote(self, remote: bytes, comes: bool, /) -> None:
        """Let what is sent to *remote*, one of many, be known as this tunnel's, or no longer."""
        if comes:
            self._quotes.add_remote(self, remote)
        else:
            self._quotes.remove_remote(self, remote)

    def _choose_senders(self) -> None:
        """Let datagrams follow others where they may.

        Not over IPv6 with a flow label of the kernel's choice: with it the kernel chooses a queue,
        another one than for the followers.
        """
        senders, parameters = self.senders, self.parameters
        self.no_packet_socket = senders.no_packet
        if not parameters.packet_socket:
            self.no_packet_socket = "not allowed"
        elif parameters.family == 6 and parameters.flow_label is None:
            self.no_packet_socket = "IPv6FlowLabel=auto"
        scouts = None if self.no_packet_socket else senders.scouts
        self.whole = senders.whole if scouts is None else scouts
        self._packet = None if scouts is None else senders.packet

    @property
    def packet_socket(self) -> int:
        """Descriptor of the packet socket for those that follow, or ``NO_SOCKET``."""
        return NO_SOCKET if self._packet is None else self._packet.fileno()

    @property
    def destinations(self) -> mmap.mmap:
        """Where this tunnel's datagrams go: one place, or one for each peer."""
        return self.destination if self.peers is None else self.peers.destinations


def _peers(parameters: TunnelParameters) -> object:
    """Return what the map of many remotes is made of."""
    return parameters.has_many_remotes, parameters.peers, parameters.learn_peers
