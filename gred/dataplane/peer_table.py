"""A tunnel's table of peers as it lies in memory: which destination an inner network is behind.

Looked up here, written by peers.py; the codec looks it up as it lies. No packet comes here.
"""

import ctypes

from gred.dataplane.hashes import hash_network
from gred.dataplane.layout import Peer, PeerHeader

FIELD = 16  # bytes of a network in a slot


def network_of(address: bytes, length: int) -> bytes:
    """Return the network of *length* bits that *address* is in, as a field of 16 bytes."""
    bits = 8 * len(address)
    value = int.from_bytes(address) >> (bits - length) << (bits - length)
    return value.to_bytes(len(address)).ljust(FIELD, b"\0")


class PeerTable:
    """A view of a table of peers."""

    def __init__(self, buffer: memoryview) -> None:
        """Raise ValueError when *buffer* is not one."""
        head = ctypes.sizeof(PeerHeader)
        room = (len(buffer) - head) // ctypes.sizeof(Peer)
        size = 0 if room < 1 else PeerHeader.from_buffer(buffer).mask + 1
        if not 0 < size <= room or size & (size - 1):
            raise ValueError("the table of peers is damaged")
        self.header = PeerHeader.from_buffer(buffer)
        self.slots = (Peer * size).from_buffer(buffer, head)

    def search(self, family: int, address: bytes) -> Peer | None:
        """Return the longest network that *address* is in; None: there is none."""
        lengths = self.header.lengths[0 if family == 4 else 1]
        for length in range(8 * len(address), -1, -1):
            if lengths[length // 64] >> length % 64 & 1:
                found = self._probe(family, length, network_of(address, length))
                if found is not None:
                    return found
        return None

    def _probe(self, family: int, length: int, network: bytes) -> Peer | None:
        mask = self.header.mask
        slot = hash_network(self.header.seed, family, length, network)
        for step in range(mask + 1):
            peer: Peer = self.slots[slot + step & mask]
            if not peer.state:
                return None
            if (peer.family, peer.prefix_length) == (family, length) and (
                bytes(peer.network) == network
            ):
                return peer
        return None
