"""The map of a tunnel with many remotes: inner network -> outer address, or several.

What ``ip neigh`` and ``ip route`` are to a kernel tunnel without a remote. Configured entries stay.
Learned ones (one inner address each) never overrule them, keep to their remote while it is heard,
and make room for newer ones. To learn costs the same however many there are. Nothing here moves a
packet.
"""

import ctypes
import mmap
import os
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from gred.dataplane.destinations import Destinations
from gred.dataplane.hashes import hash_network
from gred.dataplane.layout import Destination, Peer, PeerHeader, PeerState
from gred.dataplane.open_table import OpenTable
from gred.dataplane.peer_table import FIELD, PeerTable

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

LEARNED_LIMIT = 4096  # of one tunnel
REMOTE_LIMIT = 1024  # of one remote
HOLD = 30  # seconds that a remote must be silent before another may take an address from it

_LOOKS = 16  # entries that are looked at for a silent one, where room is needed
_BROADCAST = IPv4Address("255.255.255.255")
_SLOT = struct.Struct("=4B3I16s")  # struct peer
_NETWORK = Peer.network.offset


class PeerMap:
    """Networks behind remotes, as the codec reads them. *template*: local, family, device.

    *watch* is called with each remote (packed) that comes, and True, or goes, and False.

    A network that several remotes have is behind a group of them: each gets what goes there.
    """

    def __init__(
        self,
        configured: Sequence[tuple[IPNetwork, IPAddress]],
        template: Destination,
        *,
        learns: bool = False,
        watch: Callable[[bytes, bool], None] = lambda _remote, _comes: None,
    ) -> None:
        remotes: dict[IPNetwork, list[bytes]] = {}
        for network, remote in configured:
            remotes.setdefault(network, []).append(remote.packed)
        self.replicates = any(len(several) > 1 for several in remotes.values())
        """Whether there is a group."""
        # Inner -> outer, packed. The oldest first, but for those that were found to be heard.
        self._learned: OrderedDict[bytes, bytes] = OrderedDict()
        self._behind: dict[bytes, OrderedDict[bytes, bytes]] = {}  # the same, by remote
        self._lengths: Counter[tuple[int, int]] = Counter()
        self._seed = int.from_bytes(os.urandom(4))
        self._destinations = Destinations(template, watch)
        room = len(remotes) + (LEARNED_LIMIT if learns else 0)
        self._table = OpenTable(PeerHeader, Peer, key=_key, hashed=self._hash, room=room)
        self._header.seed = self._seed
        for network, several in remotes.items():
            group = len(several) > 1
            row = self._destinations.take_group(several) if group else self._take(several[0])
            address, length = network.network_address.packed, network.prefixlen
            self._put(_slot(PeerState.CONFIGURED, address, length, row))

    @property
    def peers(self) -> mmap.mmap:
        """The table that the codec looks inner addresses up in."""
        return self._table.memory

    @property
    def destinations(self) -> mmap.mmap:
        """The rows that it finds there."""
        return self._destinations.memory

    @property
    def count(self) -> int:
        """How many networks and addresses are known."""
        return len(self._table)

    @property
    def refused(self) -> tuple[int, int]:
        """How many claims on learned peers were refused; index of the last datagram that did."""
        header = self._header
        return header.refused, header.refused_last

    def move(self, template: Destination) -> None:
        """Let outer packets leave from elsewhere. What was learned stays."""
        self._destinations.move(template)

    def limit(self, remote: bytes, path_mtu: int | None, *, fragmentable: bool = False) -> None:
        """Let packets to *remote* obey its path: see ``Destinations.limit``."""
        self._destinations.limit(remote, path_mtu, fragmentable=fragmentable)

    def keep_paths(self, before: "PeerMap") -> None:
        """Let packets obey all that the map *before* was told of paths."""
        self._destinations.keep_paths(before._destinations)  # noqa: SLF001 - its own kind

    def keep_learned(self, before: "PeerMap") -> None:
        """Know what the map *before* had learned, where that is not configured now."""
        for inner, outer, seen in before.learned_peers():
            self.learn(inner, outer, seen)

    def learned_peers(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield what was learned: inner address, its remote (packed), when that was heard last.

        Seconds on the clock that ``learn`` is called by. What changes meanwhile may be missing.
        """
        for inner, outer in list(self._learned.items()):
            slot = self._table.get(_slot(PeerState.LEARNED, inner, 8 * len(inner), 0))
            if slot is not None:
                yield inner, outer, Peer.from_buffer_copy(slot).seen

    def row(self, remote: bytes) -> int | None:
        """Return the row of the destination that is *remote* (packed); None: there is none."""
        return self._destinations.row(remote)

    def remotes(self) -> list[bytes]:
        """Return all remotes (packed), each once."""
        return self._destinations.remotes()

    def longest_sent(self, remote: bytes, interval: int) -> int:
        """Return the longest that was sent to *remote* lately: see ``Destinations``."""
        return self._destinations.longest_sent(remote, interval)

    def learned(self, inner: bytes) -> bytes | None:
        """Return the remote that the address *inner* is behind, if that was learned (packed)."""
        return self._learned.get(inner)

    def learn(self, inner: bytes, outer: bytes, now: int) -> bool:
        """Remember that the address *inner* is behind the remote *outer* (packed addresses).

        Return whether that is news. What is configured stands, and so does what was learned of a
        remote that was heard within HOLD seconds of *now*.
        """
        known = PeerTable(memoryview(self.peers)).search(6 if len(inner) > 4 else 4, inner)
        before = self._learned.get(inner)
        if known is not None and (before is None or before == outer or now - known.seen < HOLD):
            return False
        if not _is_learnable(inner):
            return False
        if before is not None:
            self._forget(inner)
        if not self._make_room(outer, now):
            return False
        self._learned[inner] = outer
        self._behind.setdefault(outer, OrderedDict())[inner] = outer
        self._put(_slot(PeerState.LEARNED, inner, 8 * len(inner), self._take(outer), now))
        return True

    def _make_room(self, outer: bytes, now: int) -> bool:
        """Make room for one more behind *outer*; return whether there is.

        Of its own entries the oldest goes, of others' only one that is silent: who invents sources
        drives nobody out.
        """
        own = self._behind.get(outer, OrderedDict())
        if len(own) >= REMOTE_LIMIT:
            self._forget(self._silent(own, now) or next(iter(own)))
        if len(self._learned) < LEARNED_LIMIT:
            return True
        silent = self._silent(self._learned, now)
        if silent is not None:
            self._forget(silent)
        return silent is not None

    def _silent(self, entries: OrderedDict[bytes, bytes], now: int) -> bytes | None:
        """Return an old one of *entries* whose remote is silent; put those that are not behind."""
        for _ in range(_LOOKS):
            inner = next(iter(entries))
            slot = self._table.get(_slot(PeerState.LEARNED, inner, 8 * len(inner), 0))
            if slot is None or now - Peer.from_buffer_copy(slot).seen >= HOLD:
                return inner
            entries.move_to_end(inner)
        return None

    def _forget(self, inner: bytes) -> None:
        outer = self._learned.pop(inner)
        del self._behind[outer][inner]
        if not self._behind[outer]:
            del self._behind[outer]
        self._destinations.leave(outer)
        self._count(inner, 8 * len(inner), -1)
        self._table.remove(_slot(PeerState.LEARNED, inner, 8 * len(inner), 0))

    def _take(self, remote: bytes) -> int:
        return self._destinations.take(remote)

    def _put(self, slot: bytes) -> None:
        self._table.put(slot)
        peer = Peer.from_buffer_copy(slot)
        self._count(b"\0" * (4 if peer.family == 4 else 16), peer.prefix_length, 1)

    def _count(self, address: bytes, length: int, step: int) -> None:
        """Note how many networks of *length* bits there are: only those are looked for."""
        index = 0 if len(address) == 4 else 1
        self._lengths[index, length] += step
        words: Any = self._header.lengths[index]
        bit = 1 << length % 64
        if self._lengths[index, length]:
            words[length // 64] |= bit
        else:
            words[length // 64] &= ~bit

    @property
    def _header(self) -> PeerHeader:
        return PeerHeader.from_buffer(self.peers)

    def _hash(self, slot: bytes) -> int:
        return hash_network(self._seed, slot[1], slot[2], slot[_NETWORK:])


def _slot(state: PeerState, address: bytes, length: int, row: int, seen: int = 0) -> bytes:
    family = 4 if len(address) == 4 else 6
    return _SLOT.pack(state, family, length, 0, row, seen, 0, address.ljust(FIELD, b"\0"))


def _key(slot: bytes) -> bytes:
    return slot[1:3] + slot[_NETWORK:]


def _is_learnable(inner: bytes) -> bool:
    address = ip_address(inner)
    return not (address.is_multicast or address.is_unspecified or address == _BROADCAST)


assert _SLOT.size == ctypes.sizeof(Peer)  # noqa: S101 - the twin of the structure
