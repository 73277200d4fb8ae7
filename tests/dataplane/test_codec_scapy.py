"""scapy reads every header form that is sent, and writes every form that is received."""

import itertools
from typing import Any

import pytest
from scapy.layers.inet import GRE, ICMP, IP, TCP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from gred.dataplane.layout import TunnelFlag
from gred.wire.drop import DropReason
from tests.dataplane.benches import Datagram6, Egress, Ingress, make_record

FORMS = list(itertools.product([0, 1], repeat=3))  # C, K, S
INNER = {
    0x0800: IP(src="10.1.2.1", dst="10.1.2.2") / TCP(dport=80) / Raw(b"odd"),
    0x86DD: IPv6(src="fd00::1", dst="fd00::2") / ICMPv6EchoRequest(data=b"odd"),
    0x6558: Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01") / IP() / ICMP() / Raw(b"odd"),
}


def output_flags(form: tuple[int, int, int], protocol: int) -> int:
    checksum, key, sequence = form
    return (
        TunnelFlag.OUTPUT_CHECKSUM * checksum
        | TunnelFlag.OUTPUT_KEY * key
        | TunnelFlag.OUTPUT_SEQUENCE * sequence
        | TunnelFlag.ETHERNET * (protocol == 0x6558)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", INNER)
def test_scapy_reads_what_is_sent(codec: Any, form: tuple[int, int, int], protocol: int) -> None:
    inner = bytes(INNER[protocol])
    flags = output_flags(form, protocol)
    record = make_record(flags=flags, output_key=0xC0A80101, output_next=77)
    (sent,) = Egress([inner], record).all(codec)
    packet = GRE(sent.data)
    assert (packet.chksum_present, packet.key_present, packet.seqnum_present) == form
    assert (packet.version, packet.proto) == (0, protocol)
    assert packet.key == (0xC0A80101 if form[1] else None)
    assert packet.sequence_number == (77 if form[2] else None)
    assert bytes(packet.payload) == inner
    sum_on_the_wire = packet.chksum
    del packet.chksum
    assert GRE(bytes(packet)).chksum == sum_on_the_wire


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("protocol", INNER)
@pytest.mark.parametrize("version", [4, 6])
def test_what_scapy_writes_is_received(
    codec: Any, form: tuple[int, int, int], protocol: int, version: int
) -> None:
    packet = header(form, protocol) / INNER[protocol]
    flags = (
        TunnelFlag.INPUT_CHECKSUM_REQUIRED * form[0]
        | TunnelFlag.INPUT_KEY * form[1]
        | TunnelFlag.INPUT_SEQUENCE * form[2]
        | TunnelFlag.ETHERNET * (protocol == 0x6558)
    )
    record = make_record(flags=flags, input_key=42, local=b"", remote=b"", family=version)
    delivered = IP(src="192.168.1.13", dst="192.168.1.10") / packet
    datagram = bytes(delivered) if version == 4 else Datagram6(bytes(packet))
    bench = Ingress([datagram], [record])
    assert bench.frames(codec) == [bytes(INNER[protocol])]
    assert bench.verdicts == [DropReason.NONE]
    assert bench.after().input_next == (78 if form[2] else 0)


def header(form: tuple[int, int, int], protocol: int) -> Packet:
    checksum, key, sequence = form
    return GRE(
        proto=protocol,
        chksum_present=checksum,
        key_present=key,
        seqnum_present=sequence,
        key=42 if key else None,
        sequence_number=77 if sequence else None,
    )
