"""MSS clamping on both twins, both ways (MSS: RFC 9293 §3.7.1)."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gred.dataplane.layout import TunnelFlag
from gred.wire.transport import ACK, SYN
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import Egress, Ingress, gre, make_record, outer
from tests.dataplane.packets import Tcp, ethernet, pattern

MTU = 1400
FITS = {4: MTU - 40, 6: MTU - 60}
CLAMP = TunnelFlag.CLAMP_MSS


def mss(value: int) -> bytes:
    return struct.pack("!BBH", 2, 4, value)


# The option behind others, at even and odd offsets.
SHAPES: dict[str, Callable[[int], bytes]] = {
    "alone": mss,
    "behind SACK": lambda value: b"\4\2\1\1" + mss(value),
    "at an odd offset": lambda value: b"\1" + mss(value) + b"\1\1\1",
    "behind a timestamp": lambda value: b"\x08\x0a" + bytes(8) + b"\1\1" + mss(value),
}


def sent(codec: Any, packet: Tcp, **fields: Any) -> bytes:
    bench = Egress([packet.build()], make_record(mtu=MTU, flags=CLAMP, **fields))
    (datagram,) = bench.all(codec)
    return datagram.data[4:]


def received(codec: Any, packet: Tcp, **fields: Any) -> bytes:
    protocol = 0x0800 if packet.version == 4 else 0x86DD
    record = make_record(mtu=MTU, flags=CLAMP, **fields)
    (frame,) = Ingress([outer(gre(packet.build(), protocol))], [record]).frames(codec)
    return bytes(frame)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", [sent, received])
@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
def test_a_larger_mss_is_lowered_and_the_checksum_stays_right(
    codec: Any, way: Any, shape: str, version: int, flags: int
) -> None:
    packet = Tcp(version=version, flags=flags, tcp_options=SHAPES[shape](8960))
    expected = replace(packet, tcp_options=SHAPES[shape](FITS[version]))
    assert way(codec, packet) == expected.build()


@pytest.mark.parametrize("way", [sent, received])
def test_the_path_counts_when_it_takes_less_than_the_interface(codec: Any, way: Any) -> None:
    packet = Tcp(flags=SYN, tcp_options=mss(1460))
    expected = replace(packet, tcp_options=mss(1260))
    assert way(codec, packet, path_mtu=1300) == expected.build()


@pytest.mark.parametrize("way", [sent, received])
@pytest.mark.parametrize(
    "packet",
    [
        Tcp(flags=SYN, tcp_options=mss(FITS[4])),
        Tcp(flags=SYN, tcp_options=mss(536)),
        Tcp(flags=SYN),
        Tcp(flags=ACK, tcp_options=mss(8960), payload=pattern(10)),
        Tcp(flags=SYN, tcp_options=b"\0" + mss(8960) + b"\0\0\0"),  # behind the end of options
        Tcp(flags=SYN, tcp_options=b"\3\0" + mss(8960) + b"\1\1"),  # an option of length 0
        Tcp(flags=SYN, tcp_options=b"\1\1\1\2"),  # cut off
        Tcp(flags=SYN, tcp_options=mss(8960), fragment=0x2000),
    ],
)
def test_everything_else_is_left_alone(codec: Any, way: Any, packet: Tcp) -> None:
    assert way(codec, packet) == packet.build()


def test_a_checksum_left_to_the_kernel_stays_left(codec: Any) -> None:
    packet = Tcp(flags=SYN, tcp_options=mss(8960), partial=True)
    record = make_record(mtu=MTU, flags=CLAMP, vnet_header=10)
    (frame,) = Ingress([outer(gre(packet.build()))], [record]).frames(codec)
    assert frame[10:] == replace(packet, tcp_options=mss(FITS[4])).build()


def test_without_the_flag_nothing_is_changed(codec: Any) -> None:
    packet = Tcp(flags=SYN, tcp_options=mss(8960)).build()
    (datagram,) = Egress([packet], make_record(mtu=MTU)).all(codec)
    (frame,) = Ingress([outer(gre(packet))], [make_record(mtu=MTU)]).frames(codec)
    assert datagram.data[4:] == packet
    assert frame == packet


@pytest.mark.parametrize("version", [4, 6])
def test_ethernet_is_looked_into(codec: Any, version: int) -> None:
    ethertype = 0x0800 if version == 4 else 0x86DD
    packet = Tcp(version=version, flags=SYN, tcp_options=mss(8960))
    frame = ethernet(packet.build(), ethertype)
    expected = ethernet(replace(packet, tcp_options=mss(FITS[version])).build(), ethertype)
    record = make_record(mtu=MTU, flags=CLAMP | TunnelFlag.ETHERNET)
    (datagram,) = Egress([frame], record).all(codec)
    assert datagram.data[4:] == expected
    assert Ingress([outer(gre(frame, 0x6558))], [record]).frames(codec) == [expected]


@pytest.mark.parametrize("mtu", [0, 40])
def test_an_mtu_without_room_for_payload_changes_nothing(codec: Any, mtu: int) -> None:
    packet = Tcp(flags=SYN, tcp_options=mss(8960)).build()
    (datagram,) = Egress([packet], make_record(mtu=mtu, flags=CLAMP)).all(codec)
    assert datagram.data[4:] == packet


@pytest.mark.parametrize("value", [FITS[4] + 1, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("acknowledgment", range(0, 0x10000, 4099))
def test_the_checksum_stays_right_for_every_value(
    codec: Any, value: int, acknowledgment: int
) -> None:
    packet = Tcp(
        flags=SYN, tcp_options=b"\1" + mss(value) + b"\1\1\1", acknowledgment=acknowledgment
    )
    expected = replace(packet, tcp_options=b"\1" + mss(FITS[4]) + b"\1\1\1")
    assert sent(codec, packet) == expected.build()


def test_a_wrong_checksum_stays_wrong(codec: Any) -> None:
    """It is changed by the difference, not made anew: damage must not be hidden."""
    packet = bytearray(Tcp(flags=SYN, tcp_options=mss(8960)).build())
    packet[36] ^= 1
    (frame,) = Ingress([outer(gre(bytes(packet)))], [make_record(mtu=MTU, flags=CLAMP)]).frames(
        codec
    )
    right = Tcp(flags=SYN, tcp_options=mss(FITS[4])).build()
    assert frame[:36] + frame[38:] == right[:36] + right[38:]
    assert frame[36:38] != right[36:38]


def test_an_unfinished_checksum_is_finished_over_the_new_value(codec: Any) -> None:
    packet = Tcp(flags=SYN, tcp_options=mss(8960), partial=True)
    expected = replace(packet, tcp_options=mss(FITS[4]), partial=False).build()
    meta = VnetHeader(NEEDS_CSUM, 0, 0, 0, 20, 16)
    record = make_record(mtu=MTU, flags=CLAMP, vnet_header=10)
    (datagram,) = Egress([(meta, packet.build())], record).all(codec)
    assert datagram.data[4:] == expected
    assert received(codec, packet) == expected
