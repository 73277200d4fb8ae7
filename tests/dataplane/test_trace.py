"""What people who watch are shown begins with an outer header, whoever has it."""

import socket

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE

from gred.dataplane.batch import Arrivals, EgressBatch, destination_table
from gred.dataplane.layout import Destination, Received
from gred.dataplane.trace import (
    Tap,
    TracedPacket,
    Watcher,
    copy_received,
    trace_received,
    trace_sent,
)
from gred.wire.drop import DropReason
from tests.dataplane.benches import gre, outer
from tests.dataplane.packets import Packet

DATA = gre(Packet().ip(b"payload"))
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
    tap.add(Watcher(shown.append))
    return tap


def shown(arrivals: Arrivals, count: int = 1) -> list[TracedPacket]:
    found = list[TracedPacket]()
    copies = copy_received(arrivals, count)
    trace_received(tap_for(found), arrivals, copies, {0: None, 1: "t1", 2: "t2"}.__getitem__)
    return found


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
    arrivals, found, others = Arrivals(), list[TracedPacket](), list[TracedPacket]()
    tap = tap_for(found)
    asked = list[tuple[str | None, DropReason, bytes]]()

    def wants(tunnel: str | None, reason: DropReason, source: bytes) -> bool:
        asked.append((tunnel, reason, source[:4]))
        return tunnel == "t2"

    some = Watcher(others.append, wants)
    tap.add(some)
    for index, length in enumerate((30, 40, 50)):
        entry = arrivals.datagram(index)
        entry.offset, entry.length, entry.outer_length = 4096 * index, length, 20
        entry.source[:4] = bytes([192, 0, 2, index])
        arrivals.arena[entry.offset : entry.offset + length] = bytes([index]) * length
    copies = copy_received(arrivals, 3)
    arrivals.arena[:10000] = b"x" * 10000  # as decapsulation does
    for index, verdict in enumerate((DropReason.NO_TUNNEL, DropReason.NONE, DropReason.CSUM_ERR)):
        arrivals.datagram(index).tunnel, arrivals.datagram(index).verdict = index, verdict
    trace_received(tap, arrivals, copies, {0: None, 1: "t1", 2: "t2"}.get)
    assert [packet.data for packet in found] == [b"\0" * 30, b"\1" * 40, b"\2" * 50]
    assert [packet.tunnel for packet in found] == [None, "t1", "t2"]
    assert others == found[2:]
    assert asked[0] == (None, DropReason.NO_TUNNEL, bytes([192, 0, 2, 0]))
    tap.remove(some)
    tap.remove(some)
    assert len(tap.watchers) == 1
