"""Datagrams that follow a probe packet, through real sockets, routes, filters and policies."""

import contextlib
import ctypes
import errno
import os
import re
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from gred.dataplane import io
from gred.dataplane.layout import PATHS, Datagram, Destination, PathEntry
from gred.dataplane.linux import SO_MARK, SO_RCVBUFFORCE
from gred.dataplane.tun import TunDevice
from gred.dataplane.underlay.bypass import Bypass
from gred.dataplane.underlay.contract import PLAIN, Family, SendOptions
from gred.dataplane.underlay.raw_senders import open_sender
from gred.lab.hosts import UNDERLAY, Lab, LabError
from tests import require
from tests.nft import nft

GRE = 47
ETH_P_IPV6 = 0x86DD
ADDRESSES: dict[Family, tuple[str, str]] = {
    4: ("192.0.2.1", "192.0.2.2"),
    6: ("2001:db8::1", "2001:db8::2"),
}
FAR_FUTURE = 1 << 62


def head(flow: int) -> bytes:
    """Return the GRE header of an IPv4 packet, and such a packet, of one flow of UDP."""
    return bytes.fromhex("00000800") + bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=flow))


@dataclass
class Datagrams:
    """What to send: sizes and fields; the number of each is in its payload."""

    sizes: Sequence[int]
    fields: Sequence[dict[str, int]] = ()
    flow: int = 1

    def contents(self) -> list[bytes]:
        start = head(self.flow)
        return [
            start + struct.pack("!H", number) + bytes(size - len(start) - 2)
            for number, size in enumerate(self.sizes)
        ]


class Road:
    """Two hosts, the senders of one and a receiver at the other."""

    def __init__(self, family: Family, options: SendOptions = PLAIN) -> None:
        self.family: Family = family
        self.lab = Lab(f"gredroad{family}")
        self._options = options

    def __enter__(self) -> Self:
        self.lab.__enter__()
        self.left, self.right = self.lab.host("left"), self.lab.host("right")
        self.lab.wire(self.left, self.right, queues=8)
        self.local, self.remote = ADDRESSES[self.family]
        length = 24 if self.family == 4 else 64
        self.left.address(f"{self.local}/{length}")
        self.right.address(f"{self.remote}/{length}")
        self.bypass = self.left.inside(lambda: Bypass(self.family, self._options))
        self.no_df = self.left.inside(
            lambda: open_sender(self.family, self._options, dont_fragment=False)
        )
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        self.receiver = self.right.socket(kind, socket.SOCK_RAW, GRE)
        self.receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        self.entry = bytearray(ctypes.sizeof(PathEntry))
        # The next hop's address is asked for once, so that it is known from here on.
        self.send(Datagrams([100]))
        assert self.receive(1)
        return self

    def __exit__(self, *exception: object) -> None:
        self.bypass.close()
        self.no_df.close()
        self.receiver.close()
        self.lab.close()

    @property
    def known(self) -> PathEntry:
        return PathEntry.from_buffer(self.entry)

    def counts(self) -> tuple[int, int, int]:
        """Return how many were probes, how many of these showed no path, and how many followed."""
        return self.known.probes, self.known.negative, self.known.followed

    def send(
        self, datagrams: Datagrams, *, packet_fd: int | None = None, **fields: Any
    ) -> tuple[int, int]:
        arena = bytearray()
        entries = bytearray()
        for index, content in enumerate(datagrams.contents()):
            own = datagrams.fields[index] if datagrams.fields else {}
            values = {"ttl": 64, "dont_fragment": 1, **own}
            half = len(content) // 2 if index % 2 else 0  # every second one in two pieces
            entries += Datagram(
                head_offset=len(arena),
                head_length=len(content) - half,
                body_offset=len(arena) + len(content) - half,
                body_length=half,
                **values,
            )
            arena += content
        remote = fields.pop("remote", self.remote)
        destination = Destination(family=self.family, **fields)
        kind = socket.AF_INET if self.family == 4 else socket.AF_INET6
        for name, address in (("local", self.local), ("remote", remote)):
            getattr(destination, name)[:] = socket.inet_pton(kind, address).ljust(16, b"\0")
        self.place = bytearray(bytes(destination))
        return io.send_bypassing(
            self.bypass.probe.fileno(),
            self.no_df.fileno(),
            self.bypass.packet.fileno() if packet_fd is None else packet_fd,
            self.entry,
            arena,
            entries,
            0,
            len(datagrams.sizes),
            self.place,
        )

    def receive(self, count: int) -> list[bytes]:
        """Return the next *count* packets: with their outer header over IPv4, without over IPv6."""
        packets = list[bytes]()
        while len(packets) < count:
            assert select.select([self.receiver], [], [], 5)[0], f"only {len(packets)} arrived"
            packets.append(self.receiver.recv(65536))
        return packets

    def contents(self, count: int) -> list[bytes]:
        """Return what the next *count* packets carried."""
        skip = 20 if self.family == 4 else 0
        return [packet[skip:] for packet in self.receive(count)]

    def nothing_more(self) -> bool:
        # What was sent over a veth pair is there when the call returns.
        return not select.select([self.receiver], [], [], 0)[0]

    def tc(self, *arguments: str) -> str:
        path = require.program("tc", package="iproute2")
        return self.lab.run([path, "-n", self.left.namespace, "-s", *arguments])

    @contextlib.contextmanager
    def wire(self) -> Iterator[Callable[[int], list[tuple[int, bytes]]]]:
        """Yield what returns flow label and contents of the next GRE packets over IPv6."""
        kind = socket.AF_PACKET, socket.SOCK_DGRAM
        with self.right.socket(*kind, socket.htons(ETH_P_IPV6)) as seen:
            seen.settimeout(5)

            def read(count: int) -> list[tuple[int, bytes]]:
                found = list[tuple[int, bytes]]()
                while len(found) < count:
                    packet = seen.recv(65536)
                    if packet[6] == GRE:
                        found.append((int.from_bytes(packet[1:4]) & 0xFFFFF, packet[40:]))
                return found

            yield read

    def queued(self) -> list[int]:
        """Return how many packets each queue has had."""
        shown = self.tc("class", "show", "dev", UNDERLAY)
        return [int(count) for count in re.findall(r"Sent \d+ bytes (\d+) pkt", shown)]

    def translate(self) -> None:
        """Have the left host send from another address."""
        self.left.address("192.0.2.77/24")
        nft(
            self.left,
            "add table ip t",
            "add chain ip t p { type nat hook postrouting priority 100; }",
            "add rule ip t p snat to 192.0.2.77",
        )


