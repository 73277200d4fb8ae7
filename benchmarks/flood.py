"""A flood of small UDP packets and the counter at its other end.

    python -m benchmarks.flood send ADDRESS PORT SIZE SECONDS
    python -m benchmarks.flood receive PORT SECONDS

The sender sends as fast as one core can, 64 packets a system call, and cares for no answer. The
receiver says "ready", waits for the first packet, lets the queues fill, counts for SECONDS and
prints packets per second: a rate of packets delivered, whatever was sent.

No packet is touched by Python: sendmmsg(2) and recvmmsg(2) through ctypes move whole batches.
"""

import ctypes
import socket
import struct
import sys
import time

BATCH = 64
SLOT = 2048
MSG_WAITFORONE = 0x10000  # recvmmsg(2): block for the first packet only
SO_RCVBUFFORCE = 33  # socket(7)
RECEIVE_BUFFER = 8 << 20
SETTLE_SECONDS = 0.3  # until the queues along the way are full

libc = ctypes.CDLL(None, use_errno=True)


class Iovec(ctypes.Structure):
    """struct iovec, readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Msghdr(ctypes.Structure):
    """struct msghdr, recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Iovec)),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class Mmsghdr(ctypes.Structure):
    """struct mmsghdr, recvmmsg(2)."""

    _fields_ = (("header", Msghdr), ("length", ctypes.c_uint))


class Batch:
    """BATCH messages of *size* bytes, each with memory of its own."""

    def __init__(self, size: int) -> None:
        self.messages = (Mmsghdr * BATCH)()
        self._memory = ctypes.create_string_buffer(BATCH * size)
        self._iovecs = (Iovec * BATCH)()
        start = ctypes.addressof(self._memory)
        for slot, (message, iovec) in enumerate(zip(self.messages, self._iovecs, strict=True)):
            iovec.base = start + slot * size
            iovec.length = size
            message.header.iov = ctypes.pointer(iovec)
            message.header.iov_length = 1


def send(address: str, port: int, size: int, seconds: float) -> None:
    """Send packets of *size* payload bytes for *seconds*.

    Errors (a full queue, no reader yet) are what an overloaded path answers; the count that
    matters is taken at the other end.
    """
    batch = Batch(size)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            libc.sendmmsg(sock.fileno(), batch.messages, BATCH, 0)


def receive(port: int, seconds: float) -> float:
    """Return the packets per second that arrive at *port*. Zero if none comes within 10 s."""
    batch = Batch(SLOT)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        sock.bind(("0.0.0.0", port))  # noqa: S104  # inside the laboratory's namespace
        print("ready", flush=True)
        sock.settimeout(10)
        try:
            sock.recv(SLOT)
        except TimeoutError:
            return 0.0
        sock.setblocking(True)
        # The kernel's own time limit, so that a path that has stopped ends the count too.
        limit = struct.pack("ll", max(1, round(seconds)), 0)  # struct timeval
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)

        def count_for(duration: float) -> float:
            begin = now = time.monotonic()
            count = 0
            while now - begin < duration:
                count += max(
                    0, libc.recvmmsg(sock.fileno(), batch.messages, BATCH, MSG_WAITFORONE, None)
                )
                now = time.monotonic()
            return count / (now - begin)

        count_for(SETTLE_SECONDS)
        return count_for(seconds)


def main(arguments: list[str]) -> None:
    """Run as a program; see the module's docstring."""
    match arguments:
        case ["send", address, port, size, seconds]:
            send(address, int(port), int(size), float(seconds))
        case ["receive", port, seconds]:
            print(f"{receive(int(port), float(seconds)):.1f}", flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
