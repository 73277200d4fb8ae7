"""The memory that the codec, the I/O and Python share: records and tables in plain buffers.

The twin of layout.h; a test compares every size and offset. Native byte order unless a field is
marked wire. Descriptions of the fields are in layout.h. Nothing here moves a packet.
"""

import ctypes
from enum import IntEnum, IntFlag

u8, u16, u32, u64, i32 = (
    ctypes.c_uint8,
    ctypes.c_uint16,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_int32,
)

DROP_COUNTERS = 32
FRAME_HEADROOM = 64
SOURCE_KEY = 24
NO_PIECE = 0xFFFFFFFF
SOCKET_TTL = 64
SOCKET_TOS = 0
PATHS = 16  # entries of a transmit path cache
NO_DESTINATION = 0xFFFFFFFF
PACKET_INFO_LENGTH = 4  # struct tun_pi: flags, EtherType
SENT_INTERVAL = 5  # seconds
VNET_HEADER = 10  # struct virtio_net_hdr, the size a TUN device starts with


class TunnelFlag(IntFlag):
    """Bits of TunnelRecord.flags."""

    OUTPUT_KEY = 1 << 0
    OUTPUT_CHECKSUM = 1 << 1
    OUTPUT_SEQUENCE = 1 << 2
    INPUT_KEY = 1 << 3
    INPUT_CHECKSUM_REQUIRED = 1 << 4
    INPUT_CHECKSUM_REFUSED = 1 << 5
    INPUT_SEQUENCE = 1 << 6
    TTL_INHERIT = 1 << 7
    TOS_INHERIT = 1 << 8
    DONT_FRAGMENT = 1 << 9
    IGNORE_DONT_FRAGMENT = 1 << 10
    BLOCKED = 1 << 11
    NO_REMOTE = 1 << 12
    ETHERNET = 1 << 13
    WRITE_TSO = 1 << 14
    WRITE_USO = 1 << 15
    CLAMP_MSS = 1 << 16
    PACKET_INFO = 1 << 17
    LEARNS = 1 << 18
    ECHOES = 1 << 19
    CHECKS_SOURCES = 1 << 20
    LABELS_FLOWS = 1 << 21


class Stage(IntEnum):
    """Precedence of the receiver's look-up: the first that matches wins."""

    BOTH = 0
    REMOTE = 1
    LOCAL = 2
    NEITHER = 3


class Transport(IntEnum):
    """What carries GRE: IP protocol 47, or UDP (RFC 8086)."""

    IP = 0
    UDP = 1


class Kind(IntEnum):
    """What a look-up entry stands for."""

    NO_KEY = 0
    KEY = 1
    SOME = 2
    FOREIGN_NO_KEY = 3
    FOREIGN_KEY = 4


class TunnelRecord(ctypes.Structure):
    """What a tunnel is told to be; read by every worker. Record 0 belongs to no tunnel."""

    _fields_ = (
        ("flags", u32),
        ("input_key", u32),
        ("output_key", u32),
        ("mtu", u32),
        ("path_mtu", u32),
        ("ttl", u8),
        ("tos", u8),
        ("protocol", u16),
        ("vnet_header", u8),
        ("family", u8),
        ("echo", u16),
        ("inner", u8 * 4),
        ("port", u16),
        ("reserved", u16),
        ("flow_label", u32),
        ("local", u8 * 16),
        ("remote", u8 * 16),
    )


class TxState(ctypes.Structure):
    """What a worker has sent of a tunnel."""

    _fields_ = (
        ("output_next", u32),
        ("reserved_a", u32),
        ("tx_packets", u64),
        ("tx_bytes", u64),
        ("tx_drops", u64 * DROP_COUNTERS),
        ("reserved_b", u64 * 5),
    )


class RxState(ctypes.Structure):
    """What a worker has received of a tunnel; row 0 counts what could not be attributed."""

    _fields_ = (
        ("input_next", u32),
        ("input_seen", u32),
        ("old_run", u32),
        ("old_next", u32),
        ("input_time", u32),
        ("input_mark", u32),
        ("mark_time", u32),
        ("input_passed", u32),
        ("life_time", u32),
        ("first_seen", u32),
        ("has_former", u32),
        ("former_next", u32),
        ("rx_packets", u64),
        ("rx_bytes", u64),
        ("rx_resyncs", u64),
        ("rx_lost", u64),
        ("rx_drops", u64 * DROP_COUNTERS),
        ("reserved", u64 * 6),
    )


class Descriptor(ctypes.Structure):
    """What a worker writes a tunnel's frames to; -1: nowhere."""

    _fields_ = (("fd", i32),)


