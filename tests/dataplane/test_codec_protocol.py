"""Devices that tell the protocol type (struct tun_pi) carry one type more than IP: both twins."""

import struct
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag
from gred.wire.drop import DropReason
from tests.dataplane.benches import Egress, Ingress, gre, make_record, outer
from tests.dataplane.packets import Tcp, Udp, pattern

MPLS = 0x8847
LABELLED = struct.pack("!I", 1000 << 12 | 1 << 8 | 64) + Udp(payload=b"x").build()
PLAIN = {4: Udp(payload=b"x").build(), 6: Udp(version=6, payload=b"x").build()}


def record(**fields: Any) -> Any:
    return make_record(flags=TunnelFlag.PACKET_INFO, protocol=MPLS, **fields)


def sent(codec: Any, frame: bytes, protocol: int, **fields: Any) -> Egress:
    bench = Egress([frame], record(**fields))
    offset = bench.headers_begin - (len(frame) + 63) // 64 * 64
    assert bench.arena[offset : offset + len(frame)] == frame
    bench.arena[offset - 4 : offset] = struct.pack("!HH", 0, protocol)
    bench.run(codec)
    return bench


def test_the_configured_type_is_sent_as_it_is(codec: Any) -> None:
    (datagram,) = sent(codec, LABELLED, MPLS, ttl=9).sent(1)
    assert datagram.data == struct.pack("!HH", 0, MPLS) + LABELLED
    assert (datagram.tos, datagram.ttl) == (0, 9)


@pytest.mark.parametrize("version", [4, 6])
def test_ip_is_sent_beside_it(codec: Any, version: int) -> None:
    protocol = {4: 0x0800, 6: 0x86DD}[version]
    (datagram,) = sent(codec, PLAIN[version], protocol).sent(1)
    assert datagram.data == struct.pack("!HH", 0, protocol) + PLAIN[version]


@pytest.mark.parametrize("protocol", [0x0806, 0x8848, 0])
def test_other_types_are_refused(codec: Any, protocol: int) -> None:
    assert sent(codec, PLAIN[4], protocol).verdicts == [DropReason.UNKNOWN_PROTOCOL]


def arrived(codec: Any, inner: bytes, protocol: int) -> Ingress:
    bench = Ingress([outer(gre(inner, protocol))], [record()])
    bench.run(codec)
    return bench


def test_the_configured_type_arrives_with_its_type_before_it(codec: Any) -> None:
    bench = arrived(codec, LABELLED, MPLS)
    assert bench.frame(0) == struct.pack("!HH", 0, MPLS) + LABELLED
    assert bench.after().rx_bytes == len(LABELLED)


@pytest.mark.parametrize("version", [4, 6])
def test_ip_arrives_with_its_type_before_it(codec: Any, version: int) -> None:
    protocol = {4: 0x0800, 6: 0x86DD}[version]
    bench = arrived(codec, PLAIN[version], protocol)
    assert bench.frame(0) == struct.pack("!HH", 0, protocol) + PLAIN[version]


def test_what_is_not_configured_is_refused_by_name(codec: Any) -> None:
    assert arrived(codec, LABELLED, 0x88BE).verdicts == [DropReason.ERSPAN]


def test_what_the_nic_merged_is_cut_and_each_segment_has_its_type(codec: Any) -> None:
    packet = Tcp(payload=pattern(2500), partial=True).build()
    bench = Ingress([outer(gre(packet))], [record(mtu=1040)])
    frames = bench.frames(codec)
    assert [frame[:4] for frame in frames] == [struct.pack("!HH", 0, 0x0800)] * 3
    assert b"".join(frame[44:] for frame in frames) == pattern(2500)
