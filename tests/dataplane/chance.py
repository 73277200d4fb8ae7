"""What a codec may be given: packets, streams, records and datagrams, right ones and damaged ones.

Everything is drawn from a random generator that the test holds, so a seed repeats it. Most of what
is drawn passes the first rungs of the ladders: what always fails there tests nothing behind them.
"""

import functools
import operator
import struct
from dataclasses import replace
from random import Random
from typing import Any

from gred.dataplane.layout import Transport, TunnelFlag
from gred.wire import vnet
from gred.wire.gre import PROTOCOL_ETHERNET, PROTOCOL_IPV4, PROTOCOL_IPV6, GreHeader
from gred.wire.transport import ACK, CWR, ECE, FIN, PSH, RST, SYN
from gred.wire.vnet import NEEDS_CSUM, VnetHeader
from tests.dataplane.benches import (
    LOCAL,
    LOCAL6,
    REMOTE,
    REMOTE6,
    Arrival,
    Datagram6,
    Truncated,
    gre,
    make_record,
    outer,
)
from tests.dataplane.packets import Packet, Tcp, Udp, ethernet, pattern

MSS = b"\2\4\5\xb4"  # the TCP option, 1460
VLAN = b"\x81\0\0\1"
OPTIONS = [b"", b"", b"", MSS, b"\1\1\1\1", b"\1" + MSS + b"\1\1\1", b"\3\3\1\0", b"\0" + b"\1" * 7]
STOPPED = TunnelFlag.BLOCKED | TunnelFlag.NO_REMOTE


