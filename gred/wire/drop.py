"""Why a packet was discarded: one vocabulary for counters, logs, status and the C code.

Values only. The numbers are indexes into the counter arrays of a tunnel's states
(``dataplane/layout.py``, ``dataplane/native/layout.h``); a test holds the two lists together.
"""

from enum import IntEnum, unique


@unique
class DropReason(IntEnum):
    """The reason of one discarded packet. NONE is a packet that passed.

    The words extend those of ``ip -s tunnel show``: CsumErrs, OutOfSeq, DeadLoop, NoRoute, NoBufs.
    """

    NONE = 0
    TRUNCATED = 1  # shorter than its GRE or inner header says
    BAD_VERSION = 2  # GRE version is neither 0 (RFC 2784 §2.3.1) nor 1
    ROUTING = 3  # the routing bit of RFC 1701 is set
    RESERVED_BITS = 4  # bits 4 or 5 are set (RFC 2784 §2.3)
    UNKNOWN_PROTOCOL = 5  # a protocol type, or an inner version, that no tunnel carries
    NO_TUNNEL = 6  # no tunnel between these outer addresses
    KEY_MISMATCH = 7  # tunnels between these addresses exist, none with this key
    CSUM_ERR = 8  # the GRE checksum is wrong
    CSUM_MISSING = 9  # the tunnel requires a checksum, the packet has none
    CSUM_UNEXPECTED = 10  # the tunnel refuses checksums, the packet has one
    OUT_OF_SEQ = 11  # a duplicate, or older than what has been delivered (RFC 2890 §2.2)
    SEQ_MISSING = 12  # the tunnel requires sequence numbers, the packet has none
    BAD_INNER = 13  # the inner header contradicts the protocol type or the length
    ECN_ERR = 14  # congestion was marked outside a packet that cannot carry it (RFC 6040 §4.2)
    NO_REMOTE = 15  # the tunnel has no remote to send to
    DEAD_LOOP = 16  # the outer packet would enter its own tunnel
    TOO_BIG = 17  # larger than the path to the remote carries
    NO_ROUTE = 18  # no route to the remote
    NO_BUFS = 19  # a queue below is full: a tail drop
    DENIED = 20  # refused by the local firewall or by an IPsec policy
    DEVICE_DOWN = 21  # the tunnel interface is down
    OTHER = 22  # anything else; the log names the errno
    PPTP = 23  # GRE version 1 (RFC 2637): a PPTP data packet
    WCCP = 24  # protocol type 0x883E: redirected by WCCP
    MPLS = 25  # protocol type 0x8847 or 0x8848
    ERSPAN = 26  # protocol type 0x88BE or 0x22EB: mirrored traffic
    KEEPALIVE = 27  # protocol type 0: a keepalive of Cisco's kind, or the answer to one
    EOIP = 28  # GRE version 1 with protocol type 0x6400: Ethernet over IP of MikroTik
    RX_OVERRUN = 29  # the receive buffer was full: not read in time
    FOREIGN = 30  # no tunnel of ours: another receiver on this host takes it, or may
    SPOOFED = 31  # an inner source that AllowedSources= has not
