"""A tunnel's place in the data plane: its device, its record, where its datagrams go.

Nothing here moves a packet, and nothing here knows the plane: egress, ingress and the slow path do
their work with what they find here.
"""

import ctypes
import mmap
import time
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from gred.dataplane.batch import destination_table
from gred.dataplane.destinations import longest_sent
from gred.dataplane.evidence import Proof, carried, weigh
from gred.dataplane.kernel_mtu import kernel_mtu
from gred.dataplane.layout import SENT_INTERVAL, Destination, TunnelFlag
from gred.dataplane.peers import PeerMap
from gred.dataplane.punt import PUNTS_OF_TUNNEL, Allowance
from gred.dataplane.receivers import wire_address
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tun import TunDevice
from gred.dataplane.tunnels import Counters, IPAddress, TunnelParameters, TunnelTable
from gred.dataplane.underlay.contract import Guard, Membership, Underlay
from gred.wire.drop import DropReason
from gred.wire.icmp import Quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from collections.abc import Set as AbstractSet

    from gred.dataplane.quotes import SenderIndex

# For each tunnel. Answers as Linux limits ICMP for a host.
ANSWERS_PER_SECOND = 1000.0
ANSWERS_AT_ONCE = 100.0
INJECTED_PER_SECOND = 100.0
INJECTED_AT_ONCE = 100.0
CLAIMS_PER_SECOND = 0.1  # who claims to be where another was heard, told to control
NEWS_PER_SECOND = 0.1  # packets too big for the kernel, told to control
ASKS_PER_SECOND = 1.0  # what the kernel would send


