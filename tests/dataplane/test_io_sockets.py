"""Datagrams through real sockets: raw ones in a namespace of their own, UDP on the loopback."""

import errno
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from scapy.layers.inet import IP

from gred.dataplane.layout import (
    FRAME_HEADROOM,
    SENT_INTERVAL,
    Datagram,
    Destination,
    Received,
    Transport,
)
from gred.wire.drop import DropReason
from tests import require
from tests.dataplane.benches import outer, rows, table
from tests.dataplane.namespaces import in_new_namespace

GRE = 47
IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO = 10, 0, 2  # linux/in.h
SO_RCVBUFFORCE = 33  # asm-generic/socket.h
STRIDE = 2048
LOOPBACK6 = bytes(15) + b"\1"


class Sockets:
    """As an underlay has them: one to receive, two to send."""

    def __init__(self, family: int) -> None:
        kind = socket.AF_INET6 if family == 6 else socket.AF_INET
        self.family = family
        self.receiver, self.sender, self.fragmenting = (
            socket.socket(kind, socket.SOCK_RAW, GRE) for _ in range(3)
        )
        if family == 4:
            self.sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            self.fragmenting.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT)
        else:
            for option in (
                socket.IPV6_RECVPKTINFO,
                socket.IPV6_RECVTCLASS,
                socket.IPV6_RECVHOPLIMIT,
            ):
                self.receiver.setsockopt(socket.IPPROTO_IPV6, option, 1)
        self.receiver.setblocking(False)

    def close(self) -> None:
        for one in (self.receiver, self.sender, self.fragmenting):
            one.close()

    def send(self, io: Any, *datagrams: Any, first: int = 0, **fields: Any) -> tuple[int, int]:
        """Send rows of (head, body, Datagram fields) to a destination with *fields*."""
        arena = bytearray()
        entries = list[bytes]()
        for head, body, values in datagrams:
            entry = Datagram(
                head_offset=len(arena), head_length=len(head), body_length=len(body), **values
            )
            entry.body_offset = len(arena) + len(head) + 5 if body else 0
            arena += head + bytes(5) + body
            entries.append(bytes(entry))
        destination = Destination(family=self.family, interface=fields.get("interface", 0))
        for name in ("local", "remote"):
            getattr(destination, name)[:] = fields.get(name, b"").ljust(16, b"\0")
        for name in ("sent_interval", "sent_longest", "sent_before"):
            setattr(destination, name, fields.get(name, 0))
        self.place = bytearray(bytes(destination))
        result: tuple[int, int] = io.send_datagrams(
            self.sender.fileno(),
            self.fragmenting.fileno(),
            arena,
            bytearray(b"".join(entries)),
            first,
            len(entries),
            self.place,
        )
        return result

    def longest(self) -> tuple[int, int]:
        """Return the longest that the destination keeps: of this interval and of the last."""
        place = Destination.from_buffer_copy(self.place)
        return place.sent_longest, place.sent_before

    def receive(self, io: Any, limit: int = 8, stride: int = STRIDE) -> tuple[list[Any], bytearray]:
        """Wait for something, then receive one batch."""
        assert select.select([self.receiver], [], [], 5)[0]
        return receive(io, self.receiver, self.family, limit, stride)


def receive(
    io: Any,
    receiver: socket.socket,
    family: int,
    limit: int = 8,
    stride: int = STRIDE,
    *,
    busy_poll: bool = True,
) -> tuple[list[Any], bytearray]:
    arena, entries = bytearray(100 + stride * 8), bytearray(b"\xff" * len(table(Received, 8)))
    count, error = io.receive_datagrams(
        receiver.fileno(), family, arena, 100, stride, entries, limit, busy_poll
    )
    assert error == 0
    return list(rows(entries, Received))[:count], arena


@pytest.fixture
def v4() -> Iterator[Sockets]:
    require.root()
    with ExitStack() as stack:
        sockets = in_new_namespace(lambda: Sockets(4))
        stack.callback(sockets.close)
        yield sockets


