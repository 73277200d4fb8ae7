"""Every reason to refuse a received packet, provoked from outside and counted under its name."""

import socket
from collections import Counter
from contextlib import closing

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE
from scapy.packet import Packet, Raw

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.wire.drop import DropReason
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, drops, wait_for

ENDS = f"Local={LEFT[0]}\nRemote={RIGHT[0]}\n"
TUNNELS = f"""\
[Tunnel plain]
{ENDS}
Address=10.9.1.1/24
[Tunnel strict]
{ENDS}Key=1
Checksum=yes
[Tunnel bare]
{ENDS}Key=2
InputChecksum=refuse
[Tunnel numbers]
{ENDS}Key=3
SerializeTunneledPackets=yes
[Tunnel nowhere]
Local={LEFT[0]}
Key=4
Address=10.9.4.1/24
[Tunnel off]
{ENDS}Key=5
Address=10.9.5.1/24
[Tunnel guarded]
{ENDS}Key=6
AllowedSources=10.9.6.0/24
[Tunnel plain6]
Local={LEFT[1]}
Remote={RIGHT[1]}
"""
UNCLAIMED = "192.0.2.8"  # an address of the left host that is no tunnel's
INNER = IP(src="10.9.1.2", dst="10.9.1.77") / UDP(sport=9, dport=9) / Raw(b"gred")
INNER6 = IPv6(src="fd09::2", dst="fd09::77") / ICMPv6EchoRequest(data=b"gred")
TIMES = 3


def outer(**fields: object) -> Packet:
    return IP(**{"src": RIGHT[0], "dst": LEFT[0], "proto": 47, **fields})


def outer6(**fields: object) -> Packet:
    return IPv6(**{"src": RIGHT[1], "dst": LEFT[1], "nh": 47, **fields})


def key(number: int, **more: int) -> Packet:
    return GRE(key_present=1, key=number, **more)


def raw(*octets: int) -> Packet:
    """A GRE header by hand, with an inner packet behind it."""
    return Raw(bytes(octets) + bytes(INNER))


R = DropReason
CASES = (
    (R.TRUNCATED, None, outer() / Raw(b"\0\0")),
    (R.TRUNCATED, None, outer() / Raw(bytes.fromhex("2000 0800 00"))),
    (R.TRUNCATED, None, outer() / Raw(bytes.fromhex("b000 0800 0000 0000 0000 0000 000000"))),
    (R.TRUNCATED, "plain", outer() / GRE(proto=0x0800)),
    (R.BAD_VERSION, None, outer() / GRE(version=1) / INNER),
    (R.BAD_VERSION, None, outer() / GRE(version=7) / INNER),
    (R.BAD_VERSION, None, outer6() / GRE(version=2) / INNER),
    (R.ROUTING, None, outer() / raw(0x40, 0, 0x08, 0)),
    (R.RESERVED_BITS, None, outer() / raw(0x08, 0, 0x08, 0)),
    (R.RESERVED_BITS, None, outer() / raw(0x04, 0, 0x08, 0)),
    (R.UNKNOWN_PROTOCOL, "plain", outer() / GRE(proto=0x0806) / INNER),
    (R.UNKNOWN_PROTOCOL, "plain", outer() / GRE(proto=0x6558) / INNER),
    (R.PPTP, None, outer() / raw(0x30, 0x01, 0x88, 0x0B, 0, 0, 0, 1)),
    (R.EOIP, None, outer() / raw(0x20, 0x01, 0x64, 0, 0, 60, 17, 0)),
    (R.WCCP, "plain", outer() / raw(0x00, 0x08, 0x88, 0x3E) / INNER),
    (R.MPLS, "plain", outer() / GRE(proto=0x8847) / INNER),
    (R.MPLS, "plain", outer() / GRE(proto=0x8848) / INNER),
    (R.ERSPAN, "plain", outer() / GRE(proto=0x88BE) / INNER),
    (R.ERSPAN, "plain", outer() / GRE(proto=0x22EB) / INNER),
    (R.NO_TUNNEL, None, outer(dst=UNCLAIMED) / GRE() / INNER),
    (R.KEY_MISMATCH, "plain", outer() / key(99) / INNER),
    (R.KEY_MISMATCH, "plain6", outer6() / key(1) / INNER),
    (R.CSUM_ERR, "plain", outer() / GRE(chksum_present=1, chksum=0x5555) / INNER),
    (R.CSUM_ERR, "strict", outer() / key(1, chksum_present=1, chksum=0x5555) / INNER),
    (R.CSUM_ERR, "plain6", outer6() / GRE(chksum_present=1, chksum=0x5555) / INNER),
    (R.CSUM_MISSING, "strict", outer() / key(1) / INNER),
    (R.CSUM_UNEXPECTED, "bare", outer() / key(2, chksum_present=1) / INNER),
    (R.SEQ_MISSING, "numbers", outer() / key(3) / INNER),
    (R.OUT_OF_SEQ, "numbers", outer() / key(3, seqnum_present=1, sequence_number=500) / INNER),
    (R.OUT_OF_SEQ, "numbers", outer() / key(3, seqnum_present=1, sequence_number=499) / INNER),
    (R.BAD_INNER, "plain", outer() / GRE(proto=0x0800) / INNER6),
    (R.BAD_INNER, "plain", outer() / GRE(proto=0x86DD) / (INNER / Raw(bytes(40)))),
    (R.BAD_INNER, "plain", outer() / GRE() / IP(src="10.9.1.2", len=99) / Raw(b"short")),
    (R.BAD_INNER, "plain", outer() / GRE() / IP(src="10.9.1.2", ihl=4, len=40) / Raw(bytes(20))),
    (R.ECN_ERR, "plain", outer(tos=3) / GRE() / INNER),
    (R.ECN_ERR, "plain6", outer6(tc=3) / GRE() / INNER6),
    (R.DEVICE_DOWN, "off", outer() / key(5) / INNER),
    (R.SPOOFED, "guarded", outer() / key(6) / INNER),
    (R.SPOOFED, "guarded", outer() / key(6, proto=0x86DD) / INNER6),
)
# What happens only to packets on their way out, or is not seen in a packet, or cannot be provoked
# from outside.
ELSEWHERE = {R.NONE, R.NO_REMOTE, R.DEAD_LOOP, R.TOO_BIG, R.NO_ROUTE, R.NO_BUFS, R.DENIED, R.OTHER}
ELSEWHERE |= {R.RX_OVERRUN, R.FOREIGN}  # test_overrun.py, test_receivers.py
ELSEWHERE |= {R.KEEPALIVE}  # test_keepalive.py; dropped only above what is looked at
Counts = Counter[tuple[str | None, str]]