class Frame(ctypes.Structure):
    """Egress: one frame read from the TUN."""

    _fields_ = (
        ("offset", u32),
        ("length", u32),
        ("done", u32),
        ("verdict", u32),
        ("destination", u32),
        ("flow", u32),
        ("path_mtu", u16),
        ("fragmentable", u16),
    )


class PeerHeader(ctypes.Structure):
    """Head of the table of a tunnel with many remotes."""

    _fields_ = (
        ("mask", u32),
        ("seed", u32),
        ("refused", u32),
        ("refused_last", u32),
        ("lengths", (u64 * 3) * 2),
    )


class PeerState(IntEnum):
    """What a slot of that table holds; zero is an empty one."""

    CONFIGURED = 1
    LEARNED = 2


class Peer(ctypes.Structure):
    """A slot of that table: which destination an inner network is behind."""

    _fields_ = (
        ("state", u8),
        ("family", u8),
        ("prefix_length", u8),
        ("reserved", u8),
        ("destination", u32),
        ("seen", u32),
        ("reserved_b", u32),
        ("network", u8 * 16),
    )


class Datagram(ctypes.Structure):
    """Egress: one outer packet without its delivery header, in at most two pieces."""

    _fields_ = (
        ("head_offset", u32),
        ("head_length", u32),
        ("body_offset", u32),
        ("body_length", u32),
        ("tos", u8),
        ("ttl", u8),
        ("dont_fragment", u8),
        ("reserved", u8),
        ("destination", u32),
        ("frame", u32),
        ("inner_length", u32),
        ("flow", u32),
        ("flow_label", u32),
    )


class Destination(ctypes.Structure):
    """Egress: where datagrams go."""

    _fields_ = (
        ("family", u32),
        ("interface", u32),
        ("local", u8 * 16),
        ("remote", u8 * 16),
        ("copies", u32),
        ("path_mtu", u32),
        ("fragmentable", u32),
        ("sent_interval", u32),
        ("sent_longest", u16),
        ("sent_before", u16),
        ("port", u16),
        ("reserved", u16),
    )


class PathEntry(ctypes.Structure):
    """Egress: how the kernel sent a probe packet, for others to follow."""

    _fields_ = (
        ("until", u64),
        ("probes", u64),
        ("negative", u64),
        ("followed", u64),
        ("destination", u32),
        ("size", u32),
        ("flow_label", u32),
        ("interface", i32),
        ("reserved", u32),
        ("tos", u8),
        ("ttl", u8),
        ("address_length", u8),
        ("header_length", u8),
        ("address", u8 * 8),
        ("header", u8 * 48),
    )


class Received(ctypes.Structure):
    """Ingress: one datagram from the underlay."""

    _fields_ = (
        ("offset", u32),
        ("length", u32),
        ("family", u8),
        ("transport", u8),
        ("outer_length", u8),
        ("tos", u8),
        ("ttl", u8),
        ("verdict", u8),
        ("protocol", u16),
        ("tunnel", u32),
        ("inner_offset", u32),
        ("inner_length", u32),
        ("key", u32),
        ("source", u8 * 16),
        ("destination", u8 * 16),
    )


class TunWrite(ctypes.Structure):
    """Ingress: one frame to write, as a chain of pieces."""

    _fields_ = (
        ("tunnel", u32),
        ("fd", i32),
        ("first_piece", u32),
        ("last_piece", u32),
        ("pieces", u32),
        ("length", u32),
        ("packets", u32),
        ("error", i32),
    )


class Piece(ctypes.Structure):
    """One stretch of memory of an frame to write."""

    _fields_ = (("offset", u32), ("length", u32), ("next", u32), ("is_header", u32))


class LookupHeader(ctypes.Structure):
    """Head of the look-up table."""

    _fields_ = (("mask", u32), ("stages", u32), ("reserved", u32 * 2))


class LookupEntry(ctypes.Structure):
    """One entry of the look-up table; tunnel 0 is an empty entry."""

    _fields_ = (
        ("tunnel", u32),
        ("key", u32),
        ("family", u8),
        ("kind", u8),
        ("transport", u8),
        ("reserved_a", u8),
        ("reserved_b", u32),
        ("local", u8 * 16),
        ("remote", u8 * 16),
    )


class SourceRange(ctypes.Structure):
    """Ingress: inner sources that a tunnel takes, from the first to the last."""

    _fields_ = (("first", u8 * SOURCE_KEY), ("last", u8 * SOURCE_KEY))
