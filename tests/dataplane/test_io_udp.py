"""GRE-in-UDP through real sockets, on the loopback of a namespace of its own."""

import array
import errno
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gred.dataplane.layout import FRAME_HEADROOM, Datagram, Destination, Received, Transport
from gred.dataplane.linux import IP_MTU_DISCOVER, IP_PKTINFO, IP_RECVTTL, PMTUDISC_PROBE, UDP_GRO
from gred.wire.drop import DropReason
from tests import require
from tests.dataplane.benches import rows, table
from tests.dataplane.namespaces import in_new_namespace
from tests.dataplane.packets import pattern

STRIDE = 70_000
LOOPBACK = {4: bytes([127, 0, 0, 1]), 6: bytes(15) + b"\1"}
MERGED_LIMIT = 128  # what the kernel merges at most


class Sockets:
    """One that receives, with all that an underlay asks for, and some that send."""

    def __init__(self, family: int, senders: int = 4) -> None:
        self.family = family
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        address = "::1" if family == 6 else "127.0.0.1"
        self.receiver = socket.socket(kind, socket.SOCK_DGRAM)
        self.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        options = (
            (socket.IPPROTO_IP, (IP_PKTINFO, socket.IP_RECVTOS, IP_RECVTTL))
            if family == 4
            else (
                socket.IPPROTO_IPV6,
                (socket.IPV6_RECVPKTINFO, socket.IPV6_RECVTCLASS, socket.IPV6_RECVHOPLIMIT),
            )
        )
        for option in options[1]:
            self.receiver.setsockopt(options[0], option, 1)
        self.receiver.bind((address, 0))
        self.receiver.setblocking(False)
        self.port = self.receiver.getsockname()[1]
        self.senders = [socket.socket(kind, socket.SOCK_DGRAM) for _ in range(senders)]
        for one in self.senders:
            one.bind((address, 0))
            if family == 4:
                one.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        self.plain_until = array.array("Q", [0])

    def close(self) -> None:
        for one in (self.receiver, *self.senders):
            one.close()

    def send(self, io: Any, *datagrams: tuple[bytes, bytes], **fields: Any) -> tuple[int, int]:
        """Send rows of (head, body); *fields* of the datagrams are one value, or one for each."""
        arena, entries = bytearray(), list[bytes]()
        for number, (head, body) in enumerate(datagrams):
            values = {"ttl": 64, "dont_fragment": 1} | {
                name: value[number] if isinstance(value, list) else value
                for name, value in fields.items()
            }
            entry = Datagram(head_offset=len(arena), head_length=len(head), **values)
            entry.body_offset, entry.body_length = len(arena) + len(head), len(body)
            arena += head + body
            entries.append(bytes(entry))
        destination = Destination(family=self.family, port=self.port)
        destination.remote[:] = LOOPBACK[self.family].ljust(16, b"\0")
        result: tuple[int, int] = io.send_udp(
            array.array("i", [one.fileno() for one in self.senders]),
            self.plain_until,
            arena,
            bytearray(b"".join(entries)),
            0,
            len(entries),
            bytearray(bytes(destination)),
        )
        return result

    def receive(self, io: Any, *, slots: int = 4, limit: int = 4 * MERGED_LIMIT) -> "Batch":
        assert select.select([self.receiver], [], [], 5)[0]
        arena, received = bytearray(slots * STRIDE), bytearray(table(Received, limit))
        count, error = io.receive_udp(
            self.receiver.fileno(), self.family, arena, slots, STRIDE, received, limit, True
        )
        assert error == 0
        return Batch(list(rows(received, Received))[:count], arena)

    def receive_all(self, io: Any, count: int) -> "list[bytes]":
        found = list[bytes]()
        while len(found) < count:
            found += self.receive(io).data
        return found


class Batch:
    def __init__(self, entries: list[Any], arena: bytearray) -> None:
        self.entries = entries
        self.data = [bytes(arena[one.offset : one.offset + one.length]) for one in entries]


@pytest.fixture(params=[4, 6])
def sockets(request: pytest.FixtureRequest) -> Iterator[Sockets]:
    require.root()
    made = in_new_namespace(lambda: Sockets(request.param))
    yield made
    made.close()


def pieces(count: int, size: int = 1000) -> list[tuple[bytes, bytes]]:
    return [(pattern(20, seed=number), pattern(size, seed=number + 1)) for number in range(count)]


