"""struct virtio_net_hdr, what a TUN device puts before a frame (linux/virtio_net.h). Values only.

Native byte order: that is what a TUN device uses unless told otherwise.
"""

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_FORMAT = struct.Struct("=BBHHHH")
LENGTH = _FORMAT.size

NEEDS_CSUM = 1  # flags: the checksum field holds the sum of the pseudo-header only

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80  # or-ed to a TCP type: the first segment has CWR


@dataclass(frozen=True, slots=True)
class VnetHeader:
    """How a frame is to be finished: checksum, segmentation. Offsets are into the frame."""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0  # payload bytes of one segment
    csum_start: int = 0
    csum_offset: int = 0  # of the checksum field behind csum_start

    @classmethod
    def parse(cls, data: "ReadableBuffer") -> "VnetHeader":
        """Return the header at the start of *data*, which holds at least 10 bytes."""
        return cls(*_FORMAT.unpack_from(data))

    def pack(self) -> bytes:
        """Return the ten bytes."""
        return _FORMAT.pack(
            self.flags,
            self.gso_type,
            self.hdr_len,
            self.gso_size,
            self.csum_start,
            self.csum_offset,
        )