class Chance:
    """Draws from *random*."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.pick = random.choice

    def one_in(self, number: int) -> bool:
        return self.random.randrange(number) == 0

    def some_bytes(self, longest: int) -> bytes:
        return self.random.randbytes(self.random.randrange(longest + 1))

    # --- packets ----------------------------------------------------------------------------------

    def payload(self) -> bytes:
        length = self.pick([self.random.randrange(300), 1400, 2800, 5000])
        return pattern(length, seed=self.random.randrange(256))

    def ip_fields(self) -> dict[str, Any]:
        return {
            "version": self.pick([4, 6]),
            "tos": self.pick([0, 1, 2, 3, 0xB8, 0xBA]),
            "ttl": self.pick([0, 1, 63, 64]),
            "identification": self.pick([0, 1, 2, 0xFFFF]),
            "fragment": self.pick([0, 0, 0, 0, 0x4000, 0x4000, 0x2000, 1, 0x8000]),
            "flow_label": self.pick([0, 0, 0xFFFFF]),
            "options": self.pick([b""] * 5 + [b"\1\1\1\1"]),
        }

    def segment(self) -> Tcp:
        return Tcp(
            **self.ip_fields(),
            ports=self.pick([(1, 2), (1, 2), (1, 3), (40000, 80)]),
            sequence=self.pick([0, 100, 1000, 0xFFFFFFFF]),
            flags=self.pick([ACK, ACK, ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE, SYN, SYN | ACK]),
            tcp_options=self.pick([*OPTIONS, self.random.randbytes(self.pick([4, 8, 40]))]),
            payload=self.payload(),
            partial=self.one_in(2),
        )

    def datagram(self) -> Udp:
        ports = self.pick([(1, 2), (1, 3)])
        fields = self.ip_fields()
        return Udp(**fields, ports=ports, payload=self.payload(), partial=self.one_in(2))

    def other(self) -> bytes:
        """An IP packet of any protocol, with anything behind the header."""
        protocol = self.pick([0, 1, 6, 6, 17, 17, 44, 47, 47, 58])
        packet = Packet(**self.ip_fields(), protocol=protocol)
        if protocol in {17, 47}:  # perhaps the tunnel's own
            ends = (LOCAL, REMOTE) if packet.version == 4 else (LOCAL6, REMOTE6)
            source, destination = self.pick([ends, ends, (ends[1], ends[1]), (b"", b"")])
            packet = replace(packet, source=source, destination=destination)
        ports = struct.pack("!HH", 4754, 4754) if protocol == 17 and self.one_in(2) else b""
        return packet.ip(ports + self.some_bytes(40))

    def damaged(self, data: bytes) -> bytes:
        """*data*, mostly as it is; else a byte changed, cut off or added."""
        kind = self.random.randrange(12)
        if kind == 0 and data:
            at = self.random.randrange(min(len(data), 80))
            return data[:at] + self.random.randbytes(1) + data[at + 1 :]
        if kind == 1:
            return data[: self.random.randrange(len(data) + 1)]
        if kind == 2:
            return data + self.some_bytes(20)
        return data

    # --- records ----------------------------------------------------------------------------------

    def flags(self) -> int:
        wanted = [flag for flag in TunnelFlag if flag not in STOPPED]
        chosen = self.random.sample(wanted, self.random.randrange(8))
        flags = functools.reduce(operator.or_, chosen, TunnelFlag(0))
        if TunnelFlag.PACKET_INFO in flags:
            flags &= ~TunnelFlag.ETHERNET  # no device is both
        return flags | (TunnelFlag.BLOCKED if self.one_in(50) else 0)

    def record(self, flags: int | None = None) -> Any:
        family = self.pick([4, 4, 4, 6])
        local, remote = (LOCAL, REMOTE) if family == 4 else (LOCAL6, REMOTE6)
        flags = self.flags() if flags is None else flags
        return make_record(
            flags=flags,
            vnet_header=0 if flags & TunnelFlag.PACKET_INFO else self.pick([0, 10, 10]),
            protocol=self.pick([0, 0x8847, 0x88BE]),
            port=self.pick([0, 0, 4754]),
            family=family,
            local=self.pick([b"", local]),
            remote=self.pick([remote] * 3 + [b""]),
            mtu=self.pick([0, 41, 68, 140, 576, 1476]),
            path_mtu=self.pick([0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 1476, 100, 0]),
            ttl=self.pick([1, 64, 255]),
            tos=self.pick([0, 1, 3, 0xB8, 0xFF]),
            input_key=7,
            output_key=0xC0A80101,
            flow_label=self.pick([0, 0xFFFFF]),
            output_next=self.pick([0, 0xFFFFFFFE]),
            input_next=self.pick([0, 5, 2000]),
            input_seen=self.pick([0, 1]),
            old_run=self.pick([0, 1, 6, 7]),
            old_next=self.random.randrange(7),
            input_time=self.pick([0, 500, 1000]),
            mark_time=self.pick([0, 500, 1000]),
            input_mark=self.pick([0, 3, 1990]),
            input_passed=self.pick([0, 3, 1980, 0xFFFFFF00]),
            life_time=self.pick([0, 1000]),
            first_seen=self.pick([0, 3, 0xFF]),
            has_former=self.pick([0, 1, 2]),
            former_next=self.pick([0, 7, 2002]),
        )

    # --- egress -----------------------------------------------------------------------------------

    def any_vnet(self) -> VnetHeader:
        return VnetHeader(
            flags=self.pick([0, 1, 1, 1, 3]),
            gso_type=self.pick([0, 1, 4, 5, 0x81, 3, 0x80]),
            gso_size=self.pick([0, 1, 7, 100, 1400, 0xFFFF]),
            csum_start=self.pick([20, 24, 34, 38, 40, 44, 48, 54, self.random.randrange(1 << 16)]),
            csum_offset=self.pick([6, 16, 16, self.random.randrange(1 << 16)]),
        )

    def frame(self, *, bridged: bool) -> tuple[VnetHeader, bytes]:
        """A frame as a TUN or a TAP hands it out, with its vnet header."""
        choices: list[Tcp | Udp | bytes]
        choices = [self.segment(), self.segment(), self.datagram(), self.other()]
        packet = self.pick(choices)
        data = packet if isinstance(packet, bytes) else packet.build()
        front = 0
        if bridged:
            tags = self.pick([b"", b"", VLAN, b"\x88\xa8\0\1" + VLAN, VLAN * 3])
            front = 14 + len(tags)
            data = ethernet(data, protocol_of(data), tags)
        if isinstance(packet, bytes) or self.one_in(4):
            return self.any_vnet(), self.damaged(data)
        gso_type = vnet.GSO_UDP_L4
        if isinstance(packet, Tcp):
            gso_type = vnet.GSO_TCPV4 if packet.version == 4 else vnet.GSO_TCPV6
        meta = VnetHeader(
            flags=NEEDS_CSUM,
            gso_type=self.pick([vnet.GSO_NONE, gso_type, gso_type, gso_type | vnet.GSO_ECN]),
            gso_size=self.pick([8, 100, 100, 1400, 1400]),
            csum_start=front + (20 + len(packet.options) if packet.version == 4 else 40),
            csum_offset=16 if isinstance(packet, Tcp) else 6,
        )
        return meta, self.damaged(data)

    def egress(self) -> dict[str, Any]:
        """Arguments of an Egress bench."""
        record = self.record()
        bridged = bool(record.flags & TunnelFlag.ETHERNET)
        frames = [self.frame(bridged=bridged) for _ in range(self.random.randrange(1, 6))]
        if self.one_in(4):
            frames.append((self.any_vnet(), self.some_bytes(70)))
        return {
            "frames": frames,
            "record": record,
            "datagrams": self.pick([0, 1, 3, 40, 40]),
            "header_space": self.pick([0, 127, 640, 40 * 192, 40 * 192]),
            "skew": self.random.randrange(9),
            "flows": [self.pick([0, self.random.randrange(1 << 32)]) for _ in frames],
        }

    # --- ingress ----------------------------------------------------------------------------------

    def room(self) -> dict[str, int]:
        return {
            "tun_writes": self.pick([0, 1, 3, 64, 64, 64, 64]),
            "pieces": self.pick([0, 2, 5, 256, 256, 256, 256]),
            "header_space": self.pick([0, 127, 8192, 8192, 8192]),
            "skew": self.random.randrange(9),
        }

    def arrival(self, inner: bytes, protocol: int, record: Any) -> Arrival:
        """A datagram that carries *inner*, mostly one for the tunnel of *record*."""
        keyed = bool(record.flags & TunnelFlag.INPUT_KEY) ^ self.one_in(10)
        sequence = None
        if record.flags & TunnelFlag.INPUT_SEQUENCE or self.one_in(3):
            sequence = self.pick([None, *range(8), 2000, 2001, 0x80000000, 0xFFFFFFFF])
        header = GreHeader(
            protocol_type=self.pick([protocol] * 12 + [0x6558, 0x0800, 0, 0x8847, 0x1234]),
            checksum=self.pick([None, None, 0]),
            key=7 if keyed else None,
            sequence=sequence,
        )
        data = self.damaged(header.build(inner))
        if self.one_in(20):
            data = gre(inner, protocol, self.random.randrange(1 << 16), self.some_bytes(12))
        if self.one_in(3) and header.checksum is not None:
            data = data[:4] + struct.pack("!H", 0x1234) + data[6:]
        tos = self.pick([0, 0, 0, 1, 2, 3])
        if self.one_in(20):
            return Truncated(outer(data))
        if (record.family == 6) ^ self.one_in(20):
            return Datagram6(data, tos=tos)
        if self.one_in(10):
            return self.damaged(outer(data, tos=tos))
        return outer(data, tos=tos, options=self.pick([b"", b"", b"\1\1\1\1"]))

    def ingress(self) -> dict[str, Any]:
        """Arguments of an Ingress bench: single packets of all kinds."""
        record = self.record()
        bridged = bool(record.flags & TunnelFlag.ETHERNET)
        datagrams = list[Arrival]()
        for _ in range(self.random.randrange(1, 8)):
            inner = self.frame(bridged=bridged)[1]
            protocol = PROTOCOL_ETHERNET if bridged else protocol_of(inner)
            datagrams.append(self.arrival(inner, protocol, record))
        others = [self.record() for _ in range(self.random.randrange(3))]
        return {
            "datagrams": datagrams,
            "records": [record, *others],
            "transport": self.transport(),
            **self.room(),
        }

    def stream(self) -> list[bytes]:
        """Segments of a few flows in order, as coalescing likes them, with disturbances."""
        size = self.pick([1, 8, 100, 101, 1400])
        still = self.one_in(2)
        kind = self.pick([Tcp, Tcp, Udp])
        common: dict[str, Any] = {
            "version": self.pick([4, 6]),
            "fragment": 0x4000 if still else 0,
            "partial": self.one_in(2),
        }
        next_sequence = {(1, 2): 100, (1, 3): 0xFFFFFF00}
        identifications = dict.fromkeys(next_sequence, 1)
        packets = list[bytes]()
        for index in range(self.random.randrange(1, 16)):
            pair = self.pick([(1, 2), (1, 2), (1, 2), (1, 3)])
            length = self.pick([size] * 6 + [size - 1, size + 1, 4 * size])
            packet = kind(
                **common,
                ports=pair,
                identification=identifications[pair],
                payload=pattern(length, seed=index),
            )
            if isinstance(packet, Tcp):
                packet = replace(packet, sequence=next_sequence[pair])
            if index and self.one_in(5):
                packet = self.disturbed(packet)
            data = packet.build()
            packets.append(self.damaged(data) if self.one_in(10) else data)
            next_sequence[pair] += length
            identifications[pair] += 0 if still else 1
        return packets

    def disturbed(self, packet: Tcp | Udp) -> Tcp | Udp:
        """*packet* with one field as it should not be in a run."""
        wrong: list[dict[str, Any]] = [
            {"tos": 0xB8},
            {"ttl": 1},
            {"flow_label": 7},
            {"identification": 9},
            {"identification": 1},
            {"fragment": packet.fragment ^ 0x4000},
            {"fragment": 0x2000},
            {"options": b"\1\1\1\1"},
            {"payload": b""},
            {"partial": not packet.partial},
        ]
        if isinstance(packet, Tcp):
            flags = (ACK | PSH, ACK | FIN, ACK | CWR, ACK | ECE, ACK | RST, SYN)
            wrong += [
                {"sequence": packet.sequence + 1},
                {"acknowledgment": 7},
                {"window": 7},
                {"tcp_options": b"\1\1\1\1"},
                {"flags": self.pick(flags)},
            ]
        return replace(packet, **self.pick(wrong))

    def coalescing(self) -> dict[str, Any]:
        """Arguments of an Ingress bench: streams to a device that takes super-packets."""
        flags = TunnelFlag.WRITE_TSO | TunnelFlag.WRITE_USO
        bridged = self.one_in(3)
        record = self.record(flags | TunnelFlag.ETHERNET if bridged else flags)
        record.family, record.vnet_header = 4, 10
        record.local[:] = record.remote[:] = bytes(16)
        datagrams = list[Arrival]()
        for inner in self.stream():
            protocol = protocol_of(inner)
            data = gre(inner, protocol)
            if bridged:
                frame = ethernet(inner, protocol) + (b"padding" if self.one_in(20) else b"")
                frame = frame[:5] + b"\x09" + frame[6:] if self.one_in(20) else frame
                data = gre(frame, PROTOCOL_ETHERNET)
            datagrams.append(outer(data, tos=1 if self.one_in(20) else 0))
        return {
            "datagrams": datagrams,
            "records": [record],
            "transport": self.transport(),
            **self.room(),
        }

    def transport(self) -> Transport:
        return self.pick([Transport.IP, Transport.IP, Transport.UDP])


def protocol_of(packet: bytes) -> int:
    return PROTOCOL_IPV6 if packet[:1] and packet[0] >> 4 == 6 else PROTOCOL_IPV4