@pytest.fixture
def v6() -> Iterator[Sockets]:
    require.root()
    with ExitStack() as stack:
        sockets = in_new_namespace(lambda: Sockets(6))
        stack.callback(sockets.close)
        yield sockets


LOOPBACK = bytes([127, 0, 0, 1])
PLAIN = {"ttl": 64, "tos": 0, "dont_fragment": 1}


class TestIPv4:
    def test_the_kernel_puts_the_outer_header_before_head_and_body(
        self, io: Any, v4: Sockets
    ) -> None:
        fields = {"ttl": 9, "tos": 0xBA, "dont_fragment": 1}
        assert v4.send(io, (b"\0\0\x08\0head", b"body", fields), remote=LOOPBACK) == (1, 0)
        (entry,), arena = v4.receive(io)
        packet = IP(bytes(arena[entry.offset : entry.offset + entry.length]))
        assert (packet.proto, packet.ttl, packet.tos, packet.flags) == (GRE, 9, 0xBA, "DF")
        assert (packet.src, packet.dst) == ("127.0.0.1", "127.0.0.1")
        assert bytes(packet.payload) == b"\0\0\x08\0headbody"

    def test_the_entry_says_what_is_in_the_header_and_where_it_ends(
        self, io: Any, v4: Sockets
    ) -> None:
        fields = {"ttl": 9, "tos": 0xBA, "dont_fragment": 1}
        local = bytes([127, 0, 0, 9])
        v4.send(io, (b"\0\0\x08\0", b"", fields), remote=LOOPBACK, local=local)
        (entry,), _arena = v4.receive(io)
        expected = Received(
            offset=100 + FRAME_HEADROOM,
            length=24,
            family=4,
            transport=Transport.IP,
            outer_length=20,
            tos=0xBA,
            ttl=9,
        )
        expected.source[:4], expected.destination[:4] = local, LOOPBACK
        assert bytes(entry) == bytes(expected)

    def test_df_chooses_the_socket(self, io: Any, v4: Sockets) -> None:
        assert v4.send(
            io,
            (b"\0\0\x08\0a", b"", PLAIN),
            (b"\0\0\x08\0b", b"", PLAIN | {"dont_fragment": 0}),
            (b"\0\0\x08\0c", b"", PLAIN),
            remote=LOOPBACK,
        ) == (3, 0)
        entries, arena = v4.receive(io)
        packets = [IP(bytes(arena[e.offset : e.offset + e.length])) for e in entries]
        assert [bytes(packet.payload)[-1:] for packet in packets] == [b"a", b"b", b"c"]
        assert ["DF" in packet.flags for packet in packets] == [True, False, True]

    def test_the_source_may_be_chosen(self, io: Any, v4: Sockets) -> None:
        local = bytes([127, 0, 0, 9])
        v4.send(io, (b"\0\0\x08\0", b"", PLAIN), remote=LOOPBACK, local=local)
        (entry,), arena = v4.receive(io)
        assert IP(bytes(arena[entry.offset : entry.offset + entry.length])).src == "127.0.0.9"

    def test_the_device_may_be_chosen(self, io: Any, v4: Sockets) -> None:
        fields: dict[str, Any] = {"remote": LOOPBACK, "interface": 1}
        assert v4.send(io, (b"\0\0\x08\0", b"", PLAIN), **fields) == (1, 0)
        fields["interface"] = 77
        assert v4.send(io, (b"\0\0\x08\0", b"", PLAIN), **fields) == (0, errno.ENODEV)

    def test_an_error_tells_which_datagram_it_is_about(self, io: Any, v4: Sockets) -> None:
        big = (bytes(65536), b"", PLAIN)
        small = (b"\0\0\x08\0", b"", PLAIN)
        sent = v4.send(io, small, small, big, small, remote=LOOPBACK)
        assert sent == (2, errno.EMSGSIZE)
        assert v4.send(io, small, small, big, small, first=1, remote=LOOPBACK) == (
            1,
            errno.EMSGSIZE,
        )
        assert v4.send(io, small, small, big, small, first=3, remote=LOOPBACK) == (1, 0)

    def test_no_route_is_an_error(self, io: Any, v4: Sockets) -> None:
        sent = v4.send(io, (b"\0\0\x08\0", b"", PLAIN), remote=bytes([192, 0, 2, 1]))
        assert sent == (0, errno.ENETUNREACH)

    def test_more_than_one_system_call_takes(self, io: Any, v4: Sockets) -> None:
        v4.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        datagrams = [(b"\0\0\x08\0", bytes([index]), PLAIN) for index in range(150)]
        assert v4.send(io, *datagrams, remote=LOOPBACK) == (150, 0)
        found = list[int]()
        while len(found) < 150:
            entries, arena = v4.receive(io)
            found += [arena[entry.offset + 24] for entry in entries]
        assert found == list(range(150))

    def test_a_datagram_larger_than_its_slot_is_marked(self, io: Any, v4: Sockets) -> None:
        v4.send(io, (b"\0\0\x08\0", bytes(500), PLAIN), remote=LOOPBACK)
        v4.send(io, (b"\0\0\x08\0", b"", PLAIN), remote=LOOPBACK)
        first, second = v4.receive(io, stride=256)[0]
        assert (first.verdict, first.length) == (DropReason.TRUNCATED, 256 - FRAME_HEADROOM)
        assert (second.verdict, second.length) == (DropReason.NONE, 24)
        assert second.offset == 100 + 256 + FRAME_HEADROOM

    def test_at_most_limit_datagrams_are_received(self, io: Any, v4: Sockets) -> None:
        v4.send(io, *[(b"\0\0\x08\0", b"", PLAIN)] * 3, remote=LOOPBACK)
        assert len(v4.receive(io, limit=2)[0]) == 2
        assert len(v4.receive(io, limit=2)[0]) == 1


