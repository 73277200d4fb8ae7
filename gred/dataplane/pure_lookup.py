"""The receiver's look-up of the pure-Python codec: outer addresses and key to a tunnel.

Part of the twin of the C codec. Reads the table of layout.py; nothing here writes to it.
"""

import ctypes
from dataclasses import dataclass

from gred.dataplane.hashes import hash_entry
from gred.dataplane.layout import Kind, LookupEntry, LookupHeader, Stage

ANY = bytes(16)


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a packet is looked up by. Addresses are fields of 16 bytes, IPv4 in the first four."""

    family: int
    transport: int
    local: bytes  # outer destination
    remote: bytes  # outer source


class LookupTable:
    """A view of a look-up table."""

    def __init__(self, buffer: memoryview, tunnels: int) -> None:
        """Raise ValueError when *buffer* is not one. *tunnels*: how many records there are."""
        head = ctypes.sizeof(LookupHeader)
        room = (len(buffer) - head) // ctypes.sizeof(LookupEntry)
        if room < 1:
            raise ValueError("decapsulate: a table is smaller than its count")
        self.header = LookupHeader.from_buffer(buffer)
        size = self.header.mask + 1
        if size & self.header.mask or size > room:
            raise ValueError("decapsulate: the look-up table is damaged")
        self.entries = (LookupEntry * size).from_buffer(buffer, head)
        self.tunnels = tunnels

    def find(self, addresses: Addresses, kind: Kind, key: int) -> int:
        """Return the tunnel of the first precedence stage that has one; 0 when none has."""
        for stage in Stage:
            if not self.header.stages & 1 << stage:
                continue
            local = addresses.local if stage in (Stage.BOTH, Stage.LOCAL) else ANY
            remote = addresses.remote if stage in (Stage.BOTH, Stage.REMOTE) else ANY
            tunnel = self._probe(addresses, local, remote, key, kind)
            if 0 < tunnel < self.tunnels:
                return tunnel
        return 0

    def _probe(self, addresses: Addresses, local: bytes, remote: bytes, key: int, kind: int) -> int:
        mask = self.header.mask
        wanted = local, remote, key, addresses.family, kind, addresses.transport
        slot = hash_entry(*wanted) & mask
        for _ in range(mask + 1):
            entry = self.entries[slot]
            if entry.tunnel == 0:
                return 0
            ends = bytes(entry.local), bytes(entry.remote)
            if (*ends, entry.key, entry.family, entry.kind, entry.transport) == wanted:
                return int(entry.tunnel)
            slot = (slot + 1) & mask
        return 0
