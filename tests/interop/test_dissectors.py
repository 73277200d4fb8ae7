"""What gred sends, read by tshark and by scapy: every form of header, in and over IPv4 and IPv6."""

import itertools
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import GRE, Ether
from scapy.packet import NoPayload, Packet, Padding, Raw
from scapy.utils import PcapReader, wrpcap

from gred.lab.capture import Capture
from gred.lab.hosts import UNDERLAY, Lab
from gred.lab.traffic import multicast, ping, transfer
from tests import require
from tests.netns.daemons import Daemons

KEY, CHECKSUM, SEQUENCE = 0x2000, 0x8000, 0x1000  # RFC 2784 §2.1, RFC 2890 §2
NUMBERS = itertools.count(1)
STREAM = 40_000  # bytes


@dataclass(frozen=True, slots=True)
class Form:
    """One form of header. Each has underlay addresses of its own, which tell the packets apart."""

    name: str
    options: str = ""
    flags: int = 0
    outer: int = 4
    key: int | None = None
    number: int = field(default_factory=lambda: next(NUMBERS))

    def underlay(self, side: int) -> str:
        return f"198.18.{self.number}.{side}" if self.outer == 4 else f"fd18:{self.number}::{side}"

    def overlay(self, side: int, version: int) -> str:
        return f"10.18.{self.number}.{side}" if version == 4 else f"fd10:{self.number}::{side}"

    def section(self, side: int) -> str:
        options = "\n".join(self.options.split())
        return (
            f"[Tunnel {self.name}]\n"
            f"Local={self.underlay(side)}\nRemote={self.underlay(3 - side)}\n"
            f"Address={self.overlay(side, 4)}/24, {self.overlay(side, 6)}/64\n{options}\n"
        )


SEQ, SUM = "SerializeTunneledPackets=yes", "Checksum=yes"
FORMS = [
    Form("plain"),
    Form("key", "Key=42", KEY, key=42),
    Form("csum", SUM, CHECKSUM),
    Form("seq", SEQ, SEQUENCE),
    Form("key-csum", f"Key=43 {SUM}", KEY | CHECKSUM, key=43),
    Form("key-seq", f"Key=4294967295 {SEQ}", KEY | SEQUENCE, key=0xFFFFFFFF),
    Form("csum-seq", f"{SUM} {SEQ}", CHECKSUM | SEQUENCE),
    Form("key-csum-seq", f"Key=0 {SUM} {SEQ}", KEY | CHECKSUM | SEQUENCE, key=0),
    Form("plain-v6", outer=6),
    Form("kcs-v6", f"Key=7 {SUM} {SEQ}", KEY | CHECKSUM | SEQUENCE, outer=6, key=7),
]
FORM = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