@pytest.fixture
def open_road() -> Iterator[Callable[..., Road]]:
    require.root()
    require.extension()
    require.program("ip", package="iproute2")
    opened = list[Road]()

    def open_one(family: Family = 4, options: SendOptions = PLAIN) -> Road:
        opened.append(Road(family, options))
        return opened[-1].__enter__()

    yield open_one
    for road in opened:
        road.__exit__()


@pytest.fixture
def road(open_road: Callable[..., Road]) -> Road:
    return open_road()


EIGHT = Datagrams([1400] * 8)


def labelled(sizes: Sequence[int], labels: Sequence[int], flow: int = 1) -> Datagrams:
    return Datagrams(sizes, [{"flow_label": label} for label in labels], flow)


class TestFollowing:
    def test_one_goes_ahead_and_the_others_follow(self, road: Road) -> None:
        assert road.send(EIGHT) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 7)

    def test_their_headers_are_like_the_first_one(self, road: Road) -> None:
        sizes = [1400, 1400, 60, 1001, 1400]
        assert road.send(Datagrams(sizes, [{"ttl": 9, "tos": 0x42}] * 5)) == (5, 0)
        packets = [IP(raw) for raw in road.receive(5)]
        assert road.counts() == (1, 0, 4)
        assert [packet.len for packet in packets] == [20 + size for size in sizes]
        for number, packet in enumerate(packets):
            assert (packet.ttl, packet.tos, packet.flags) == (9, 0x42, "DF")
            assert (packet.src, packet.dst, packet.proto) == (road.local, road.remote, GRE)
            assert packet.id == (packets[0].id + number) & 0xFFFF
            again = packet.copy()
            del again.chksum
            assert bytes(again) == bytes(packet)

    def test_the_longest_is_kept_whichever_way_it_went(self, road: Road) -> None:
        for sizes in ([1400, 1399, 60, 1001, 1400], [60, 60, 60, 60, 1399, 60, 60, 60]):
            assert road.send(Datagrams(sizes)) == (len(sizes), 0)
            assert Destination.from_buffer_copy(road.place).sent_longest == max(sizes)

    def test_numbers_begin_again_behind_the_last(self, road: Road) -> None:
        road.send(EIGHT)
        road.receive(8)
        road.known.until = FAR_FUTURE
        road.known.header[4:6] = b"\xff\xfe"
        road.send(EIGHT)
        assert [IP(raw).id for raw in road.receive(8)] == [0xFFFF, *range(7)]

    def test_an_entry_is_good_for_later_ones(self, road: Road) -> None:
        road.send(EIGHT)
        road.known.until = FAR_FUTURE
        assert road.send(Datagrams([1400, 1400])) == (2, 0)
        assert road.contents(10)[8:] == Datagrams([1400, 1400]).contents()
        assert road.counts() == (1, 0, 9)

    def test_but_not_for_ever(self, road: Road) -> None:
        road.send(EIGHT)
        assert road.known.until < FAR_FUTURE
        road.known.until = 1
        road.send(EIGHT)
        assert road.counts() == (2, 0, 14)
        assert road.contents(16) == EIGHT.contents() * 2

    def test_for_a_few_it_does_not_pay(self, road: Road) -> None:
        assert road.send(Datagrams([1400] * 3)) == (3, 0)
        assert road.contents(3) == Datagrams([1400] * 3).contents()
        assert road.counts() == (0, 0, 0)

    def test_nobody_follows_one_that_is_shorter(self, road: Road) -> None:
        """What the path carries was asked for the probe packet alone."""
        sizes = Datagrams([100, 100, 100, 100, 1400, 1400, 1400, 1400, 100])
        assert road.send(sizes) == (9, 0)
        assert road.contents(9) == sizes.contents()
        assert road.counts() == (2, 0, 7)

    @pytest.mark.parametrize("field", ["tos", "ttl"])
    def test_nobody_follows_one_that_looks_different(self, road: Road, field: str) -> None:
        road.send(EIGHT)
        road.known.until = FAR_FUTURE
        assert road.send(Datagrams([1400] * 3, [{field: 2}] * 3)) == (3, 0)
        assert {getattr(IP(raw), field) for raw in road.receive(11)[8:]} == {2}
        assert road.counts() == (1, 0, 7)

    def test_nobody_follows_one_that_went_elsewhere(self, road: Road) -> None:
        """The same number may stand for another remote when one has been learned."""
        road.right.address("192.0.2.99/24")
        road.send(EIGHT)
        road.known.until = FAR_FUTURE
        assert road.send(Datagrams([1400] * 3), remote="192.0.2.99") == (3, 0)
        assert {IP(raw).dst for raw in road.receive(11)[8:]} == {"192.0.2.99"}
        assert road.counts() == (1, 0, 7)

    def test_what_may_be_fragmented_goes_by_itself(self, road: Road) -> None:
        assert road.send(Datagrams([1400] * 8, [{"dont_fragment": 0}] * 8)) == (8, 0)
        assert {str(IP(raw).flags) for raw in road.receive(8)} == {""}
        assert road.counts() == (0, 0, 0)

    @pytest.mark.parametrize(
        ("tos", "probes"), [(0x10, 0), (0x08, 0), (0xB8, 0), (0x04, 1), (3, 1)]
    )
    def test_priority_is_not_lost(self, road: Road, tos: int, probes: int) -> None:
        """The kernel derives one from TOS for what raw sockets send: ip_tos2prio."""
        assert road.send(Datagrams([1400] * 8, [{"tos": tos}] * 8)) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts()[0] == probes

    def test_a_packet_socket_that_fails_loses_nothing(self, road: Road) -> None:
        with road.left.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            assert road.send(EIGHT, packet_fd=other.fileno()) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 0)
        assert road.send(EIGHT) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 0), "it is not tried again at once"

    def test_more_than_one_chunk(self, road: Road) -> None:
        many = Datagrams([200] * 150)
        assert road.send(many) == (150, 0)
        assert road.contents(150) == many.contents()
        assert sum(road.counts()) == 150

    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from([60, 600, 1400]),
                st.sampled_from([0, 2, 0x10]),
                st.sampled_from([64, 3]),
                st.sampled_from([1, 1, 1, 0]),
            ),
            max_size=40,
        )
    )
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_nothing_is_lost_or_changes_places(
        self, road: Road, rows: list[tuple[int, int, int, int]]
    ) -> None:
        names = "tos", "ttl", "dont_fragment"
        fields = [dict(zip(names, row[1:], strict=True)) for row in rows]
        datagrams = Datagrams([row[0] for row in rows], fields)
        assert road.send(datagrams) == (len(rows), 0)
        packets = road.receive(len(rows))
        assert [raw[20:] for raw in packets] == datagrams.contents()
        for raw, field in zip(packets, fields, strict=True):
            packet = IP(raw)
            found = {"tos": packet.tos, "ttl": packet.ttl, "dont_fragment": bool(packet.flags.DF)}
            assert found == field


