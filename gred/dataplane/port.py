"""A tunnel's place in the data plane: its device, its record, where its datagrams go.

Nothing here moves a packet; the forwarder does, with what it finds here.
"""

import ctypes
import mmap
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gred.dataplane.batch import destination_table
from gred.dataplane.evidence import Proof, carried, weigh
from gred.dataplane.kernel_mtu import kernel_mtu
from gred.dataplane.layout import Destination, TunnelFlag, Way
from gred.dataplane.learning import CLAIMS_PER_SECOND
from gred.dataplane.peers import PeerMap
from gred.dataplane.punt import Allowance
from gred.dataplane.receivers import wire_address
from gred.dataplane.too_big import ANSWERS_AT_ONCE, ANSWERS_PER_SECOND
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, IPAddress, TunnelParameters
from gred.dataplane.underlay import NO_SOCKET
from gred.wire.drop import DropReason
from gred.wire.icmp import Quote

if TYPE_CHECKING:
    import socket

    from gred.dataplane.forwarder import DataPlane
    from gred.dataplane.groups import Membership

NEWS_PER_SECOND = 0.1  # packets too big for the kernel, told to control
ASKS_PER_SECOND = 1.0  # what the kernel would send


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
        self.claims = Allowance(CLAIMS_PER_SECOND, 1.0)
        self._asks = Allowance(ASKS_PER_SECOND, 1.0)
        self._kernel_mtu: tuple[IPAddress | None, int] = None, 0
        self.way = bytearray(ctypes.sizeof(Way))
        self.last_error = LastError()
        self._plane = plane
        self.whole: socket.socket
        """What sends datagrams with Don't Fragment."""
        self._packet: socket.socket | None
        self.no_packet_socket: str
        """Why nothing is sent through a packet socket; empty when it is."""
        try:
            self._choose_senders()
            self._point()
            self.peers = self._make_peers()
        except BaseException:
            plane.follow_remotes(self, None, comes=False)
            plane.leave_senders(parameters.family, self.senders)
            raise

    def update(self, parameters: TunnelParameters) -> None:
        """Change the tunnel while it runs; counters and sequence state stay.

        Raises ValueError when the underlay's address family would change, and OSError when the
        kernel refuses a socket for the new parameters; then nothing has changed.
        """
        if parameters.family != self.parameters.family:
            raise ValueError("a tunnel keeps its underlay address family: remove and add it")
        senders = self._plane.take_senders(parameters)
        try:
            self._plane.change_membership(self, parameters.membership)
        except BaseException:
            self._plane.leave_senders(parameters.family, senders)
            raise
        self._plane.leave_senders(self.parameters.family, self.senders)
        before, self.parameters, self.senders = self.parameters, parameters, senders
        self._choose_senders()
        self._plane.configure(self)
        if replace(before, packet_socket=parameters.packet_socket) != parameters:
            self._point()
        if _peers(before) != _peers(parameters):
            self.peers = self._make_peers()

    def block(self, reason: DropReason | None) -> None:
        """Stop sending, counting DEAD_LOOP; ``None``: go on. Receiving goes on in any case."""
        self._plane.tunnels.set_flag(self.index, TunnelFlag.BLOCKED, to=reason is not None)

    def counters(self) -> Counters:
        """Return what this tunnel has counted since it was added."""
        return self._plane.tunnels.counters(self.index)

    def traffic(self) -> Traffic:
        """Return how much was sent and received so far."""
        record = self._plane.tunnels.record(self.index)
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

    def kernel_mtu(self, remote: IPAddress | None) -> int:
        """Return what the kernel would send to *remote* in one piece; 0: it does not say.

        Asked after a packet was refused for its size and no reason given, and seldom.
        """
        if self._asks.take(self._plane.now()):
            self._kernel_mtu = remote, kernel_mtu(self.parameters, remote)
        known, mtu = self._kernel_mtu
        return mtu if known == remote else 0

    def weigh(self, quote: Quote) -> Proof:
        """Return what a quote that fits addresses, flags and key proves to this tunnel."""
        record = self._plane.tunnels.record(self.index)
        return weigh(quote, carried(self.device.mode, self.parameters), record.output_next)

    def note_error(self, now: float) -> None:
        """Note an ICMP error about a packet of this tunnel, whether or not it is told."""
        self.last_error = LastError(now, self.traffic())

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
        self._plane.follow_remotes(self, None, comes=False)
        destination = Destination.from_buffer(self.destination)
        made = PeerMap(
            parameters.peers,
            destination,
            learns=parameters.learn_peers,
            watch=lambda remote, comes: self._plane.follow_remotes(self, remote, comes=comes),
        )
        if self.peers is not None:
            made.keep_paths(self.peers)
        return made

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