@pytest.fixture(scope="module", params=["c", "python"])
def capture(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture file of everything that two daemons sent each other, both ways."""
    implementation: str = request.param
    if implementation == "c":
        require.extension()
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    path = tmp_path_factory.mktemp("capture") / "wire.pcap"
    with Lab(f"greddis{implementation[0]}") as lab:
        hosts = {side: lab.host(name) for side, name in ((1, "left"), (2, "right"))}
        left, right = hosts.values()
        lab.wire(left, right)
        daemons = Daemons(lab, implementation)
        try:
            for side, host in hosts.items():
                for form in FORMS:
                    host.address(f"{form.underlay(side)}/{24 if form.outer == 4 else 64}")
            with Capture(right, UNDERLAY, path) as wire:
                for side, host in hosts.items():
                    daemons.start(host, "".join(form.section(side) for form in FORMS))
                for form, version in itertools.product(FORMS, (4, 6)):
                    here, there = form.overlay(1, version), form.overlay(2, version)
                    # Nothing, odd, and more than fits into one packet.
                    for size in (0, 101, 3000):
                        assert ping(left, there, size=size).received == 3
                    assert transfer(left, right, there, size=STREAM).intact
                    assert transfer(right, left, here, size=STREAM).intact
                    assert multicast(left, right, form.name, count=1).received == 1
        finally:
            daemons.stop()
        assert wire.missed == 0
    return path


def tshark(capture: Path, *arguments: str) -> list[str]:
    """Return the lines that tshark prints of the capture."""
    command = ["tshark", "-n", "-r", str(capture), *arguments]
    for layer in ("ip", "tcp", "udp"):
        command += ["-o", f"{layer}.check_checksum:TRUE"]
    # Payload is random; now and then it looks like some protocol, and like a bad one.
    for layer in ("tcp", "udp"):
        command += ["-d", f"{layer}.port==1-65535,data"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def with_tshark() -> None:
    require.program("tshark", package="tshark")


@pytest.fixture(scope="module")
def headers(capture: Path) -> list[list[str]]:
    """What tshark reads in each GRE packet, in the order they were sent."""
    require.program("tshark", package="tshark")
    fields = (
        *("ip.src", "ipv6.src", "gre.flags_and_version"),
        *("gre.key", "gre.sequence_number", "gre.proto"),
    )
    # The first occurrence is the outer one.
    options = ["-Y", "gre", "-T", "fields", "-E", "occurrence=f"]
    lines = tshark(capture, *options, *(word for name in fields for word in ("-e", name)))
    return [line.split("\t") for line in lines]


def complaints(capture: Path) -> list[str]:
    """Return what tshark holds against packets of the capture."""
    complaint = (
        "_ws.malformed or _ws.short"
        # warnings and errors, but not how a stream fared: TCP may send a segment twice
        " or _ws.expert.severity >= 0x600000 and not _ws.expert.group == 0x2000000"
        " or ip.checksum.status == 0 or tcp.checksum.status == 0 or udp.checksum.status == 0"
        " or icmp.checksum.status == 0 or icmpv6.checksum.status == 0 or gre.checksum.status == 0"
    )
    shown = "frame.number", "frame.protocols", "_ws.expert.message", "_ws.malformed"
    fields = [word for name in shown for word in ("-e", name)]
    return tshark(capture, "-Y", complaint, "-T", "fields", *fields)


@pytest.mark.usefixtures("with_tshark")
def test_tshark_complains_about_nothing(capture: Path) -> None:
    assert complaints(capture) == []


@pytest.mark.usefixtures("with_tshark")
def test_payload_is_nothing_to_complain_about(tmp_path: Path) -> None:
    """Random bytes may begin like a message of Thrift, which guesses by content."""
    ends = {"src": "198.18.0.1", "dst": "198.18.0.2"}
    # A call of version 1, "ping", whose first field is a string of 4 GiB.
    guessed = bytes.fromhex("80010001 00000004 70696e67 00000001 0b0001 ffffffff 6162")
    packet = (
        Ether()
        / IP(**ends)
        / GRE()
        / IP(**ends)
        / TCP(sport=40000, dport=1200, flags="A")
        / guessed
    )
    wrpcap(str(tmp_path / "guess.pcap"), [packet])
    assert complaints(tmp_path / "guess.pcap") == []


@pytest.mark.usefixtures("with_tshark")
def test_tshark_sees_a_wrong_checksum(capture: Path, tmp_path: Path) -> None:
    """Silence means something only from a reader that would speak."""
    data = bytearray(capture.read_bytes())
    data[-1] ^= 0xFF
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(data)
    bad = "tcp.checksum.status == 0 or udp.checksum.status == 0 or icmpv6.checksum.status == 0"
    assert len(tshark(broken, "-Y", bad)) == 1


@FORM
def test_tshark_reads_the_header(headers: list[list[str]], form: Form) -> None:
    numbers = defaultdict(list)
    for ipv4, ipv6, flags, key, number, protocol in headers:
        source = ipv4 if form.outer == 4 else ipv6
        if source in {form.underlay(1), form.underlay(2)}:
            assert int(flags, 16) == form.flags
            assert (int(key, 0) if key else None) == form.key
            assert int(protocol, 16) in {0x0800, 0x86DD}
            numbers[source].append(int(number) if number else None)
    assert len(numbers) == 2
    for seen in numbers.values():
        assert len(seen) > 2 * STREAM / 1500
        expected = range(len(seen)) if form.flags & SEQUENCE else [None] * len(seen)
        assert seen == list(expected)


@FORM
def test_scapy_computes_the_same_packets(capture: Path, form: Form) -> None:
    """Every length and checksum, outer and inner, comes out as gred and the kernel wrote it."""
    seen: set[type[Packet]] = set()
    count = 0
    for packet in _packets(capture, form):
        gre = packet[GRE]
        assert gre.key == form.key if form.flags & KEY else not gre.key_present
        assert not isinstance(gre.payload, (Raw, NoPayload)), packet.summary()
        assert Padding not in packet, packet.summary()
        seen.update(packet.layers())
        again = packet.copy()
        for layer in map(again.getlayer, range(len(again.layers()))):
            for computed in ("chksum", "cksum", "len", "plen", "ihl"):
                # A fragment's checksum belongs to the whole.
                if computed in layer.fields and not _in_fragment(layer):
                    delattr(layer, computed)
        assert bytes(again) == bytes(packet), packet.show(dump=True)
        count += 1
    assert count > 4 * STREAM / 1500
    assert {GRE, TCP, ICMPv6EchoRequest, ICMPv6EchoReply} <= seen


def _packets(capture: Path, form: Form) -> Iterator[Packet]:
    outer = IP if form.outer == 4 else IPv6
    with PcapReader(str(capture)) as reader:
        for frame in reader:
            if (
                GRE in frame
                and outer in frame
                and frame[outer].src
                in {
                    form.underlay(1),
                    form.underlay(2),
                }
            ):
                yield frame[outer]


def _in_fragment(layer: Packet) -> bool:
    below = layer.underlayer
    while below is not None:
        if isinstance(below, IP) and (below.flags.MF or below.frag):
            return True
        if below.name.startswith("IPv6 Extension Header - Fragment"):
            return True
        below = below.underlayer
    return False