class TestIPv6:
    def test_one_goes_ahead_and_the_others_follow(self, open_road: Callable[..., Road]) -> None:
        road = open_road(6)
        assert road.send(labelled(EIGHT.sizes, [0x12345] * 8)) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 7)
        header = IPv6(bytes(road.known.header[:40]))
        assert (header.fl, header.plen, header.nh) == (0x12345, 1400, GRE)

    def test_every_size_and_class(self, open_road: Callable[..., Road]) -> None:
        road = open_road(6, SendOptions(auto_flow_label=False))
        sizes = Datagrams([1400, 60, 1399, 700], [{"tos": 0xB9, "ttl": 7}] * 4)
        assert road.send(sizes) == (4, 0)
        assert road.contents(4) == sizes.contents()
        assert road.counts() == (1, 0, 3)
        header = IPv6(bytes(road.known.header[:40]))
        assert (header.tc, header.hlim) == (0xB9, 7)

    def test_nobody_follows_one_of_another_label(self, open_road: Callable[..., Road]) -> None:
        """Routers, and this host, may choose between paths by it."""
        road = open_road(6)
        labels = [0x20] * 4 + [0x30] * 3 + [0x20] * 3
        sent = labelled([1400] * 10, labels)
        with road.wire() as seen:
            assert road.send(sent) == (10, 0)
            assert [label for label, _ in seen(10)] == labels
        assert road.contents(10) == sent.contents()
        assert road.counts() == (1, 0, 6)

    def test_each_label_has_its_entry(self, open_road: Callable[..., Road]) -> None:
        road = open_road(6)
        road.entry = bytearray(ctypes.sizeof(PathEntry) * PATHS)
        entries = (PathEntry * PATHS).from_buffer(road.entry)
        road.send(labelled([1400] * 8, [0x20] * 4 + [0xFFFF1] * 4))
        assert [(row.probes, row.followed) for row in entries[:2]] == [(1, 3), (1, 3)]
        for row in entries[:2]:
            row.until = FAR_FUTURE
        labels = [0x20, 0xFFFF1, 0xFFFF1, 0x30, 0x20, 0x2F, 0xFFFF1, 0x20]
        sent = labelled([1400, 60, 1001, 1400, 9 * 60, 700, 1400, 1300], labels)
        with road.wire() as seen:
            assert road.send(sent) == (8, 0)
            assert [label for label, _ in seen(8)] == labels
        assert road.contents(16)[8:] == sent.contents()
        assert [(row.probes, row.followed) for row in entries[:2]] == [(1, 6), (1, 6)]
        assert not any(row.probes or row.followed for row in entries[2:])

    def test_a_label_that_the_host_changes_is_not_followed(
        self, open_road: Callable[..., Road]
    ) -> None:
        road = open_road(6)
        nft(
            road.left,
            "add table ip6 t",
            "add chain ip6 t o { type filter hook output priority 0; }",
            "add rule ip6 t o meta l4proto 47 ip6 flowlabel set 5",
        )
        assert road.send(labelled([1400] * 8, [0x12345] * 8)) == (8, 0)
        assert road.counts() == (1, 1, 0)

    def test_with_an_encapsulation_limit(self, open_road: Callable[..., Road]) -> None:
        road = open_road(6, SendOptions(encapsulation_limit=5, auto_flow_label=False))
        assert road.send(EIGHT) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 7)
        assert road.known.header_length == 48
        assert bytes(road.known.header[40:48]) == bytes((GRE, 0, 4, 1, 5, 1, 1, 0))


