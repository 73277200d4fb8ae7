"""Ethernet frames (IEEE 802.3, 802.1Q), as far as a tunnel looks into them. Values only."""

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

HEADER = 14  # destination, source, EtherType
TYPE = 12  # offset of the EtherType

ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
VLAN_TAGS = (0x8100, 0x88A8)  # IEEE 802.1Q customer and service tag
TAG_LENGTH = 4


def payload(frame: "ReadableBuffer") -> tuple[int, int]:
    """Return (EtherType, offset of the payload), behind at most two VLAN tags.

    The frame is at least 14 bytes long. A tag that is cut off is returned as the EtherType.
    """
    view = memoryview(frame).cast("B")
    offset = HEADER
    (ethertype,) = struct.unpack_from("!H", view, TYPE)
    while ethertype in VLAN_TAGS and offset < HEADER + 2 * TAG_LENGTH:
        if len(view) - offset < TAG_LENGTH:
            break
        (ethertype,) = struct.unpack_from("!H", view, offset + 2)
        offset += TAG_LENGTH
    return ethertype, offset
