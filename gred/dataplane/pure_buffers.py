"""What the pure-Python I/O shares: buffers as tables of structures, descriptors as sockets.

Nothing here reads, writes or closes.
"""

import ctypes
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Row = TypeVar("Row", bound=ctypes.Structure)
Control = tuple[int, int, bytes]


def table(buffer: "WriteableBuffer", kind: type[Row]) -> "ctypes.Array[Row]":
    """Return *buffer* as an array of *kind*, as long as it may be."""
    view = memoryview(buffer).cast("B")
    return (kind * (len(view) // ctypes.sizeof(kind))).from_buffer(view)


def require(function: str, *, fits: bool) -> None:
    """Raise ValueError unless what *function* was given *fits*."""
    if not fits:
        raise ValueError(f"{function}: a buffer is smaller than its count")


@contextmanager
def borrowed(fd: int, family: int) -> Iterator[socket.socket]:
    """Lend *fd* as a socket object; the caller still owns it."""
    # The calls made here depend on neither type nor protocol; given, they are not asked for.
    borrowed = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW, fileno=fd)
    try:
        yield borrowed
    finally:
        borrowed.detach()