class TestPolicy:
    """What the host does to packets holds for those that follow."""

    def test_a_filter_refuses_them(self, road: Road) -> None:
        nft(
            road.left,
            "add table ip t",
            "add chain ip t o { type filter hook output priority 0; }",
            "add rule ip t o meta l4proto 47 drop",
        )
        assert road.send(EIGHT) == (0, errno.EPERM)
        assert road.nothing_more()

    def test_translated_addresses_are_not_followed(self, road: Road) -> None:
        road.translate()
        assert road.send(EIGHT) == (8, 0)
        assert {IP(raw).src for raw in road.receive(8)} == {"192.0.2.77"}
        assert road.counts() == (1, 1, 0)

    def test_an_ipsec_policy_holds(self, road: Road) -> None:
        ends = "src", f"{road.local}/32", "dst", f"{road.remote}/32", "proto", "47"
        road.left.ip("xfrm", "policy", "add", *ends, "dir", "out", "action", "block")
        assert road.send(EIGHT) == (0, errno.EPERM)
        assert road.nothing_more()

    def test_a_routing_rule_holds(self, road: Road) -> None:
        road.left.ip("rule", "add", "ipproto", "gre", "unreachable")
        assert road.send(EIGHT) == (0, errno.ENETUNREACH)
        assert road.nothing_more()

    def test_the_mtu_of_the_device_holds(self, road: Road) -> None:
        road.left.ip("link", "set", "dev", UNDERLAY, "mtu", "1300")
        assert road.send(EIGHT) == (0, errno.EMSGSIZE)
        assert road.send(Datagrams([1280] * 4)) == (4, 0)
        assert road.contents(4) == Datagrams([1280] * 4).contents()
        assert road.counts() == (1, 0, 3)

    def test_a_gateway_is_the_next_hop(self, road: Road) -> None:
        road.right.ip("addr", "add", "198.51.100.1/32", "dev", "lo")
        road.left.ip("route", "add", "198.51.100.0/24", "via", road.remote)
        assert road.send(EIGHT, remote="198.51.100.1") == (8, 0)
        assert {IP(raw).dst for raw in road.receive(8)} == {"198.51.100.1"}
        assert road.counts() == (1, 0, 7)

    def test_a_next_hop_that_is_not_known_yet_is_not_followed(self, road: Road) -> None:
        road.left.ip("neigh", "flush", "dev", UNDERLAY)
        road.right.ip("link", "set", UNDERLAY, "arp", "off")
        few = Datagrams([100] * 3)
        assert road.send(EIGHT) == (8, 0)
        assert road.counts() == (1, 1, 0)
        assert road.send(EIGHT) == (8, 0)
        assert road.counts() == (1, 1, 0), "nobody is sent ahead again at once"
        assert road.send(few) == (3, 0)
        assert road.nothing_more()

    def test_a_host_is_not_reached_past_its_own_routing(self, road: Road) -> None:
        """What enters the loopback device by a packet socket is dropped: it has no route."""
        kind = socket.AF_INET, socket.SOCK_RAW, GRE
        with road.left.socket(*kind) as receiver:
            assert road.send(EIGHT, remote=road.local) == (8, 0)
            found = [receiver.recv(65536)[20:] for _ in range(8)]
        assert found == EIGHT.contents()
        assert road.counts() == (1, 1, 0)

    def test_a_device_that_goes_down_loses_no_verdict(self, road: Road) -> None:
        road.send(EIGHT)
        road.known.until = FAR_FUTURE
        road.left.ip("link", "set", UNDERLAY, "down")
        assert road.send(EIGHT) == (0, errno.ENETUNREACH)

    def test_a_device_without_ethernet_headers(self, road: Road) -> None:
        require.tun()
        device = road.left.inside(lambda: TunDevice.open("tun0", offload=False))
        try:
            road.left.ip("link", "set", "tun0", "up")
            road.left.ip("route", "add", "203.0.113.0/24", "dev", "tun0")
            assert road.send(EIGHT, remote="203.0.113.9") == (8, 0)
            found = [os.read(device.fileno(), 2000) for _ in range(8)]
        finally:
            device.close()
        assert [raw[20:] for raw in found] == EIGHT.contents()
        assert {IP(raw).dst for raw in found} == {"203.0.113.9"}
        assert road.counts() == (1, 0, 7)

    @pytest.mark.parametrize("family", [4, 6])
    def test_all_wait_in_one_queue(self, open_road: Callable[..., Road], family: Family) -> None:
        """Else those that go the ordinary way overtake the others."""
        road = open_road(family)
        road.tc("qdisc", "add", "dev", UNDERLAY, "root", "mq")
        for flow in range(1, 6):
            before, road.known.until = road.queued(), 0
            assert road.send(labelled([1400] * 8, [7] * 8, flow)) == (8, 0)
            few = Datagrams([1300] * 3, [{"ttl": 9, "flow_label": 7}] * 3, flow)
            assert road.send(few) == (3, 0)
            assert road.counts() == (flow, 0, 7 * flow)
            grown = [now - was for now, was in zip(road.queued(), before, strict=True)]
            # Neighbours may have been asked for besides.
            assert max(grown) >= 11
            assert sum(grown) - max(grown) <= 2

    def test_a_full_queue_is_a_drop_and_shows_no_path_later(self, road: Road) -> None:
        rate = "rate", "8bit", "burst", "1600", "limit", "2900"
        road.tc("qdisc", "add", "dev", UNDERLAY, "root", "tbf", *rate)
        sent, error = road.send(EIGHT)
        assert (error, sent < 8) == (errno.ENOBUFS, True)
        road.known.until = 0
        # A probe packet that is dropped has been shown all the same.
        assert road.send(EIGHT) == (0, errno.ENOBUFS)
        road.tc("qdisc", "del", "dev", UNDERLAY, "root")
        road.known.probes = road.known.negative = road.known.followed = 0
        while not road.nothing_more():
            road.receive(1)
        road.translate()
        assert road.send(EIGHT) == (8, 0)
        assert road.counts() == (1, 1, 0)

    def test_what_is_wrapped_up_below_is_not_followed(self, road: Road) -> None:
        """The device takes the remote from the route, which a packet socket has not got."""
        try:
            road.left.ip(*("link", "add", "v0", "type", "vxlan", "external", "dstport", "4789"))
        except LabError as error:
            require.lacks(f"needs a kernel with vxlan: {error}")
        road.left.ip("addr", "add", "10.79.1.1/24", "dev", "v0")
        road.left.ip("link", "set", "v0", "up")
        encap = "encap", "ip", "id", "5", "dst", road.remote, "ttl", "9"
        road.left.ip("route", "add", "10.79.0.0/24", *encap, "dev", "v0")
        road.left.ip("neigh", "add", "10.79.0.9", "lladdr", "02:00:00:00:00:09", "dev", "v0")
        with road.right.socket(socket.AF_INET, socket.SOCK_DGRAM) as wrapped:
            wrapped.bind((road.remote, 4789))
            wrapped.settimeout(5)
            assert road.send(Datagrams([1200] * 8), remote="10.79.0.9") == (8, 0)
            for _ in range(8):
                assert wrapped.recv(2000)
        assert road.counts() == (1, 1, 0)

    def test_an_error_that_waits_is_no_probe_packet(self, road: Road) -> None:
        """EMSGSIZE is queued where probe packets are seen."""
        assert road.send(Datagrams([1700])) == (0, errno.EMSGSIZE)
        assert road.send(EIGHT) == (8, 0)
        assert road.contents(8) == EIGHT.contents()
        assert road.counts() == (1, 0, 7)


def test_marks_are_those_of_the_pair(open_road: Callable[..., Road]) -> None:
    road = open_road(4, SendOptions(mark=7))
    assert road.bypass.packet.getsockopt(socket.SOL_SOCKET, SO_MARK) == 7
    road.left.ip("rule", "add", "fwmark", "7", "lookup", "100")
    road.left.ip("route", "add", "blackhole", "default", "table", "100")
    assert road.send(EIGHT)[1] in {errno.EINVAL, errno.ENETUNREACH}


def test_a_damaged_entry_is_refused() -> None:
    require.extension()
    entry = PathEntry(header_length=49)
    arguments = bytearray(64), bytearray(0), 0, 0, bytearray(0)
    with pytest.raises(ValueError, match="smaller"):
        io.send_bypassing(-1, -1, -1, bytearray(bytes(entry)), *arguments)
    with pytest.raises(ValueError, match="smaller"):
        io.send_bypassing(-1, -1, -1, bytearray(8), *arguments)
