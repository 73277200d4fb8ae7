"""Tunnels with many remotes, in the pure-Python codec: which remote an inner address is behind.

Part of the twin of the C codec (peers.c). Nothing here drops a packet.
"""

from typing import TYPE_CHECKING

from gred.dataplane.layout import NO_DESTINATION, Destination, Frame, Peer, Received
from gred.wire.ip import IPV4_HEADER, IPV6_HEADER

if TYPE_CHECKING:
    import ctypes
    from collections.abc import Sequence

WIDTH = {4: 4, 6: 16}  # bytes of an address, by IP version


def search(peers: "Sequence[Peer]", family: int, address: bytes) -> int:
    """Return the destination of the first peer whose network has *address*, or NO_DESTINATION."""
    bits = 8 * len(address)
    value = int.from_bytes(address)
    for peer in peers:
        if peer.family != family or peer.prefix_length > bits:
            continue
        network = int.from_bytes(bytes(peer.network)[: len(address)])
        if (network ^ value) >> (bits - peer.prefix_length) == 0:
            return int(peer.destination)
    return NO_DESTINATION


def address_in(packet: memoryview, v4: int, v6: int) -> tuple[int, bytes] | None:
    """Return IP version and the address at *v4* or *v6*; None when the packet is too short."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= IPV4_HEADER:
        return 4, bytes(packet[v4 : v4 + WIDTH[4]])
    if version == 6 and len(packet) >= IPV6_HEADER:
        return 6, bytes(packet[v6 : v6 + WIDTH[6]])
    return None


def route_frame(view: memoryview, frame: Frame, peers: "Sequence[Peer]") -> None:
    """Set the destination of one frame by its inner destination address."""
    found = address_in(view[frame.offset : frame.offset + frame.length], 16, 24)
    frame.destination = NO_DESTINATION if found is None else search(peers, *found)


def is_stranger(
    view: memoryview,
    entry: Received,
    peers: "Sequence[Peer]",
    destinations: "ctypes.Array[Destination]",
) -> bool:
    """Tell whether the inner source of an accepted datagram is not behind its outer source."""
    start = entry.inner_offset
    found = address_in(view[start : start + entry.inner_length], 12, 8)
    if found is None:
        return False
    known = search(peers, *found)
    return known == NO_DESTINATION or bytes(destinations[known].remote) != bytes(entry.source)
