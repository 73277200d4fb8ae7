"""Which inner sources tunnels take, as the codec reads it: ranges in one sorted table.

A row is two keys, the first and the last of a range; a key is a tunnel, an IP version and an
address, so that one binary search serves all tunnels. Nothing here sees a packet.
"""

import bisect
import struct
from collections.abc import Iterator, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
)

from gred.dataplane.layout import SOURCE_KEY

_KEY = struct.Struct("!II16s")  # record, IP version, address; wire order, for memcmp(3)

IPNetwork = IPv4Network | IPv6Network


class SourceTable:
    """The ranges of all tunnels that take some sources and no others."""

    def __init__(self) -> None:
        self._rows = list[bytes]()
        self._memory: bytearray | None = bytearray()

    @property
    def memory(self) -> bytearray:
        """The table that the codec reads."""
        if self._memory is None:
            self._memory = bytearray().join(self._rows)
        return self._memory

    def put(self, index: int, networks: Sequence[IPNetwork]) -> None:
        """Let the tunnel of record *index* take what comes from *networks*."""
        if self.remove(index) or networks:
            for row in _rows(index, networks):
                bisect.insort(self._rows, row)
            self._memory = None

    def remove(self, index: int) -> bool:
        """Forget the tunnel of record *index*; return whether anything was known of it."""
        first = bisect.bisect_left(self._rows, _KEY.pack(index, 0, b""))
        last = bisect.bisect_left(self._rows, _KEY.pack(index + 1, 0, b""))
        if first == last:
            return False
        del self._rows[first:last]
        self._memory = None
        return True


def _rows(index: int, networks: Sequence[IPNetwork]) -> Iterator[bytes]:
    four = collapse_addresses(one for one in networks if isinstance(one, IPv4Network))
    six = collapse_addresses(one for one in networks if isinstance(one, IPv6Network))
    for network in four:
        yield key(index, network.network_address) + key(index, network.broadcast_address)
    for network6 in six:
        yield key(index, network6.network_address) + key(index, network6.broadcast_address)


def key(index: int, address: IPv4Address | IPv6Address) -> bytes:
    """Return the key of *address* in the tunnel of record *index*."""
    return _KEY.pack(index, address.version, address.packed)


assert _KEY.size == SOURCE_KEY  # noqa: S101 - the twin of the structure
