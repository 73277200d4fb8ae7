"""What people who watch are shown begins with an outer header, whoever has it."""

import socket

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import GRE

from gred.dataplane.batch import Arrivals, EgressBatch, destination_table
from gred.dataplane.layout import Destination, Received
from gred.dataplane.trace import TracedPacket, trace_received, trace_sent
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
    (packet,) = trace_received(arrivals, 1)
    return packet.data


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
    batch, shown = EgressBatch(), list[TracedPacket]()
    batch.arena[64 : 64 + len(DATA)] = DATA
    entry = batch.datagram(0)
    entry.head_offset, entry.head_length, entry.body_offset, entry.body_length = 64, 10, 74, 14
    entry.tos, entry.ttl, entry.dont_fragment, entry.destination = 0x42, 9, dont_fragment, 1
    places = destination_table(2)
    row = Destination.from_buffer(places, len(bytes(Destination())))
    row.family = 4
    row.remote[:4] = bytes([192, 0, 2, 2])
    trace_sent(shown.append, "t", places, batch, 0, 1)
    (packet,) = shown
    assert (packet.direction, packet.tunnel) == ("tx", "t")
    header = IP(packet.data)
    assert not any(packet.data[12:16]), "the kernel chooses it"
    assert (header.dst, header.tos, header.ttl) == ("192.0.2.2", 0x42, 9)
    assert ("DF" in header.flags) is bool(dont_fragment)
    assert header.len == 20 + 24
    assert bytes(header[GRE]) == DATA[:24]
