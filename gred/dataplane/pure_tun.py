"""The pure-Python I/O of TUN devices: the twin of tun.c. Contract: _io.pyi.

One system call a frame. Nothing here looks into a frame, keeps state, or closes a descriptor.
"""

import errno
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gred.dataplane.layout import FRAME_HEADROOM, Frame, Piece, TunWrite
from gred.dataplane.pure_buffers import require, table

if TYPE_CHECKING:
    import ctypes

    from _typeshed import WriteableBuffer

FRAME_LIMIT = 65535  # the largest frame a TUN hands out, vnet header aside
PIECE_LIMIT = 256  # pieces a written frame may have


def read_frames(
    fd: int,
    arena: "WriteableBuffer",
    prefix: int,
    frames: "WriteableBuffer",
    first: int,
    limit: int,
    /,
) -> int:
    """See _io.pyi."""
    view = memoryview(arena).cast("B")
    rows = table(frames, Frame)
    require("read_frames", fits=0 <= first <= limit <= len(rows) and 0 <= prefix <= FRAME_HEADROOM)
    places = [row.offset for row in rows[first:limit]]
    last = len(view) - FRAME_LIMIT
    require("read_frames", fits=all(FRAME_HEADROOM <= place <= last for place in places))
    for filled, offset in enumerate(places):
        try:
            got = os.readv(fd, [view[offset - prefix : offset + FRAME_LIMIT]])
        except BlockingIOError:
            return filled
        except OSError:
            if filled == 0:
                raise
            return filled
        rows[first + filled] = Frame(offset=offset, length=max(got - prefix, 0))
    return len(places)


def write_frames(
    arena: "WriteableBuffer",
    headers: "WriteableBuffer",
    tun_writes: "WriteableBuffer",
    pieces: "WriteableBuffer",
    count: int,
    /,
) -> int:
    """See _io.pyi."""
    memories = memoryview(arena).cast("B"), memoryview(headers).cast("B")
    rows = table(tun_writes, TunWrite)
    require("write_frames", fits=0 <= count <= len(rows))
    chains = [list(_chain(memories, frame, table(pieces, Piece))) for frame in rows[:count]]
    failed = 0
    for frame, chain in zip(rows, chains, strict=False):
        frame.error = errno.EMSGSIZE if len(chain) > PIECE_LIMIT else _write(frame.fd, chain)
        failed += bool(frame.error)
    return failed


def _chain(
    memories: tuple[memoryview, memoryview], frame: TunWrite, pieces: "ctypes.Array[Piece]"
) -> Iterator[memoryview]:
    index = frame.first_piece
    for _ in range(frame.pieces):
        require("write_frames", fits=index < len(pieces))
        piece = pieces[index]
        view = memories[bool(piece.is_header)]
        require("write_frames", fits=piece.offset + piece.length <= len(view))
        yield view[piece.offset : piece.offset + piece.length]
        index = piece.next


def _write(fd: int, chain: list[memoryview]) -> int:
    try:
        os.writev(fd, chain)
    except OSError as error:
        return error.errno or errno.EIO
    return 0
