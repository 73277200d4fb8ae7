"""Frames and datagrams that somebody made up to do harm, drawn from a random generator.

A container behind a bridge port, or whoever may open a packet socket, hands over frames like these;
whoever reaches the underlay sends datagrams like these. Nothing here looks at what becomes of them.
"""

import struct
from random import Random

from gred.wire import vnet
from gred.wire.transport import ACK
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.packets import DESTINATION6, SOURCE6, Tcp, Udp, ethernet, pattern

LONGEST = 65535
DESTINATION_OPTIONS, TCP = 60, 6


def chain(start: int, source: bytes = SOURCE6, destination: bytes = DESTINATION6) -> bytes:
    """An IPv6 packet whose extension headers end *start* bytes in, and a TCP header behind them.

    *start* is a multiple of eight, 40 at least.
    """
    left = start - 40
    headers = bytearray()
    first = DESTINATION_OPTIONS if left else TCP
    while left:
        length = min(left, 2048)
        left -= length
        headers += bytes([DESTINATION_OPTIONS if left else TCP, length // 8 - 1])
        headers += b"\1\4" + bytes(4)  # PadN
        headers += bytes(length - 8)  # Pad1
    transport = struct.pack("!HHIIBBHHH", 1, 2, 3, 4, 5 << 4, ACK, 512, 0, 0)
    total = min(start - 40 + 20, LONGEST)
    return (
        struct.pack("!IHBB", 6 << 28, total, first, 64)
        + source
        + destination
        + bytes(headers)
        + transport
    )


def any_vnet(random: Random) -> VnetHeader:
    """Any ten bytes, mostly such as name a kind of super-packet."""
    if random.random() < 0.1:
        return VnetHeader.parse(random.randbytes(10))
    return VnetHeader(
        flags=random.choice([0, NEEDS_CSUM, NEEDS_CSUM, NEEDS_CSUM, 2, 3, 255]),
        gso_type=random.choice([0, 1, 4, 5, 0x81, 0x84, 0x85, 3, 0x80, 0xFF]),
        hdr_len=random.randrange(1 << 16),
        gso_size=random.choice([0, 1, 7, 8, 9, 100, 1400, 1448, 0x7FFF, 0xFFFF]),
        csum_start=random.choice([0, 20, 24, 34, 40, 48, 54, 60, random.randrange(1 << 16)]),
        csum_offset=random.choice([0, 6, 16, 16, random.randrange(1 << 16)]),
    )


def any_super_frame(random: Random, *, ethernet_device: bool) -> tuple[VnetHeader, bytes]:
    """A frame of up to 64 KB with a vnet header that fits it, or nearly, or not at all."""
    kind = random.randrange(8)
    front = 14 if ethernet_device else 0
    size = random.choice([1, 7, 8, 36, 100, 536, 1400, 0xFFFF])
    if kind == 0:
        return any_vnet(random), random.randbytes(random.choice([0, 1, 19, 20, 41, 70, 1500]))
    if kind in {1, 2}:
        start = random.choice([40, 48, 2088, 16384, 24536, 24544, 24552, 24616, 40000, 65440])
        start += 8 * random.randrange(-2, 3) * (start > 100)
        packet = (chain(start) + pattern(LONGEST))[: random.choice([LONGEST - 14, start + 500])]
        meta = VnetHeader(NEEDS_CSUM, vnet.GSO_TCPV6, 0, size, start + front, 16)
        frame = packet
    else:
        version = random.choice([4, 6])
        payload = pattern(random.choice([0, 1, 20, 1400, 5000, 64000]))
        start = 20 if version == 4 else 40
        if kind in {3, 4, 5}:
            gso = vnet.GSO_TCPV4 if version == 4 else vnet.GSO_TCPV6
            frame = Tcp(version=version, payload=payload, partial=True).build()
            meta = VnetHeader(NEEDS_CSUM, gso, 0, size, start + front, 16)
        else:
            frame = Udp(version=version, payload=payload, partial=True).build()
            meta = VnetHeader(NEEDS_CSUM, vnet.GSO_UDP_L4, 0, size, start + front, 6)
        if kind == 5:
            meta = any_vnet(random)
    if ethernet_device:
        frame = ethernet(frame, 0x0800 if frame[0] >> 4 == 4 else 0x86DD)
    if random.random() < 0.15:
        at = random.randrange(min(len(frame), 80))
        frame = frame[:at] + random.randbytes(1) + frame[at + 1 :]
    if random.random() < 0.1:
        frame = frame[: random.randrange(len(frame) + 1)]
    return meta, frame


def any_datagram(random: Random, ends: list[tuple[bytes, bytes]], keys: list[int]) -> bytes:
    """An outer IPv4 packet of protocol 47 between two of *ends*, mostly; it carries anything.

    *keys*: those of the tunnels there, for a sender who knows them.
    """
    kind = random.randrange(10)
    if kind == 0:
        return random.randbytes(random.choice([0, 1, 4, 19, 20, 24, 28, 60]))
    version = random.choice([4, 6])
    payload = pattern(random.choice([0, 1, 8, 100, 1400, 1400, 1400, 9000, 60000]))
    kind_of_packet: type[Tcp | Udp] = random.choice([Tcp, Tcp, Udp])
    inner: bytes = kind_of_packet(
        version=version,
        payload=payload,
        partial=random.random() < 0.5,
        fragment=random.choice([0, 0, 0, 0x2000, 0x4000]),
        ports=random.choice([(1, 2), (1, 2), (3, 4)]),
    ).build()
    protocol = random.choice([0x0800, 0x86DD]) if kind == 1 else 0x0800 if version == 4 else 0x86DD
    if kind == 2:
        inner, protocol = random.randbytes(random.randrange(80)), random.choice([0x0800, 0x86DD])
    elif kind == 3:
        inner, protocol = ethernet(inner, protocol), 0x6558
    elif kind == 4:
        protocol = random.choice([0, 0x6400, 0x883E, 0x8847, 0x88BE, 0x880B, 0x1234])
        inner = inner[:200]
    flags = random.choice([0, 0, 0x2000, 0x2000, 0xB000, 0x3000, 0x8000])
    if kind == 5:
        flags = random.randrange(1 << 16)
    options = struct.pack("!HH", random.choice([0, 0x1234]), 0) if flags & 0x8000 else b""
    if flags & 0x2000:
        options += struct.pack("!I", random.choice([*keys, random.randrange(1 << 32)]))
    if flags & 0x1000:
        options += struct.pack("!I", random.randrange(1 << 32))
    data = (struct.pack("!HH", flags, protocol) + options + inner)[: LONGEST - 20]
    if random.random() < 0.1:
        at = random.randrange(min(len(data), 80) + 1)
        data = data[:at] + random.randbytes(1) + data[at + 1 :]
    source, destination = random.choice(ends)
    if random.random() < 0.05:
        source = random.randbytes(4)
    header = struct.pack(
        "!BBHHHBBH", 0x45, random.choice([0, 0, 1, 3]), 20 + len(data), 1, 0, 64, 47, 0
    )
    return header + source + destination + data
