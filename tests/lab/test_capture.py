"""The laboratory's capture, over a plain wire."""

from pathlib import Path

import pytest

from gred.lab.capture import Capture
from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import ping


def test_a_capture_is_a_pcap_of_what_crossed(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    scapy = pytest.importorskip("scapy.all")
    left, _right = hosts
    with Capture(left, UNDERLAY, tmp_path / "wire.pcap") as capture:
        ping(left, "10.0.0.2", count=3, size=100)
    packets = scapy.rdpcap(str(tmp_path / "wire.pcap"))
    assert len(packets) == capture.packets
    assert capture.missed == 0
    assert [p[scapy.ICMP].type for p in packets if scapy.ICMP in p] == [8, 0] * 3
    stamps = [p.time for p in packets]
    assert stamps == sorted(stamps)


def test_a_capture_to_nowhere_is_an_error_at_once(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Capture(hosts[0], UNDERLAY, tmp_path / "no" / "file"):
        pass
