"""The I/O's contract: batched reads and writes on TUN devices and raw sockets. No GRE.

All descriptors are non-blocking. Buffers hold the structures of layout.py. Every function releases
the interpreter lock while it works and allocates nothing.
"""

from typing_extensions import Buffer

def read_frames(
    fd: int, arena: Buffer, begin: int, end: int, vnet_header: int, frames: Buffer, limit: int, /
) -> int:
    """Read up to *limit* frames from a TUN into arena[begin:end]; return how many.

    Frames are packed: each starts FRAME_HEADROOM bytes behind a multiple of 64, its vnet header
    right before it. Stops at EAGAIN, and when fewer than 64 KiB and the headroom are left. Zero
    means nothing was ready. Raises OSError when the first read fails otherwise (a later failure
    ends the batch).
    """

def send_datagrams(
    fd: int,
    fragmenting_fd: int,
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
    """

def receive_datagrams(
    fd: int, family: int, arena: Buffer, begin: int, stride: int, received: Buffer, limit: int, /
) -> tuple[int, int]:
    """Receive up to *limit* datagrams; slot i starts at begin + i * stride + FRAME_HEADROOM.

    Return (how many, errno that stopped it or 0). EAGAIN is reported as 0; in a burst it may be
    believed only some ten microseconds later, so that the burst becomes one batch. An error that
    was pending on the socket (an ICMP error about some packet sent) does not hide what is readable.
    """

def write_frames(arena: Buffer, outgoing: Buffer, pieces: Buffer, count: int, /) -> int:
    """Write outgoing[:count], each to its own fd; return how many failed (error holds errno)."""
