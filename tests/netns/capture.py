"""Frames as they are on a wire: packet sockets in a host, to look at them and to make them."""

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gred.lab.hosts import Host

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_AUXDATA = 8
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata, linux/if_packet.h
_VLAN_VALID = 1 << 4
_OUTGOING = 4

GRE, DESTINATION_OPTIONS = 47, 60


@dataclass(frozen=True, slots=True)
class Outer:
    """The delivery header of one GRE packet, and what follows it."""

    version: int
    source: str
    destination: str
    next_header: int
    dont_fragment: bool
    flow_label: int
    payload: bytes

    @property
    def carries_echo(self) -> bool:
        """Whether an ICMP echo, or the reply to one, is inside GRE and IPv4."""
        gre = self.payload[8 if self.next_header == DESTINATION_OPTIONS else 0 :]
        fields = sum(bool(gre[0] & flag) for flag in (0x80, 0x20, 0x10))  # RFC 2890 section 2
        inner = gre[4 + 4 * fields :]
        is_icmp = gre[2:4] == b"\x08\x00" and len(inner) > 20 and inner[9] == 1
        return is_icmp and inner[(inner[0] & 15) * 4] in {0, 8}


@dataclass(frozen=True, slots=True)
class Wire:
    """A packet socket on one interface of a host."""

    socket: socket.socket

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def frame(self, wanted: Callable[[bytes], bool], timeout: float = 3.0) -> bytes | None:
        """Return the first frame that came in and is *wanted*, VLAN tag in place; None if none."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                break
            data, control, _flags, address = self.socket.recvmsg(65536, 256)
            if address[2] == _OUTGOING:
                continue
            for level, kind, value in control:
                if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                    status, *_, tag, protocol = _AUXDATA.unpack(value)
                    if status & _VLAN_VALID:  # the kernel takes the outermost tag off
                        data = data[:12] + struct.pack("!HH", protocol, tag) + data[12:]
            if wanted(data):
                return data
        return None

    def gre(self, timeout: float = 3.0) -> Outer:
        """Return the delivery header of the first GRE packet that came in, whoever sent it."""
        return self._outer(lambda _found: True, timeout)

    def echo(self, timeout: float = 3.0) -> Outer:
        """Return the delivery header of the first ICMP echo inside IPv4 inside GRE that came in.

        Interfaces send packets of their own, whenever they like: those prove nothing.
        """
        return self._outer(lambda found: found.carries_echo, timeout)

    def _outer(self, wanted: Callable[[Outer], bool], timeout: float) -> Outer:
        def is_wanted(data: bytes) -> bool:
            found = outer(data)
            return found is not None and wanted(found)

        frame = self.frame(is_wanted, timeout)
        assert frame is not None, "no such GRE packet on the wire"
        found = outer(frame)
        assert found is not None
        return found


@contextmanager
def wire(host: Host, interface: str) -> Iterator[Wire]:
    """Listen on *interface*."""
    with host.socket(socket.AF_PACKET, socket.SOCK_RAW) as packets:
        packets.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        host.inside(lambda: packets.bind((interface, _ETH_P_ALL)))
        yield Wire(packets)


def outer(frame: bytes) -> Outer | None:
    """Read the delivery header; None when *frame* is no GRE packet."""
    kind, data = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and data[9] == GRE:
        return Outer(
            version=4,
            source=socket.inet_ntoa(data[12:16]),
            destination=socket.inet_ntoa(data[16:20]),
            next_header=GRE,
            dont_fragment=bool(data[6] & 0x40),
            flow_label=0,
            payload=data[(data[0] & 15) * 4 :],
        )
    if kind == b"\x86\xdd" and (
        data[6] == GRE or (data[6] == DESTINATION_OPTIONS and data[40] == GRE)
    ):
        return Outer(
            version=6,
            source=socket.inet_ntop(socket.AF_INET6, data[8:24]),
            destination=socket.inet_ntop(socket.AF_INET6, data[24:40]),
            next_header=data[6],
            dont_fragment=True,
            flow_label=int.from_bytes(data[1:4]) & 0xFFFFF,
            payload=data[40:],
        )
    return None