def test_all_that_is_known_of_the_outer_header_is_told(io: Any, sockets: Sockets) -> None:
    assert sockets.send(io, (b"gre", b""), tos=0xB8, ttl=9) == (1, 0)
    (entry,) = sockets.receive(io).entries
    assert (entry.family, entry.transport, entry.tos, entry.ttl) == (
        *(sockets.family, Transport.UDP),
        *(0xB8, 9),
    )
    ends = LOOPBACK[sockets.family].ljust(16, b"\0")
    assert bytes(entry.source) == bytes(entry.destination) == ends
    assert (entry.offset, entry.outer_length, entry.verdict) == (FRAME_HEADROOM, 0, 0)


@pytest.mark.parametrize("last", [1020, 700, 20])
def test_many_arrive_as_they_were_sent(io: Any, sockets: Sockets, last: int) -> None:
    """Cut out of one and merged into one on their way, or not: nobody sees."""
    datagrams = [*pieces(40), (pattern(20), pattern(last - 20))]
    assert sockets.send(io, *datagrams) == (41, 0)
    assert sockets.receive_all(io, 41) == [head + body for head, body in datagrams]


def test_datagrams_of_different_kinds_stay_apart(io: Any, sockets: Sockets) -> None:
    datagrams = pieces(6)
    assert sockets.send(io, *datagrams, tos=[0, 0, 4, 4, 0, 0], ttl=[9, 9, 9, 9, 9, 8]) == (6, 0)
    found = list[tuple[bytes, int, int]]()
    while len(found) < 6:
        batch = sockets.receive(io)
        found += [
            (data, entry.tos, entry.ttl)
            for data, entry in zip(batch.data, batch.entries, strict=True)
        ]
    assert [one[1:] for one in found] == [(0, 9), (0, 9), (4, 9), (4, 9), (0, 9), (0, 8)]
    assert [one[0] for one in found] == [head + body for head, body in datagrams]


def test_lengths_that_vary_are_sent_all_the_same(io: Any, sockets: Sockets) -> None:
    datagrams = [(pattern(size, seed=size), b"") for size in (4, 900, 900, 901, 30, 31, 900, 4)]
    assert sockets.send(io, *datagrams) == (8, 0)
    assert sockets.receive_all(io, 8) == [head for head, _body in datagrams]


def test_a_flow_keeps_its_port_and_flows_have_several(io: Any, sockets: Sockets) -> None:
    flows = [number * 0x01234567 & 0xFFFFFFFF for number in range(32)]
    ports = {one.getsockname()[1] for one in sockets.senders}
    sockets.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)

    def used() -> list[int]:
        assert sockets.send(io, *[(bytes([number]), b"") for number in range(32)], flow=flows) == (
            *(32, 0),
        )
        found = dict[int, int]()
        while len(found) < 32:
            data, address = sockets.receiver.recvfrom(2048)
            found[data[0]] = address[1]
        return [found[number] for number in range(32)]

    first = used()
    assert set(first) == ports
    assert used() == first


def test_both_twins_choose_the_same_port(sockets: Sockets) -> None:
    require.extension()
    from gred.dataplane import _io, pure_io

    def port(io: Any, flow: int) -> int:
        assert sockets.send(io, (b"gre", b""), flow=flow) == (1, 0)
        found: int = sockets.receiver.recvfrom(2048)[1][1]
        return found

    for flow in (0, 1, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF):
        assert port(_io, flow) == port(pure_io, flow)


def test_what_is_too_long_is_said_and_what_went_before_has_left(io: Any, sockets: Sockets) -> None:
    long = pattern(65_000) + pattern(5_000)
    assert sockets.send(io, (b"a", b""), (long, b""), (b"b", b"")) == (1, errno.EMSGSIZE)
    assert sockets.receive_all(io, 1) == [b"a"]


def test_without_dont_fragment_the_kernel_may_cut_and_it_stays_set(
    io: Any, sockets: Sockets
) -> None:
    """The loopback carries 65,536 bytes, and what is longer is fragmented where it may be."""
    assert sockets.send(io, (b"a", b""), (b"b", b""), dont_fragment=[0, 1]) == (2, 0)
    assert sockets.receive_all(io, 2) == [b"a", b"b"]
    if sockets.family == 4:
        for one in sockets.senders:
            assert one.getsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER) == PMTUDISC_PROBE


def test_a_pending_icmp_error_loses_nothing(io: Any, sockets: Sockets) -> None:
    """Port unreachable, about a datagram sent before, fails one call whatever it is for."""
    level, option = (socket.IPPROTO_IP, 11) if sockets.family == 4 else (socket.IPPROTO_IPV6, 25)
    address = sockets.receiver.getsockname()
    closed = socket.socket(sockets.receiver.family, socket.SOCK_DGRAM)
    for one in sockets.senders:
        one.setsockopt(level, option, 1)  # RECVERR: errors of others, too
        one.sendto(b"nobody", (address[0], 9))
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        one.sendto(b"nobody", (address[0], 9))
    closed.close()
    assert sockets.send(io, *pieces(4), flow=[0, 1 << 29, 1 << 30, 1 << 31]) == (4, 0)
    assert len(sockets.receive_all(io, 4)) == 4


