"""The map of a tunnel with many remotes: inner network -> outer address.

What ``ip neigh`` and ``ip route`` are to a kernel tunnel without a remote. Configured entries stay;
learned ones (one inner address each) make room for newer ones. Nothing here moves a packet.
"""

import ctypes
import mmap
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from gred.dataplane.batch import IngressBatch, table
from gred.dataplane.layout import Destination, Peer, Received

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

LEARNED_LIMIT = 256


class PeerMap:
    """Networks behind remotes, as the codec reads them. *template*: local, family, device."""

    def __init__(
        self, configured: Sequence[tuple[IPNetwork, IPAddress]], template: Destination
    ) -> None:
        self._configured = tuple(configured)
        self._learned: OrderedDict[IPNetwork, IPAddress] = OrderedDict()
        self._template = template
        self.peers = mmap.mmap(-1, 1)
        self.destinations = mmap.mmap(-1, 1)
        self.count = 0
        self._write()

    def learn(self, inner: bytes, outer: bytes) -> bool:
        """Remember that the address *inner* is behind the remote *outer* (packed addresses).

        What is configured stands: then, and when it was known, nothing changes; return False.
        """
        address, remote = ip_address(inner), ip_address(outer)
        network = ip_network(address)
        if address.is_multicast or self._learned.get(network) == remote:
            return False
        if any(address in configured for configured, _ in self._configured):
            return False
        self._learned[network] = remote
        self._learned.move_to_end(network)
        if len(self._learned) > LEARNED_LIMIT:
            self._learned.popitem(last=False)
        self._write()
        return True

    def _write(self) -> None:
        known = dict(self._learned) | dict(self._configured)
        order = sorted(known, key=lambda network: -network.prefixlen)
        remotes = list(dict.fromkeys(known.values()))
        self.peers = table(Peer, len(order) or 1)
        self.destinations = table(Destination, len(remotes) or 1)
        for index, remote in enumerate(remotes):
            row = Destination.from_buffer(self.destinations, index * ctypes.sizeof(Destination))
            ctypes.memmove(ctypes.addressof(row), ctypes.addressof(self._template), len(bytes(row)))
            row.remote[:] = remote.packed.ljust(16, b"\0")
        for index, network in enumerate(order):
            peer = Peer.from_buffer(self.peers, index * ctypes.sizeof(Peer))
            peer.family, peer.prefix_length = network.version, network.prefixlen
            peer.destination = remotes.index(known[network])
            peer.network[:] = network.network_address.packed.ljust(16, b"\0")
        self.count = len(order)


@dataclass(frozen=True, slots=True)
class PeerLearned:
    """A tunnel with many remotes has learned that *inner* is behind *remote*."""

    tunnel: str
    inner: IPAddress
    remote: IPAddress


def learn_from(
    batch: IngressBatch, entry: Received, peers: PeerMap
) -> tuple[IPAddress, IPAddress] | None:
    """Learn from one accepted datagram; return inner source and remote if that was news."""
    start = entry.inner_offset
    if batch.arena[start] >> 4 == 4:
        inner = bytes(batch.arena[start + 12 : start + 16])
    else:
        inner = bytes(batch.arena[start + 8 : start + 24])
    outer = bytes(entry.source)[: 16 if entry.family == 6 else 4]
    return (ip_address(inner), ip_address(outer)) if peers.learn(inner, outer) else None
