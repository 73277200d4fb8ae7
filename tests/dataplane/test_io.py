"""Reads and writes on devices. A pair of datagram sockets stands in for a TUN: it keeps the
boundaries of packets, and both ends are real descriptors."""

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from gred.dataplane.layout import FRAME_HEADROOM, NO_PIECE, Datagram, Frame, Piece, TunWrite
from tests.dataplane.benches import rows, table

ARENA = 1 << 19
CLOSED = 1 << 20  # a number that no descriptor has


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end, as a device, and the other."""
    ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    for end in (ours, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    other.settimeout(5)
    with ours, other:
        yield ours, other


Pair = tuple[socket.socket, socket.socket]


class TestReadFrames:
    PLACES = (FRAME_HEADROOM, 200_000, 100_001, ARENA - 65535)  # in any order, at any alignment

    def read(
        self,
        io: Any,
        fd: int,
        *,
        prefix: int = 0,
        places: Sequence[int] = PLACES,
        first: int = 0,
        limit: int | None = None,
    ) -> tuple[bytearray, list[Frame]]:
        arena, frames = bytearray(b"\xaa" * ARENA), table(Frame, len(places))
        for row, place in zip(rows(frames, Frame), places, strict=True):
            row.offset, row.done, row.verdict, row.destination, row.flow = place, 9, 9, 9, 9
        limit = len(places) if limit is None else limit
        count = io.read_frames(fd, arena, prefix, frames, first, limit)
        return arena, list(rows(frames, Frame))[first : first + count]

    def test_nothing_ready_is_no_frame(self, io: Any, pair: Pair) -> None:
        assert self.read(io, pair[0].fileno())[1] == []

    @pytest.mark.parametrize("prefix", [0, 4, 10])
    def test_frames_come_to_lie_where_their_entries_say(
        self, io: Any, pair: Pair, prefix: int
    ) -> None:
        ours, other = pair
        sizes = [1, 1500, 0, 65]
        for size in sizes:
            other.send(b"v" * prefix + bytes([size % 256]) * size)
        arena, frames = self.read(io, ours.fileno(), prefix=prefix)
        assert [frame.length for frame in frames] == sizes
        for frame, place, size in zip(frames, self.PLACES, sizes, strict=True):
            assert frame.offset == place
            assert (frame.done, frame.verdict, frame.destination, frame.flow) == (0, 0, 0, 0)
            end = place + size
            assert arena[place - prefix : end] == b"v" * prefix + bytes([size % 256]) * size
            assert arena[place - prefix - 1] == 0xAA

    def test_frames_before_the_first_stay_as_they_are(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        other.send(b"frame")
        arena, (frame,) = self.read(io, ours.fileno(), first=2)
        assert (frame.offset, frame.length) == (self.PLACES[2], 5)
        assert arena[self.PLACES[0]] == 0xAA

    def test_no_more_than_the_limit_are_read(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        for _ in range(3):
            other.send(b"frame")
        assert self.read(io, ours.fileno(), first=1, limit=1)[1] == []
        assert len(self.read(io, ours.fileno(), limit=2)[1]) == 2
        assert len(self.read(io, ours.fileno(), limit=2)[1]) == 1

    def test_the_largest_frame_fits(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        other.send(b"v" * 10 + b"x" * 65535)
        _arena, (frame,) = self.read(io, ours.fileno(), prefix=10, places=[ARENA - 65535])
        assert frame.length == 65535

    def test_less_than_the_prefix_is_an_empty_frame(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        other.send(b"short")
        _arena, (frame,) = self.read(io, ours.fileno(), prefix=10)
        assert frame.length == 0

    def test_a_first_read_that_fails_is_raised(self, io: Any) -> None:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            self.read(io, CLOSED)
        assert caught.value.errno == errno.EBADF

    @pytest.mark.parametrize(
        "arguments",
        [
            {"prefix": 65},
            {"limit": 5},
            {"first": 2, "limit": 1},
            {"places": [FRAME_HEADROOM - 1]},
            {"places": [ARENA - 65534]},
            {"places": [ARENA + 1]},
        ],
    )
    def test_what_leads_out_of_a_buffer_is_refused(
        self, io: Any, pair: Pair, arguments: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="read_frames: a buffer is smaller than its count"):
            self.read(io, pair[0].fileno(), **arguments)


class Writer:
    """A few writes and their pieces."""

    def __init__(self) -> None:
        self.arena, self.headers = bytearray(ARENA), bytearray(64)
        self.tun_writes = table(TunWrite, 16)
        self.pieces = table(Piece, 1024)
        self.frames = 0
        self.used = 0
        self.end = 0

    def add(self, fd: int, *parts: bytes) -> None:
        row = rows(self.tun_writes, TunWrite)[self.frames]
        row.fd, row.first_piece, row.pieces = fd, self.used, len(parts)
        row.error = 99
        self.frames += 1
        for index, part in enumerate(parts):
            self.arena[self.end : self.end + len(part)] = part
            last = index == len(parts) - 1
            following = NO_PIECE if last else self.used + 1
            rows(self.pieces, Piece)[self.used] = Piece(self.end, len(part), following, 0)
            self.used += 1
            self.end += len(part) + 3

    def write(self, io: Any) -> int:
        count: int = io.write_frames(
            self.arena, self.headers, self.tun_writes, self.pieces, self.frames
        )
        return count

    @property
    def errors(self) -> list[int]:
        return [row.error for row in rows(self.tun_writes, TunWrite)[: self.frames]]


class TestWriteFrames:
    def test_pieces_are_written_as_one_frame(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        writer = Writer()
        writer.add(ours.fileno(), b"one")
        writer.add(ours.fileno(), b"header", b"first", b"second")
        assert writer.write(io) == 0
        assert writer.errors == [0, 0]
        assert [other.recv(100), other.recv(100)] == [b"one", b"headerfirstsecond"]

    def test_pieces_follow_their_chain(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        writer = Writer()
        writer.add(ours.fileno(), b"a", b"b", b"c")
        pieces = rows(writer.pieces, Piece)
        pieces[0].next, pieces[2].next, pieces[1].next = 2, 1, NO_PIECE
        assert writer.write(io) == 0
        assert other.recv(100) == b"acb"

    def test_a_piece_may_lie_among_the_headers(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        writer = Writer()
        writer.add(ours.fileno(), b"header", b"payload")
        writer.headers[10:16] = b"HEADER"
        rows(writer.pieces, Piece)[0] = Piece(10, 6, 1, 1)
        assert writer.write(io) == 0
        assert other.recv(100) == b"HEADERpayload"

    def test_one_failure_does_not_stop_the_others(self, io: Any, pair: Pair) -> None:
        ours, other = pair
        writer = Writer()
        writer.add(CLOSED, b"lost")
        writer.add(-1, b"nowhere")
        writer.add(ours.fileno(), b"written")
        assert writer.write(io) == 2
        assert writer.errors == [errno.EBADF, errno.EBADF, 0]
        assert other.recv(100) == b"written"

    def test_a_full_queue_is_an_error_of_its_frame(self, io: Any, pair: Pair) -> None:
        ours, _other = pair
        writer = Writer()
        while True:
            try:
                ours.send(b"x" * 1000)
            except BlockingIOError:
                break
        writer.add(ours.fileno(), b"x" * 1000)
        assert writer.write(io) == 1
        assert writer.errors == [errno.EAGAIN]

    @pytest.mark.parametrize(("pieces", "error"), [(256, 0), (257, errno.EMSGSIZE)])
    def test_a_frame_has_at_most_256_pieces(
        self, io: Any, pair: Pair, pieces: int, error: int
    ) -> None:
        ours, _other = pair
        writer = Writer()
        writer.add(ours.fileno(), *[b"x"] * pieces)
        assert writer.write(io) == bool(error)
        assert writer.errors == [error]

    @pytest.mark.parametrize(
        ("piece", "count"),
        [
            (Piece(ARENA, 1, NO_PIECE, 0), 1),
            (Piece(1, 0xFFFFFFFF, NO_PIECE, 0), 1),
            (Piece(0, 1, 1024, 0), 2),
            (Piece(0, 65, NO_PIECE, 1), 1),
            (Piece(0, 1, NO_PIECE, 0), 2),
        ],
    )
    def test_a_chain_out_of_the_buffers_is_refused(
        self, io: Any, pair: Pair, piece: Piece, count: int
    ) -> None:
        writer = Writer()
        writer.add(pair[0].fileno(), b"fine")
        writer.add(pair[0].fileno(), b"x")
        rows(writer.pieces, Piece)[1] = piece
        rows(writer.tun_writes, TunWrite)[1].pieces = count
        with pytest.raises(ValueError, match="write_frames: a buffer is smaller than its count"):
            writer.write(io)
        pair[1].setblocking(False)
        with pytest.raises(BlockingIOError):
            pair[1].recv(100)

    def test_more_frames_than_there_are_rows_are_refused(self, io: Any) -> None:
        writer = Writer()
        writer.frames = 17
        with pytest.raises(ValueError, match="write_frames"):
            writer.write(io)


class TestArguments:
    def test_datagrams_out_of_the_arena_are_refused(self, io: Any) -> None:
        for wrong in (
            Datagram(head_offset=4097),
            Datagram(head_length=4097),
            Datagram(body_offset=4097),
            Datagram(body_length=4097),
            Datagram(destination=1),
        ):
            arguments = (bytearray(4096), bytearray(bytes(wrong)), 0, 1, bytearray(64))
            with pytest.raises(ValueError, match="send_datagrams: a buffer is smaller"):
                io.send_datagrams(-1, -1, *arguments)

    @pytest.mark.parametrize(
        ("begin", "stride", "limit"), [(0, 64, 1), (0, 4096, 2), (1, 4096, 1), (0, 2048, 3)]
    )
    def test_slots_out_of_the_arena_are_refused(
        self, io: Any, begin: int, stride: int, limit: int
    ) -> None:
        arguments = (bytearray(4096), begin, stride, bytearray(2 * 64), limit, False)
        with pytest.raises(ValueError, match="receive_datagrams: a buffer is smaller"):
            io.receive_datagrams(-1, 4, *arguments)

    def test_descriptors_stay_open(self, io: Any, pair: Pair) -> None:
        """They are lent: whoever opened them closes them."""
        ours, other = pair
        fd = ours.fileno()
        other.send(b"frame")
        buffers = bytearray(4096), 0, 2048, bytearray(2 * 64)
        assert io.receive_datagrams(fd, 4, *buffers, 2, False) == (1, 0)
        os.fstat(fd)