class TestIPv6:
    def test_what_the_kernel_keeps_of_the_header_comes_beside(self, io: Any, v6: Sockets) -> None:
        fields = {"ttl": 9, "tos": 0xBA, "dont_fragment": 1}
        sent = v6.send(io, (b"\0\0\x08\0head", b"body", fields), remote=LOOPBACK6)
        assert sent == (1, 0)
        (entry,), arena = v6.receive(io)
        assert arena[entry.offset : entry.offset + entry.length] == b"\0\0\x08\0headbody"
        assert (entry.family, entry.tos, entry.ttl) == (6, 0xBA, 9)
        assert (entry.transport, entry.outer_length) == (Transport.IP, 0)
        assert bytes(entry.source) == bytes(entry.destination) == LOOPBACK6
        assert (entry.verdict, entry.tunnel, entry.key) == (0, 0, 0)

    def test_source_and_device_may_be_chosen(self, io: Any, v6: Sockets) -> None:
        fields: dict[str, Any] = {"remote": LOOPBACK6, "local": LOOPBACK6, "interface": 1}
        assert v6.send(io, (b"\0\0\x08\0", b"", PLAIN), **fields) == (1, 0)
        fields["local"] = b"\x20\1\x0d\xb8" + bytes(12)
        sent = v6.send(io, (b"\0\0\x08\0", b"", PLAIN), **fields)
        assert sent == (0, errno.EINVAL)


def sized(size: int, **fields: int) -> tuple[bytes, bytes, dict[str, int]]:
    """Return a datagram of *size* bytes in two pieces."""
    return bytes(4), bytes(size - 4), PLAIN | fields


def this_interval() -> int:
    """Return the interval that it is, which does not end before a test that began in it."""
    interval = int(time.monotonic() + 1) // SENT_INTERVAL
    while int(time.monotonic()) // SENT_INTERVAL < interval:
        time.sleep(0.05)
    return interval


