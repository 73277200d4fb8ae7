"""What people who watch are shown begins with an outer header, whoever has it."""

import socket
from typing import Literal

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE

from gred.dataplane.batch import Arrivals, EgressBatch, destination_table
from gred.dataplane.layout import Destination, Received, Transport
from gred.dataplane.trace import (
    _REASONS,
    Everything,
    Tap,
    TracedPacket,
    _rows,
    copy_received,
    trace_received,
    trace_refused,
    trace_sent,
)
from gred.wire.drop import DropReason
from tests.dataplane.benches import gre, outer
from tests.dataplane.packets import Packet

DATA = gre(Packet().ip(b"payload"))
OWNERS = {1: "t1", 2: "t2"}
HERE6, THERE6 = (socket.inet_pton(socket.AF_INET6, one) for one in ("fd00::1", "fd00::2"))


def traced(data: bytes, **fields: int | bytes) -> bytes:
    """Return what is shown of a datagram that arrived as *data*."""
    arrivals = Arrivals()
    entry: Received = arrivals.datagram(0)
    entry.offset, entry.length = 64, len(data)
    arrivals.arena[64 : 64 + len(data)] = data
    for name, value in fields.items():
        if isinstance(value, bytes):
            getattr(entry, name)[:] = value.ljust(16, b"\0")
        else:
            setattr(entry, name, value)
    (packet,) = shown(arrivals)
    return packet.data


def tap_for(shown: list[TracedPacket]) -> Tap:
    tap = Tap()
    tap.add(Everything(shown.append))
    return tap


def shown(arrivals: Arrivals, count: int = 1) -> list[TracedPacket]:
    found = list[TracedPacket]()
    tap = tap_for(found)
    trace_received(tap, arrivals, count, copy_received(tap, arrivals, count), OWNERS.get)
    return found


class Some:
    """Takes packets of t2, while there is room."""

    def __init__(self) -> None:
        self.taken: list[TracedPacket] = []
        self.take = self.taken.append
        self.asked: list[tuple[str | None, DropReason, bytes, int]] = []
        self.room = True

    def wants(self, tunnel: str | None, reason: DropReason, source: bytes, count: int) -> bool:
        self.asked.append((tunnel, reason, source[:4], count))
        return self.room and tunnel == "t2"


def test_a_header_that_the_kernel_left_is_shown_as_it_is() -> None:
    data = outer(DATA, ttl=9, options=b"\1" * 4)
    assert traced(data, family=4, outer_length=24, source=bytes([192, 0, 2, 2])) == data


@pytest.mark.parametrize("verdict", [DropReason.NONE, DropReason.TRUNCATED])
def test_a_header_that_the_kernel_took_off_is_made_again(verdict: DropReason) -> None:
    told: dict[str, int | bytes] = {
        "family": 6,
        "tos": 0x42,
        "ttl": 9,
        "source": HERE6,
        "destination": THERE6,
    }
    packet = IPv6(traced(DATA, verdict=verdict, **told))
    assert (packet.src, packet.dst, packet.tc, packet.hlim) == ("fd00::1", "fd00::2", 0x42, 9)
    assert bytes(packet.payload) == DATA


@pytest.mark.parametrize("family", [4, 6])
def test_a_header_of_udp_is_made_again_too(family: int) -> None:
    kind, here = (IP, bytes([192, 0, 2, 1])) if family == 4 else (IPv6, HERE6)
    told: dict[str, int | bytes] = {"family": family, "ttl": 9, "source": here, "destination": here}
    packet = kind(traced(DATA, transport=Transport.UDP, **told))
    assert packet[UDP].dport == 4754
    assert packet[UDP].len == 8 + len(DATA)
    assert bytes(packet[UDP].payload) == DATA


def test_what_is_no_packet_is_shown_as_it_came() -> None:
    assert traced(b"\x44broken", family=4, verdict=DropReason.TRUNCATED) == b"\x44broken"


@pytest.mark.parametrize("dont_fragment", [0, 1])
def test_what_is_sent_has_the_header_that_it_will_get(dont_fragment: int) -> None:
    batch, seen = EgressBatch(), list[TracedPacket]()
    batch.arena[64 : 64 + len(DATA)] = DATA
    entry = batch.datagram(0)
    entry.head_offset, entry.head_length, entry.body_offset, entry.body_length = 64, 10, 74, 14
    entry.tos, entry.ttl, entry.dont_fragment, entry.destination = 0x42, 9, dont_fragment, 1
    places = destination_table(2)
    row = Destination.from_buffer(places, len(bytes(Destination())))
    row.family = 4
    row.remote[:4] = bytes([192, 0, 2, 2])
    trace_sent(tap_for(seen), "t", places, batch, 0, 1)
    (packet,) = seen
    assert (packet.direction, packet.tunnel) == ("tx", "t")
    header = IP(packet.data)
    assert not any(packet.data[12:16]), "the kernel chooses it"
    assert (header.dst, header.tos, header.ttl) == ("192.0.2.2", 0x42, 9)
    assert ("DF" in header.flags) is bool(dont_fragment)
    assert header.len == 20 + 24
    assert bytes(header[GRE]) == DATA[:24]