def test_as_few_are_received_as_there_is_room_for(io: Any, sockets: Sockets) -> None:
    """Of one there may be as many as the kernel merges."""
    assert sockets.send(io, *pieces(3, size=50), tos=[0, 4, 8]) == (3, 0)
    for number, limit in enumerate((MERGED_LIMIT, MERGED_LIMIT, 2 * MERGED_LIMIT)):
        batch = sockets.receive(io, slots=4, limit=limit)
        assert batch.data == [b"".join(pieces(3, size=50)[number])]


def test_a_datagram_without_content_is_one(io: Any, sockets: Sockets) -> None:
    sockets.senders[0].sendto(b"", sockets.receiver.getsockname())
    batch = sockets.receive(io)
    assert batch.data == [b""]
    assert [one.verdict for one in batch.entries] == [DropReason.NONE]


def test_a_slot_that_is_too_small_is_noticed(io: Any, sockets: Sockets) -> None:
    sockets.senders[0].sendto(pattern(3000), sockets.receiver.getsockname())
    assert select.select([sockets.receiver], [], [], 5)[0]
    arena, received = bytearray(2000), bytearray(table(Received, 300))
    result = io.receive_udp(
        sockets.receiver.fileno(), sockets.family, arena, 1, 2000, received, 300, False
    )
    assert result == (1, 0)
    assert next(iter(rows(received, Received))).verdict == DropReason.TRUNCATED


def test_where_the_kernel_cuts_nothing_they_go_one_by_one(sockets: Sockets) -> None:
    """A socket that sends no checksum is refused (EINVAL); what is refused for the device, too."""
    require.extension()
    from gred.dataplane import _io

    for one in sockets.senders:
        if sockets.family == 4:
            one.setsockopt(socket.SOL_SOCKET, 11, 1)  # SO_NO_CHECK
        else:
            one.setsockopt(socket.IPPROTO_UDP, 101, 1)  # UDP_NO_CHECK6_TX
            sockets.receiver.setsockopt(socket.IPPROTO_UDP, 102, 1)
    assert sockets.send(_io, *pieces(10)) == (10, 0)
    assert sockets.receive_all(_io, 10) == [head + body for head, body in pieces(10)]


def test_as_long_as_it_is_said_the_kernel_is_not_asked(sockets: Sockets) -> None:
    require.extension()
    from gred.dataplane import _io

    sockets.plain_until[0] = 1 << 63
    assert sockets.send(_io, *pieces(10)) == (10, 0)
    sockets.receiver.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 0)
    assert sockets.receive_all(_io, 10) == [head + body for head, body in pieces(10)]


def test_nothing_is_waiting_is_no_error(io: Any, sockets: Sockets) -> None:
    arena, received = bytearray(STRIDE), bytearray(table(Received, MERGED_LIMIT))
    fd = sockets.receiver.fileno()
    assert io.receive_udp(fd, sockets.family, arena, 1, STRIDE, received, MERGED_LIMIT, True) == (
        *(0, 0),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"slots": 2},
        {"limit": MERGED_LIMIT + 1},
        {"stride": FRAME_HEADROOM},
    ],
)
def test_what_does_not_fit_its_buffers_is_refused(
    io: Any, sockets: Sockets, arguments: dict[str, int]
) -> None:
    asked = {"slots": 1, "stride": 2000, "limit": MERGED_LIMIT} | arguments
    with pytest.raises(ValueError, match="receive_udp"):
        io.receive_udp(
            sockets.receiver.fileno(),
            sockets.family,
            bytearray(2000),
            asked["slots"],
            asked["stride"],
            bytearray(table(Received, MERGED_LIMIT)),
            asked["limit"],
            False,
        )


def test_sending_beyond_its_buffers_is_refused(io: Any) -> None:
    entry = bytearray(bytes(Datagram(head_length=5)))
    place = bytearray(bytes(Destination(family=4)))
    whole = array.array("i", [0]), array.array("Q", [0]), bytearray(5), entry, 0, 1, place
    for index, wrong in ((0, bytearray()), (1, bytearray(7)), (2, bytearray(4)), (6, bytearray())):
        arguments = [*whole]
        arguments[index] = wrong
        with pytest.raises(ValueError, match="send_udp"):
            io.send_udp(*arguments)
    for first, count in ((0, 2), (2, 1)):
        with pytest.raises((ValueError, OverflowError)):
            io.send_udp(*whole[:4], first, count, place)
