"""What is cut by one end is put together again by the other: the stream comes out as it went in."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gred.dataplane.layout import TunnelFlag
from gred.wire import vnet
from gred.wire.transport import ACK, CWR, FIN, PSH
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import Egress, Ingress, make_record, outer
from tests.dataplane.packets import Tcp, Udp, ethernet, pattern

thorough = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
common: dict[str, Any] = {
    "version": st.sampled_from([4, 6]),
    "tos": st.integers(0, 255),
    "ttl": st.integers(1, 255),
    "identification": st.integers(0, 0xFFFF),
    "fragment": st.sampled_from([0, 0x4000]),
    "flow_label": st.integers(0, 0xFFFFF),
    "ports": st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)),
    "partial": st.just(True),
}
tcp_packets = st.builds(
    Tcp,
    **common,
    sequence=st.integers(0, 0xFFFFFFFF),
    acknowledgment=st.integers(0, 0xFFFFFFFF),
    window=st.integers(0, 0xFFFF),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR]),
    tcp_options=st.binary(max_size=10).map(lambda options: options * 4),
)
udp_packets = st.builds(Udp, **common)
GRE_FLAGS = [
    TunnelFlag(0),
    TunnelFlag.OUTPUT_CHECKSUM,
    TunnelFlag.OUTPUT_KEY | TunnelFlag.OUTPUT_SEQUENCE | TunnelFlag.OUTPUT_CHECKSUM,
]


@thorough
@given(
    packet=tcp_packets | udp_packets,
    size=st.integers(40, 3000),
    segments=st.integers(1, 25),
    rest=st.integers(1, 40),
    flags=st.sampled_from(GRE_FLAGS),
    bridged=st.booleans(),
)
def test_a_super_packet_comes_out_as_it_went_in(
    codec: Any,
    packet: Tcp | Udp,
    size: int,
    segments: int,
    rest: int,
    flags: TunnelFlag,
    *,
    bridged: bool,
) -> None:
    length = min(size * (segments - 1) + rest, 65000)
    packet = replace(packet, payload=pattern(length, seed=size))
    tcp = isinstance(packet, Tcp)
    frame = packet.build()
    start = 20 if packet.version == 4 else 40
    if bridged:
        frame = ethernet(frame, 0x0800 if packet.version == 4 else 0x86DD)
        start += 14
        flags |= TunnelFlag.ETHERNET
    gso_type = vnet.GSO_UDP_L4
    header = 8
    if isinstance(packet, Tcp):
        gso_type = vnet.GSO_TCPV4 if packet.version == 4 else vnet.GSO_TCPV6
        gso_type |= vnet.GSO_ECN if packet.flags & CWR else 0
        header = 20 + len(packet.tcp_options)
    meta = VnetHeader(NEEDS_CSUM, gso_type, start + header, size, start, 16 if tcp else 6)

    record = make_record(vnet_header=10, flags=flags)
    sent = Egress([(meta, frame)], record, datagrams=2000, header_space=2000 * 192).all(codec)
    assert len(sent) == -(-length // size)

    record = make_record(
        vnet_header=10,
        mtu=65535,
        flags=flags & TunnelFlag.ETHERNET
        | TunnelFlag.WRITE_TSO
        | TunnelFlag.WRITE_USO
        | (TunnelFlag.INPUT_KEY if flags & TunnelFlag.OUTPUT_KEY else 0),
    )
    bench = Ingress([outer(datagram.data) for datagram in sent], [record], pieces=2000)
    frames = bench.frames(codec)
    assert not any(bench.verdicts)
    if len(sent) == 1:
        finished = replace(packet, partial=False).build()
        assert frames == [bytes(10) + frame[: len(frame) - len(finished)] + finished]
    else:
        assert frames == [meta.pack() + frame]


@pytest.mark.parametrize("kind", [Tcp, Udp])
def test_a_stream_of_super_packets_comes_out_in_order(codec: Any, kind: Any) -> None:
    frames, sequence, payload = [], 0, b""
    for index in range(8):
        data = pattern(4000 + index, seed=index)
        fields: dict[str, Any] = {"payload": data, "identification": 100 * index, "partial": True}
        gso_type, field = vnet.GSO_UDP_L4, 6
        if kind is Tcp:
            fields["sequence"] = sequence
            gso_type, field = vnet.GSO_TCPV4, 16
        frames.append(
            (VnetHeader(NEEDS_CSUM, gso_type, 0, 1000, 20, field), kind(**fields).build())
        )
        sequence += len(data)
        payload += data
    sent = Egress(frames, make_record(vnet_header=10)).all(codec)
    record = make_record(vnet_header=10, flags=TunnelFlag.WRITE_TSO | TunnelFlag.WRITE_USO)
    bench = Ingress([outer(datagram.data) for datagram in sent], [record])
    header = 10 + 20 + (20 if kind is Tcp else 8)
    assert b"".join(frame[header:] for frame in bench.frames(codec)) == payload
