"""What stands before a frame on a TUN device. Values only; no packet passes through this file."""

import struct

from gred.dataplane.layout import TunnelFlag, TunnelRecord
from gred.wire.gre import PROTOCOL_IPV4, PROTOCOL_IPV6

_PROTOCOL = {4: PROTOCOL_IPV4, 6: PROTOCOL_IPV6}


def frame_prefix(record: TunnelRecord, version: int) -> bytes:
    """Return what precedes a frame of this IP version (0: not IP) that asks nothing of the kernel.

    Nothing, a vnet header of zeros, or flags and protocol type (struct tun_pi).
    """
    if not record.flags & int(TunnelFlag.PACKET_INFO):
        return bytes(record.vnet_header)
    return struct.pack("!HH", 0, _PROTOCOL.get(version, record.protocol))
