"""The I/O's contract: batched reads and writes on TUN devices and raw sockets. No GRE.

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
    fd: int,
    fragmenting_fd: int,
    packet_fd: int,
    way: Buffer,
    arena: Buffer,
    datagrams: Buffer,
    first: int,
    count: int,
    destinations: Buffer,
    /,
) -> tuple[int, int]:
    """Send datagrams[first:count]; return (how many were taken, errno that stopped it or 0).

    Those with dont_fragment go through *fd*, others through *fragmenting_fd* (both must be of the
    destination's family). The datagram at first + taken is the one that errno is about.

    *packet_fd*: a packet socket of type SOCK_DGRAM, or -1. Of at least four datagrams in a row that
    leave alike the first then goes through *fd* as a scout; the kernel shows how it left (the
    socket has SO_TIMESTAMPING with OPT_CMSG, pktinfo and RECVERR), and where that is as it was to
    be the others follow through *packet_fd*, for up to a millisecond, if they are no longer than
    the scout. *way*: a Way, kept by the caller from call to call for the same destinations.
    """

def receive_datagrams(
    fd: int,
    family: int,
    arena: Buffer,
    begin: int,
    stride: int,
    received: Buffer,
    limit: int,
    linger: bool,
    /,
) -> tuple[int, int]:
    """Receive up to *limit* datagrams; slot i starts at begin + i * stride + FRAME_HEADROOM.

    Return (how many, errno that stopped it or 0). EAGAIN is reported as 0. With *linger* it may be
    believed up to some hundred microseconds later, in the middle of a burst, so that the burst
    becomes one batch: for who has nothing else to do. An error that was pending on the socket (an
    ICMP error about some packet sent) does not hide what is readable.
    """

def write_frames(arena: Buffer, outgoing: Buffer, pieces: Buffer, count: int, /) -> int:
    """Write outgoing[:count], each to its own fd; return how many failed (error holds errno)."""