class Attachment:
    """A tunnel's place in the data plane: its device, its record, its destination.

    *underlay* gives senders and groups, *tunnels* has the record *index*, *quotes* learns what is
    sent from here and where to. *changed* is called after parameters have, with those before.
    Raises OSError as ``DataPlane.add_tunnel``, and has taken nothing then.
    """

    def __init__(
        self,
        device: TunDevice,
        parameters: TunnelParameters,
        index: int,
        underlay: Underlay,
        tunnels: TunnelTable,
        quotes: "SenderIndex[Attachment]",
        changed: "Callable[[Attachment, TunnelParameters], None]",
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
        self.punts = Allowance(*PUNTS_OF_TUNNEL)
        self.awaited: AbstractSet[bytes] = frozenset()
        """What makes a packet go upwards whatever the allowance: see punt.Punting."""
        self.injections = Allowance(INJECTED_PER_SECOND, INJECTED_AT_ONCE)
        self.punted = 0
        """Packets handed upwards instead of being dropped."""
        self.injected = 0
        """Packets of our own that were sent."""
        self._kernel_mtu: tuple[IPAddress | None, int] = None, 0
        self.last_error = LastError()
        self._underlay = underlay
        self._tunnels = tunnels
        self._quotes = quotes
        self._changed = changed
        self._membership: Membership | None = None
        self._guard: Guard | None = None
        self.sender = underlay.take_sender(parameters.send_options, no_bypass=parameters.no_bypass)
        try:
            self._point()
            self.peers = self._make_peers()
            self._change_guard(parameters.guard)
            self._change_membership(parameters.membership)
            quotes.put(self)
        except BaseException:
            self.detach()
            raise

    def update(self, parameters: TunnelParameters) -> None:
        """Change the tunnel while it runs; counters and sequence state stay.

        Raises ValueError when the underlay would be another, and OSError when the
        kernel refuses a socket for the new parameters; then nothing has changed.
        """
        before = self.parameters
        if (parameters.family, parameters.transport) != (before.family, before.transport):
            raise ValueError("a tunnel keeps address family and transport: remove and add it")
        sender = self._underlay.take_sender(parameters.send_options, no_bypass=parameters.no_bypass)
        guarded = self._guard
        try:
            self._change_guard(parameters.guard)
            try:
                self._change_membership(parameters.membership)
            except BaseException:
                self._change_guard(guarded)
                raise
        except BaseException:
            sender.close()
            raise
        self.sender.close()
        self.parameters, self.sender = parameters, sender
        self._tunnels.configure(self.index, parameters)
        self._quotes.put(self)
        self._changed(self, before)
        self._point()
        if _peers(before) != _peers(parameters):
            self.peers = self._make_peers()

    def detach(self) -> None:
        """Give back what was taken of the underlay. To be called once, when nothing moves."""
        self._quotes.remove(self)
        self.sender.close()
        self._change_membership(None)
        self._change_guard(None)

    def block(self, reason: DropReason | None) -> None:
        """Stop sending, counting DEAD_LOOP; ``None``: go on. Receiving goes on in any case."""
        self._tunnels.set_flag(self.index, TunnelFlag.BLOCKED, to=reason is not None)

    def counters(self) -> Counters:
        """Return what this tunnel has counted since it was added."""
        counted = self._tunnels.counters(self.index)
        return replace(counted, tx_injected=self.injected, rx_punted=self.punted)

    def count_punted(self, reason: DropReason) -> None:
        """Count a packet as handed upwards, and no more as dropped for *reason*."""
        self.punted += 1
        self._tunnels.count_drop(self.index, "rx", reason, -1)

    def traffic(self) -> Traffic:
        """Return how much was sent and received so far."""
        return self._tunnels.traffic(self.index)

    def limit_path(self, remote: IPAddress, path_mtu: int | None, *, fragmentable: bool) -> None:
        """Let packets to *remote*, one of many, obey its path.

        *path_mtu*: the largest inner packet that it carries, in bytes; None: as to all others.
        *fragmentable*: outer packets go there without Don't Fragment.
        """
        if self.peers is not None:
            self.peers.limit(remote.packed, path_mtu, fragmentable=fragmentable)

    def remotes(self) -> list[bytes]:
        """Return its many remotes (packed), each once; none where it has but one."""
        return [] if self.peers is None else self.peers.remotes()

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
        carries = carried(self.device.mode, self.parameters)
        return weigh(quote, carries, self._tunnels.output_next(self.index))

    def longest_sent(self, remote: bytes) -> int:
        """Return the longest outer packet to *remote* (packed) that left lately; 0: none.

        Of those that routers do not fragment, in bytes.
        """
        # The clock that datagrams are sent by: the loop's stands still within a round.
        interval = int(time.monotonic()) // SENT_INTERVAL
        if self.peers is not None:
            longest = self.peers.longest_sent(remote, interval)
        elif self.parameters.remote is not None and self.parameters.remote.packed == remote:
            longest = longest_sent(self.destination, 0, interval)
        else:
            longest = 0
        return longest and longest + self.sender.overhead

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
            self._underlay.join(wanted)
        if self._membership is not None:
            self._underlay.leave(self._membership)
        self._membership = wanted

    def _change_guard(self, wanted: Guard | None) -> None:
        """Guard another remote, or none. Raises OSError; then nothing has changed."""
        if wanted == self._guard:
            return
        if wanted is not None:
            self._underlay.guard(wanted)
        if self._guard is not None:
            self._underlay.unguard(self._guard)
        self._guard = wanted

    def _point(self) -> None:
        destination = Destination.from_buffer(self.destination)
        before = bytes(destination)
        destination.family = self.parameters.family
        destination.interface = self.parameters.interface
        destination.port = self.parameters.destination_port
        destination.local[:] = wire_address(self.parameters.local)
        if bytes(destination.remote) != wire_address(self.parameters.remote):
            destination.remote[:] = wire_address(self.parameters.remote)
            destination.sent_interval = destination.sent_longest = destination.sent_before = 0
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
            if parameters.learn_peers:
                made.keep_learned(self.peers)
        return made

    def learned_peers(self) -> "Iterator[tuple[IPAddress, IPAddress, int]]":
        """Yield what was learned: inner address, its remote, the second that was heard."""
        if self.peers is not None:
            for inner, outer, seen in self.peers.learned_peers():
                yield ip_address(inner), ip_address(outer), seen

    def learn(self, inner: IPAddress, remote: IPAddress, second: int, /) -> None:
        """Learn as ``learned_peers`` tells, where it learns at all."""
        if self.peers is not None and self.parameters.learn_peers:
            self.peers.learn(inner.packed, remote.packed, second)

    def sequence(self) -> tuple[int, list[int]]:
        """Return the next sequence number to send, and what is known of those received."""
        return self._tunnels.sequence(self.index)

    def resume(self, sequence: tuple[int, list[int] | None], /) -> None:
        """Go on with that of another process; None: nothing is known of those received."""
        self._tunnels.resume(self.index, sequence)

    def _follow_remote(self, remote: bytes, comes: bool, /) -> None:
        """Let what is sent to *remote*, one of many, be known as this tunnel's, or no longer."""
        if comes:
            self._quotes.add_remote(self, remote)
        else:
            self._quotes.remove_remote(self, remote)

    @property
    def no_packet_socket(self) -> str:
        """Why nothing is sent through a packet socket; empty when it is."""
        return self.sender.no_bypass

    @property
    def destinations(self) -> mmap.mmap:
        """Where this tunnel's datagrams go: one place, or one for each peer."""
        return self.destination if self.peers is None else self.peers.destinations


def _peers(parameters: TunnelParameters) -> object:
    """Return what the map of many remotes is made of."""
    return parameters.has_many_remotes, parameters.peers, parameters.learn_peers
