"""Tunnels with many remotes, in the pure-Python codec: which remote an inner address is behind.

Part of the twin of the C codec (peers.c). Nothing here drops a packet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gred.dataplane.layout import (
    NO_DESTINATION,
    Datagram,
    Destination,
    Frame,
    PeerState,
    Received,
    TunnelFlag,
    TunnelRecord,
    TxState,
)
from gred.dataplane.peer_table import PeerTable
from gred.dataplane.pure_flags import has
from gred.wire.ip import IPV4_HEADER, IPV6_HEADER

if TYPE_CHECKING:
    import ctypes

WIDTH = {4: 4, 6: 16}  # bytes of an address, by IP version


def address_in(packet: memoryview, v4: int, v6: int) -> tuple[int, bytes] | None:
    """Return IP version and the address at *v4* or *v6*; None when the packet is too short."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_HEADER:
        return 4, bytes(packet[v4 : v4 + WIDTH[4]])
    if version == 6 and len(packet) >= IPV6_HEADER:
        return 6, bytes(packet[v6 : v6 + WIDTH[6]])
    return None


def copies_of(destinations: "ctypes.Array[Destination]", number: int) -> int:
    """Return how many destinations *number* stands for, itself not counted; 0: for itself alone."""
    if number >= len(destinations):
        return 0
    copies = int(destinations[number].copies)
    return copies if copies < len(destinations) - number else 0


def follow_path(frame: Frame, destinations: "ctypes.Array[Destination]") -> None:
    """Let *frame* obey what the path to its destination carries."""
    frame.path_mtu = frame.fragmentable = 0
    if frame.destination < len(destinations):
        row = destinations[frame.destination]
        frame.path_mtu = min(row.path_mtu, 0xFFFF)
        frame.fragmentable = row.fragmentable != 0


def route_frames(
    view: memoryview,
    frames: Sequence[Frame],
    limit: int,
    peers: PeerTable,
    destinations: "ctypes.Array[Destination]",
) -> int:
    """Set the destinations of *frames*; see _codec.pyi."""
    datagrams = 0
    for index, frame in enumerate(frames):
        found = address_in(view[frame.offset : frame.offset + frame.length], 16, 24)
        peer = None if found is None else peers.search(*found)
        frame.destination = NO_DESTINATION if peer is None else peer.destination
        follow_path(frame, destinations)
        datagrams += copies_of(destinations, frame.destination) or 1
        if index and datagrams > limit:
            return index
    return len(frames)


@dataclass(slots=True)
class Spread:
    """One call of spread_datagrams: how far it has come."""

    next: int
    copy: int

    def fill(
        self,
        datagrams: "ctypes.Array[Datagram]",
        count: int,
        first: int,
        destinations: "ctypes.Array[Destination]",
        state: TxState,
    ) -> int:
        """Fill *datagrams* from *first* on; return how many."""
        end = first
        while self.next < count and end < len(datagrams):
            datagrams[end] = datagrams[self.next]
            row = datagrams[end]
            end += 1
            copies = copies_of(destinations, row.destination)
            if copies:
                row.destination += 1 + self.copy
                # It must not stop the others': where the path carries less, it may be fragmented.
                place = destinations[row.destination]
                if place.fragmentable or 0 < place.path_mtu < row.inner_length:
                    row.dont_fragment = 0
            if self.copy:
                state.tx_packets += 1
                state.tx_bytes += row.inner_length
            self.copy += 1
            if self.copy >= copies:
                self.next, self.copy = self.next + 1, 0
        return end - first


def find_learners(entries: Sequence[Received], records: "ctypes.Array[TunnelRecord]") -> list[int]:
    """Return the tunnels that learn and have accepted one of *entries*, in order of appearance."""
    found: dict[int, None] = {}
    for entry in entries:
        if entry.verdict or entry.tunnel >= len(records):
            continue
        if has(records[entry.tunnel].flags, TunnelFlag.LEARNS):
            found[entry.tunnel] = None
    return list(found)


@dataclass(frozen=True, slots=True)
class Hearing:
    """What find_unlearned_source asks of each datagram. *now* and *hold* in seconds."""

    tunnel: int
    peers: PeerTable
    destinations: "ctypes.Array[Destination]"
    now: int
    hold: int

    def is_unlearned(self, view: memoryview, entry: Received, index: int) -> bool:
        """Judge one datagram; note that a peer was heard, or claimed in vain."""
        if entry.tunnel != self.tunnel or entry.verdict:
            return False
        start = entry.inner_offset
        found = address_in(view[start : start + entry.inner_length], 12, 8)
        if found is None:
            return False
        known = self.peers.search(*found)
        if known is None or known.destination >= len(self.destinations):
            return True
        if known.state != PeerState.LEARNED:
            return False
        if bytes(self.destinations[known.destination].remote) == bytes(entry.source):
            known.seen = self.now
        elif self.now - known.seen & 0xFFFFFFFF >= self.hold:
            return True
        else:
            self.peers.header.refused += 1
            self.peers.header.refused_last = index
        return False