def word(reason: DropReason) -> str:
    return f"rx_{reason.name.lower()}"


class Sender:
    """Sends whole outer packets, headers and all."""

    def __init__(self, host: Host) -> None:
        self._sockets = {
            4: host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            6: host.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        }

    def send(self, packet: Packet, times: int = 1) -> None:
        data = bytes(packet)
        for _ in range(times):
            self._sockets[packet.version].sendto(data, (packet.dst, 0))

    def close(self) -> None:
        for opened in self._sockets.values():
            opened.close()


@pytest.fixture(scope="module")
def counts(hosts: tuple[Host, Host], lasting_daemons: Daemons) -> Counts:
    """Send every case to a daemon; return what it counted."""
    left, right = hosts
    left.address(f"{UNCLAIMED}/24")
    left.sysctl("net.ipv6.conf.default.disable_ipv6", "1")  # tunnels stay silent by themselves
    daemon = lasting_daemons.start(left, TUNNELS)
    left.ip("link", "set", "off", "down")
    with closing(Sender(right)) as sender:
        sender.send(outer() / key(3, seqnum_present=1, sequence_number=500) / INNER)
        for _reason, _tunnel, packet in CASES:
            sender.send(packet, TIMES)
        # The last of each family is good: when it has arrived, so has everything before it.
        sender.send(outer() / GRE() / INNER)
        sender.send(outer6() / GRE() / INNER)
        good = "plain", "plain6", "numbers"
        wait_for(lambda: all(left.statistics(name)["rx_packets"] for name in good), "good packets")
    assert ping(left, "10.9.4.2", count=TIMES, timeout=0).received == 0
    assert daemon.stop() == 0
    return drops(daemon)


@pytest.mark.parametrize("reason", sorted(set(R) - ELSEWHERE), ids=lambda reason: reason.name)
def test_a_refused_packet_is_counted_under_its_reason(counts: Counts, reason: DropReason) -> None:
    wanted: Counts = Counter()
    for why, tunnel, _packet in CASES:
        if why == reason:
            wanted[tunnel, word(reason)] += TIMES
    assert wanted
    assert {key: n for key, n in counts.items() if key[1] == word(reason)} == wanted


def test_without_a_remote_packets_out_are_counted(counts: Counts) -> None:
    assert counts["nowhere", "tx_no_remote"] == TIMES


def test_nothing_else_is_counted(counts: Counts) -> None:
    assert counts.total() == TIMES * (len(CASES) + 1)
