"""The I/O's contract: batched reads and writes on TUN devices and sockets. No GRE.

All descriptors are non-blocking. Buffers hold the structures of layout.py. Every function releases
the interpreter lock while it works and allocates nothing.
"""

from typing_extensions import Buffer

def read_frames(
    fd: int, arena: Buffer, prefix: int, frames: Buffer, first: int, limit: int, /
) -> int:
    """Read frames from a TUN into the places that frames[first:limit] name; return how many.

    An entry's offset is where its frame begins: at least FRAME_HEADROOM bytes behind the start of
    the arena and 65535 before its end. *prefix*: bytes the device puts before each frame, which
    come to lie before the offset. All other fields are set anew. Stops at EAGAIN; zero means
    nothing was ready. Raises OSError when the first read fails otherwise (a later failure ends the
    batch).
    """

def send_datagrams(
    df_fd: int,
    no_df_fd: int,
    arena: Buffer,
    datagrams: Buffer,
    first: int,
    count: int,
    destinations: Buffer,
    /,
) -> tuple[int, int]:
    """Send datagrams[first:count]; return (how many were taken, errno that stopped it or 0).

    Those with dont_fragment go through *df_fd*, others through *no_df_fd* (both must be of the
    destination's family). The datagram at first + taken is the one that errno is about.

    Each Destination keeps the longest that was sent there in this interval of SENT_INTERVAL
    seconds and in the one before: of those with dont_fragment, and of all over IPv6, for these may
    meet a link that they are too long for.
    """

def send_bypassing(
    probe_fd: int,
    no_df_fd: int,
    packet_fd: int,
    paths: Buffer,
    arena: Buffer,
    datagrams: Buffer,
    first: int,
    count: int,
    destinations: Buffer,
    /,
) -> tuple[int, int]:
    """Send as send_datagrams does, but past the host's routing where a probe packet went ahead.

    Of at least four datagrams in a row with dont_fragment that leave alike the first goes through
    *probe_fd* as a probe packet; the kernel shows how it left (the socket has SO_TIMESTAMPING with
    OPT_CMSG, pktinfo and RECVERR), and where that is as it was to be the others follow through
    *packet_fd*, a packet socket of type SOCK_DGRAM, for up to a millisecond, if they are no longer
    than the probe packet and have its flow label. *paths*: an array of PathEntry, kept by the
    caller from call to call for the same destinations; labels share them by the
    remainder. The pure-Python I/O has no such function.
    """

def send_udp(
    sockets: Buffer,
    plain_until: Buffer,
    arena: Buffer,
    datagrams: Buffer,
    first: int,
    count: int,
    destinations: Buffer,
    /,
) -> tuple[int, int]:
    """Send as send_datagrams does, in UDP.

    *sockets*: descriptors, 32 bits each; a datagram's flow chooses one. They have Don't Fragment;
    for datagrams without it that is changed for a moment. Datagrams that leave alike go to the
    kernel as one, which it cuts (UDP_SEGMENT). Where it refuses that they go one by one, for some
    seconds: *plain_until*, of 64 bits, says until when, in nanoseconds of the monotonic clock, and
    is kept by the caller from call to call.
    """

def receive_udp(
    fd: int,
    family: int,
    arena: Buffer,
    slots: int,
    stride: int,
    received: Buffer,
    limit: int,
    busy_poll: bool,
    /,
) -> tuple[int, int]:
    """Receive as receive_datagrams does, in UDP; the socket may have UDP_GRO.

    Datagrams that the kernel merged are taken apart: each has an entry, and before all but the
    first of a slot lies another. At most *slots* are received, and fewer while 128 entries, which
    is what the kernel merges at the most, are not free for each.
    """

def receive_datagrams(
    fd: int,
    family: int,
    arena: Buffer,
    begin: int,
    stride: int,
    received: Buffer,
    limit: int,
    busy_poll: bool,
    /,
) -> tuple[int, int]:
    """Receive up to *limit* datagrams; slot i starts at begin + i * stride + FRAME_HEADROOM.

    Each entry has all that is known of the outer header; its verdict is TRUNCATED where that is
    malformed or the slot was too small. Return (how many, errno that stopped it or 0). EAGAIN is
    reported as 0. With *busy_poll* it may be believed up to some hundred microseconds later, in the
    middle of a burst, so that the burst becomes one batch: for who has nothing else to do. An error
    that was pending on the socket (an ICMP error about some packet sent) does not hide what is
    readable.
    """

def write_frames(
    arena: Buffer, headers: Buffer, tun_writes: Buffer, pieces: Buffer, count: int, /
) -> int:
    """Write tun_writes[:count], each to its own fd; return how many failed (error holds errno).

    Pieces that are headers lie in *headers*, all others in *arena*.
    """