class TestLongest:
    """What a destination keeps of what was sent there."""

    def test_the_longest_of_a_batch_and_none_that_was_refused(self, io: Any, v4: Sockets) -> None:
        v4.send(io, sized(900), sized(1400), sized(24), sized(65600), remote=LOOPBACK)
        assert v4.longest() == (1400, 0)
        v4.send(io, sized(65600), remote=LOOPBACK)
        assert v4.longest() == (0, 0)

    def test_what_is_no_longer_leaves_it(self, io: Any, v4: Sockets) -> None:
        fields = {"sent_interval": this_interval(), "sent_longest": 1000, "sent_before": 1300}
        v4.send(io, sized(1000), remote=LOOPBACK, **fields)
        assert v4.longest() == (1000, 1300)
        v4.send(io, sized(1001), remote=LOOPBACK, **fields)
        assert v4.longest() == (1001, 1300)

    @pytest.mark.parametrize(("passed", "before"), [(1, 1000), (2, 0), (-1, 0), (1 << 31, 0)])
    def test_an_interval_ends(self, io: Any, v4: Sockets, passed: int, before: int) -> None:
        then = (this_interval() - passed) & 0xFFFFFFFF
        fields = {"sent_interval": then, "sent_longest": 1000, "sent_before": 1300}
        v4.send(io, sized(64), remote=LOOPBACK, **fields)
        assert v4.longest() == (64, before)
        assert Destination.from_buffer_copy(v4.place).sent_interval == this_interval()

    def test_what_routers_fragment_meets_no_obstacle(self, io: Any, v4: Sockets) -> None:
        v4.send(io, sized(1400, dont_fragment=0), sized(100), remote=LOOPBACK)
        assert v4.longest() == (100, 0)

    def test_over_ipv6_they_fragment_nothing(self, io: Any, v6: Sockets) -> None:
        v6.send(io, sized(1400, dont_fragment=0), sized(100), remote=LOOPBACK6)
        assert v6.longest() == (1400, 0)


class TestReceive:
    def test_nothing_ready_is_no_error(self, io: Any) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
            receiver.bind(("127.0.0.1", 0))
            assert receive(io, receiver, 4)[0] == []

    def test_a_pending_error_does_not_hide_what_is_readable(self, io: Any) -> None:
        """ECONNREFUSED of a packet sent before, and a packet behind it."""
        with ExitStack() as stack:
            peer, receiver = (
                stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                for _ in range(2)
            )
            peer.bind(("127.0.0.1", 0))
            address = peer.getsockname()
            receiver.connect(address)
            peer.close()
            receiver.send(b"to nobody")
            poll = select.poll()
            poll.register(receiver, select.POLLERR)
            assert poll.poll(5000)
            again = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            again.bind(address)
            again.sendto(b"here I am", receiver.getsockname())
            (entry,), arena = receive(io, receiver, 4)
            assert arena[entry.offset : entry.offset + entry.length] == b"here I am"

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            outer(b"")[:19],
            b"\x55" + outer(bytes(4))[1:],
            b"\x44" + outer(bytes(4))[1:],
            b"\x4f" + outer(bytes(4))[1:],
        ],
        ids=["empty", "short", "version 5", "IHL 4", "IHL beyond the end"],
    )
    def test_a_broken_outer_header_is_marked(self, io: Any, data: bytes) -> None:
        ours, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with ours, other:
            other.send(data)
            (entry,), _arena = receive(io, ours, 4)
        expected = Received(
            offset=100 + FRAME_HEADROOM, length=len(data), family=4, verdict=DropReason.TRUNCATED
        )
        assert bytes(entry) == bytes(expected)

    def test_a_descriptor_that_is_no_socket_is_an_error(self, io: Any) -> None:
        entries = table(Received, 1)
        result = io.receive_datagrams(1 << 20, 4, bytearray(4096), 0, 2048, entries, 1, False)
        assert result == (0, errno.EBADF)
        datagram, place = bytearray(bytes(Datagram(ttl=1))), bytearray(bytes(Destination(family=4)))
        result = io.send_datagrams(1 << 20, 1 << 20, bytearray(64), datagram, 0, 1, place)
        assert result == (0, errno.EBADF)
