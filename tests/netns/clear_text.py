"""What a wire held that nobody protected: counts packets of protocol 47 in a capture."""

import struct
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from pathlib import Path

GRE, ESP = 47, 50


def count(path: Path, protocol: int, sources: Collection[str] = ()) -> int:
    """Return how many Ethernet frames in a pcap *path* carry *protocol* in IPv4 or IPv6.

    *sources*: only those from there, none: all. A capture shows what a host decrypts in tunnel mode
    as if it had come by the wire; what a host itself sends is on the wire.
    """
    wanted = {ip_address(source).packed for source in sources}
    return sum(
        found == protocol and (not wanted or source in wanted) for found, source in _packets(path)
    )


def _packets(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield IP protocol and source of each frame; those that are no IP are left out."""
    data, at = path.read_bytes(), 24
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("=I", data, at + 8)
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        if frame[12:14] == b"\x08\x00":
            yield frame[23], frame[26:30]
        elif frame[12:14] == b"\x86\xdd":
            yield frame[20], frame[22:38]