def test_what_arrived_is_shown_as_it_was_with_what_became_of_it() -> None:
    arrivals, found, some = Arrivals(), list[TracedPacket](), Some()
    tap = tap_for(found)
    tap.add(some)
    fates = ((0, 6), (0, 6), (1, 0), (1, 0), (2, 0), (2, 8))  # tunnel, verdict
    for index, (tunnel, verdict) in enumerate(fates):
        entry = arrivals.datagram(index)
        entry.offset, entry.length, entry.outer_length = 4096 * index, 30 + index, 20
        entry.tunnel, entry.verdict = tunnel, verdict
        entry.source[:4] = bytes([192, 0, 2, index])
        arrivals.arena[entry.offset : entry.offset + entry.length] = bytes([index]) * entry.length
    copies = copy_received(tap, arrivals, 6)
    arrivals.arena[:30000] = b"x" * 30000  # as decapsulation does
    trace_received(tap, arrivals, 6, copies, OWNERS.get)
    assert [packet.data for packet in found] == [bytes([one]) * (30 + one) for one in range(6)]
    assert [packet.tunnel for packet in found] == [None, None, "t1", "t1", "t2", "t2"]
    assert [packet.reason for packet in found] == [verdict for _tunnel, verdict in fates]
    assert some.taken == found[4:]
    assert some.asked == [
        (None, DropReason.NO_TUNNEL, bytes([192, 0, 2, 0]), 1),
        (None, DropReason.NO_TUNNEL, bytes([192, 0, 2, 1]), 1),
        ("t1", DropReason.NONE, bytes([192, 0, 2, 2]), 2),
        ("t2", DropReason.NONE, bytes([192, 0, 2, 4]), 1),
        ("t2", DropReason.CSUM_ERR, bytes([192, 0, 2, 5]), 1),
    ]


def test_nothing_is_copied_for_who_has_no_room() -> None:
    arrivals, batch, some = Arrivals(), EgressBatch(), Some()
    tap = Tap()
    tap.add(some)
    some.room = False
    copies = copy_received(tap, arrivals, 9)
    assert copies == []
    trace_received(tap, arrivals, 9, copies, OWNERS.get)
    trace_sent(tap, "t2", destination_table(1), batch, 2, 7, DropReason.DENIED)
    trace_sent(tap, "t2", destination_table(1), batch, 7, 7)
    assert some.taken == []
    assert some.asked == [
        (None, DropReason.NONE, bytes(4), 9),
        ("t2", DropReason.DENIED, b"", 5),
    ]
    tap.remove(some)
    tap.remove(some)
    assert tap.watchers == ()


def test_what_is_read_of_what_arrived_is_what_it_has() -> None:
    arrivals = Arrivals()
    entry = arrivals.datagram(1)
    names = [name for name, *_ in Received._fields_ if not name.startswith(("inner", "key"))]
    for number, name in enumerate(names[:-2], 1):
        setattr(entry, name, number)
    entry.source[:], entry.destination[:] = HERE6, THERE6
    _other, row = _rows(arrivals, 2)
    assert row == (*range(1, 11), HERE6, THERE6)
    assert tuple(map(DropReason, range(len(DropReason)))) == _REASONS


@pytest.mark.parametrize("is_ethernet", [False, True])
def test_what_is_not_sent_is_shown_as_it_is_inside(is_ethernet: bool) -> None:
    batch, seen, some = EgressBatch(), list[TracedPacket](), Some()
    batch.arena[64:70] = b"packet"
    batch.frame(3).offset, batch.frame(3).length = 64, 6
    tap = tap_for(seen)
    trace_refused(tap, "t1", batch, 3, DropReason.NO_REMOTE, is_ethernet=is_ethernet)
    link: Literal["ip", "ethernet"] = "ethernet" if is_ethernet else "ip"
    assert seen == [TracedPacket("tx", "t1", b"packet", DropReason.NO_REMOTE, link)]
    tap = Tap()
    tap.add(some)
    trace_refused(tap, "t1", batch, 3, DropReason.NO_REMOTE, is_ethernet=is_ethernet)
    assert some.taken == []
    assert some.asked == [("t1", DropReason.NO_REMOTE, b"", 1)]
