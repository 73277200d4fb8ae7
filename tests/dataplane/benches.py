"""Benches to put a codec on: packets in as bytes, packets out as bytes, all memory kept.

No check in here: a test says what is right.
"""

import ctypes
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gred.dataplane.hashes import hash_entry
from gred.dataplane.layout import (
    FRAME_HEADROOM,
    NO_PIECE,
    Datagram,
    Descriptor,
    Frame,
    Kind,
    LookupEntry,
    LookupHeader,
    Piece,
    Received,
    RxState,
    Stage,
    Transport,
    TunnelFlag,
    TunnelRecord,
    TunWrite,
    TxState,
)
from gred.dataplane.pure_receive import read_header
from gred.wire.drop import DropReason
from gred.wire.vnet import VnetHeader

LOCAL = bytes([192, 168, 1, 10])
REMOTE = bytes([192, 168, 1, 13])
LOCAL6 = bytes.fromhex("20010db8000000000000000000000010")
REMOTE6 = bytes.fromhex("20010db8000000000000000000000013")
NO_LIMIT = 0xFFFFFFFF


def table(kind: type[ctypes.Structure], count: int) -> bytearray:
    return bytearray(ctypes.sizeof(kind) * count)


def rows(buffer: bytearray, kind: Any) -> Any:
    return (kind * (len(buffer) // ctypes.sizeof(kind))).from_buffer(buffer)


class Tunnel:
    """One tunnel: record, both states of one worker, descriptor. Each field by its own name."""

    def __init__(self, **fields: Any) -> None:
        parts = TunnelRecord(), TxState(), RxState(), Descriptor(fd=-1)
        self.__dict__["parts"] = parts
        self.__dict__["record"], self.__dict__["tx"], self.__dict__["rx"], _ = parts
        for name, value in fields.items():
            setattr(self, name, value)

    def _part(self, name: str) -> Any:
        return next(part for part in self.__dict__["parts"] if hasattr(part, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part(name), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {"local", "remote"}:
            getattr(self.record, name)[:] = value.ljust(16, b"\0")
        else:
            setattr(self._part(name), name, value)

    def __bytes__(self) -> bytes:
        return b"".join(map(bytes, self.parts))

    def copy(self) -> "Tunnel":
        made = Tunnel()
        for mine, theirs in zip(made.parts, self.parts, strict=True):
            ctypes.memmove(ctypes.addressof(mine), ctypes.addressof(theirs), ctypes.sizeof(mine))
        return made


class Tables:
    """Where codecs find tunnels, number 0 before all; a row of each table for each."""

    def __init__(self, tunnels: Iterable[Tunnel]) -> None:
        rows_of_all = [each.parts for each in (Tunnel(), *tunnels)]
        memories = [
            bytearray(b"".join(map(bytes, column))) for column in zip(*rows_of_all, strict=True)
        ]
        self.records, self.tx_states, self.rx_states, self.descriptors = memories

    def after(self, tunnel: int) -> Tunnel:
        """A tunnel as the codec left it."""
        found = Tunnel()
        memories = self.records, self.tx_states, self.rx_states, self.descriptors
        for part, memory in zip(found.parts, memories, strict=True):
            size = ctypes.sizeof(part)
            start = tunnel * size
            ctypes.memmove(ctypes.addressof(part), bytes(memory[start : start + size]), size)
        return found

    @property
    def memory(self) -> dict[str, bytes]:
        return {
            "tunnels": bytes(self.records),
            "tx_states": bytes(self.tx_states),
            "rx_states": bytes(self.rx_states),
        }


def make_record(**fields: Any) -> Tunnel:
    """Return a plain IPv4 tunnel, with *fields* changed."""
    plain = {"fd": 7, "mtu": 1476, "path_mtu": NO_LIMIT, "ttl": 64, "family": 4}
    return Tunnel(**plain | {"local": LOCAL, "remote": REMOTE} | fields)


@dataclass(frozen=True)
class Sent:
    """One datagram, as the underlay gets it."""

    data: bytes  # GRE header on
    tos: int
    ttl: int
    dont_fragment: int
    frame: int
    inner_length: int
    flow_label: int = 0


@dataclass
class Egress:
    """Frames of one tunnel, and a place for datagrams."""

    frames: Sequence[bytes | tuple[VnetHeader, bytes]]
    record: Tunnel = field(default_factory=make_record)
    datagrams: int = 64
    header_space: int = 64 * 192
    skew: int = 0  # bytes by which frames are moved from their alignment
    flows: Sequence[int] = ()  # of each frame

    def __post_init__(self) -> None:
        offsets, at = [], 0
        for frame in self.frames:
            offset = (at + 63) // 64 * 64 + FRAME_HEADROOM + self.skew
            offsets.append(offset)
            at = offset + len(frame if isinstance(frame, bytes) else frame[1])
        self.headers_begin = (at + 63) // 64 * 64
        self.arena = bytearray(self.headers_begin + self.header_space)
        self.frame_table = table(Frame, len(self.frames))
        self.datagram_table = table(Datagram, self.datagrams)
        self.tables = Tables([self.record])
        for entry, offset, frame in zip(
            rows(self.frame_table, Frame), offsets, self.frames, strict=True
        ):
            if isinstance(frame, tuple):
                self.arena[offset - 10 : offset] = frame[0].pack()
                frame = frame[1]  # noqa: PLW2901 - the rest is the frame
            self.arena[offset : offset + len(frame)] = frame
            entry.offset, entry.length = offset, len(frame)
        for entry, flow in zip(rows(self.frame_table, Frame), self.flows, strict=False):
            entry.flow = flow

    def run(self, codec: Any, first: int = 0) -> tuple[int, int, int]:
        """Call encapsulate() on frames from *first* on."""
        result: tuple[int, int, int] = codec.encapsulate(
            self.arena,
            self.frame_table,
            first,
            len(self.frames),
            self.tables.records,
            self.tables.tx_states,
            1,
            self.datagram_table,
            self.headers_begin,
            len(self.arena),
        )
        return result

    def sent(self, count: int) -> list[Sent]:
        """The first *count* datagrams."""
        found = []
        for row in rows(self.datagram_table, Datagram)[:count]:
            head = self.arena[row.head_offset : row.head_offset + row.head_length]
            body = self.arena[row.body_offset : row.body_offset + row.body_length]
            found.append(
                Sent(
                    bytes(head + body),
                    row.tos,
                    row.ttl,
                    row.dont_fragment,
                    row.frame,
                    row.inner_length,
                    row.flow_label,
                )
            )
        return found

    def all(self, codec: Any, first: int = 0) -> list[Sent]:
        """Send everything from frame *first* on, in as many calls as it takes."""
        found = list[Sent]()
        for _ in range(10_000):
            count, first, _refused = self.run(codec, first)
            found += self.sent(count)
            if first == len(self.frames):
                return found
            assert count, "no room for a single datagram"
        raise AssertionError("encapsulate() does not come to an end")

    @property
    def after(self) -> Tunnel:
        """The tunnel as the codec left it."""
        return self.tables.after(1)

    @property
    def verdicts(self) -> list[DropReason]:
        return [DropReason(row.verdict) for row in rows(self.frame_table, Frame)]

    @property
    def memory(self) -> dict[str, bytes]:
        """Every buffer, by name."""
        return {
            "arena": bytes(self.arena),
            "frames": bytes(self.frame_table),
            **self.tables.memory,
            "datagrams": bytes(self.datagram_table),
        }


def stage_of(record: Tunnel) -> Stage:
    local, remote = any(record.local), any(record.remote)
    if local:
        return Stage.BOTH if remote else Stage.LOCAL
    return Stage.REMOTE if remote else Stage.NEITHER


def make_lookup(
    records: Iterable[Tunnel], slots: int = 16, transport: Transport = Transport.IP
) -> bytearray:
    """Return a look-up table of *records*, the first of which is tunnel 1."""
    size = ctypes.sizeof(LookupHeader)
    memory = bytearray(size + slots * ctypes.sizeof(LookupEntry))
    header = LookupHeader.from_buffer(memory)
    header.mask = slots - 1
    entries = (LookupEntry * slots).from_buffer(memory, size)
    for index, record in enumerate(records, start=1):
        header.stages |= 1 << stage_of(record)
        local, remote = bytes(record.local), bytes(record.remote)
        keyed = record.flags & TunnelFlag.INPUT_KEY
        for kind, key in (
            (Kind.KEY if keyed else Kind.NO_KEY, record.input_key if keyed else 0),
            (Kind.SOME, 0),
        ):
            slot = hash_entry(local, remote, key, record.family, kind, transport) % slots
            while entries[slot].tunnel:
                slot = (slot + 1) % slots
            entries[slot] = LookupEntry(tunnel=index, key=key, family=record.family, kind=kind)
            entries[slot].transport = transport
            entries[slot].local[:] = local
            entries[slot].remote[:] = remote
    return memory


@dataclass(frozen=True)
class Datagram6:
    """What a raw IPv6 socket gives: data from the GRE header on, the rest beside it."""

    data: bytes
    tos: int = 0
    ttl: int = 64
    source: bytes = REMOTE6
    destination: bytes = LOCAL6


@dataclass(frozen=True)
class Truncated:
    """A datagram that did not fit its slot."""

    data: bytes


Arrival = bytes | Datagram6 | Truncated


@dataclass
class Ingress:
    """Datagrams from the underlay (bytes: IPv4, outer header on), and a place for frames."""

    datagrams: Sequence[Arrival]
    records: Sequence[Tunnel] = field(default_factory=lambda: [make_record()])
    tun_writes: int = 64
    pieces: int = 256
    header_space: int = 64 * 128
    skew: int = 0
    now: int = 1000  # milliseconds
    transport: Transport = Transport.IP  # UDP: one next to the other, as the kernel merges them

    def __post_init__(self) -> None:
        self.arena = bytearray()
        self.received = table(Received, len(self.datagrams))
        entries = rows(self.received, Received)
        for entry, datagram in zip(entries, self.datagrams, strict=True):
            self._place(entry, datagram)
        self.arena += bytes(-len(self.arena) % 64)
        self.headers = bytearray(self.header_space)
        self.tun_write_table = table(TunWrite, self.tun_writes)
        self.piece_table = table(Piece, self.pieces)
        self.tables = Tables(self.records)
        self.lookup = make_lookup(self.records, transport=self.transport)
        self.sources = bytearray()

    def _place(self, entry: Received, datagram: Arrival) -> None:
        if self.transport is Transport.IP or not self.arena:
            self.arena += bytes(-len(self.arena) % 64 + FRAME_HEADROOM + self.skew)
        data = datagram if isinstance(datagram, bytes) else datagram.data
        entry.offset, entry.length, entry.family = len(self.arena), len(data), 4
        if isinstance(datagram, Datagram6):
            entry.family, entry.tos, entry.ttl = 6, datagram.tos, datagram.ttl
            entry.source[:] = datagram.source
            entry.destination[:] = datagram.destination
        else:
            read_header(memoryview(data), entry)
        if isinstance(datagram, Truncated):
            entry.verdict = DropReason.TRUNCATED
        entry.transport = self.transport
        if self.transport is Transport.UDP:  # of which the kernel keeps the outer header
            data = data[entry.outer_length :]
            entry.length, entry.outer_length = len(data), 0
        self.arena += data

    def run(self, codec: Any) -> tuple[int, int]:
        """Call decapsulate()."""
        result: tuple[int, int] = codec.decapsulate(
            self.arena,
            self.received,
            len(self.datagrams),
            self.tables.records,
            self.tables.rx_states,
            self.tables.descriptors,
            self.lookup,
            self.sources,
            self.tun_write_table,
            self.piece_table,
            self.headers,
            self.now,
        )
        return result

    def frames(self, codec: Any) -> list[bytes]:
        """Run, and return what is to be written, vnet headers included."""
        count, _refused = self.run(codec)
        return [self.frame(index) for index in range(count)]

    def frame(self, index: int) -> bytes:
        """One write, put together from its pieces."""
        row = rows(self.tun_write_table, TunWrite)[index]
        pieces = rows(self.piece_table, Piece)
        data, at, last = b"", row.first_piece, NO_PIECE
        for _ in range(row.pieces):
            memory = self.headers if pieces[at].is_header else self.arena
            data += memory[pieces[at].offset : pieces[at].offset + pieces[at].length]
            at, last = pieces[at].next, at
        assert (at, last, len(data)) == (NO_PIECE, row.last_piece, row.length)
        return bytes(data)

    def tun_write_row(self, index: int) -> TunWrite:
        return TunWrite.from_buffer_copy(self.tun_write_table, index * ctypes.sizeof(TunWrite))

    @property
    def entries(self) -> list[Received]:
        return list(rows(self.received, Received))

    @property
    def verdicts(self) -> list[DropReason]:
        return [DropReason(row.verdict) for row in self.entries]

    def after(self, tunnel: int = 1) -> Tunnel:
        """A tunnel as the codec left it."""
        return self.tables.after(tunnel)

    @property
    def memory(self) -> dict[str, bytes]:
        """Every buffer, by name."""
        return {
            "arena": bytes(self.arena),
            "received": bytes(self.received),
            **self.tables.memory,
            "tun_writes": bytes(self.tun_write_table),
            "pieces": bytes(self.piece_table),
            "headers": bytes(self.headers),
        }


def drops(counters: Any) -> dict[DropReason, int]:
    """What is not zero in an array of drop counters."""
    return {DropReason(index): count for index, count in enumerate(counters) if count}


def outer(
    payload: bytes, *, tos: int = 0, ttl: int = 64, source: bytes = REMOTE, options: bytes = b""
) -> bytes:
    """Return *payload* (GRE header on) in an outer IPv4 packet to LOCAL."""
    first = 0x45 + len(options) // 4
    header = struct.pack(
        "!BBHHHBBH4s4s",
        first,
        tos,
        20 + len(options) + len(payload),
        1,
        0x4000,
        ttl,
        47,
        0,
        source,
        LOCAL,
    )
    return header + options + payload


def gre(inner: bytes, protocol: int = 0x0800, flags: int = 0, options: bytes = b"") -> bytes:
    """Return *inner* behind a GRE header with *flags* and *options* as given."""
    return struct.pack("!HH", flags, protocol) + options + inner
