"""Effective text: everything written out, each field once."""

from pathlib import Path
from typing import Any

from gred.config import Config, DaemonConfig, Location, TunnelConfig, render
from tests.config.files import load_text


def lines_of(**fields: Any) -> list[str]:
    tunnel = TunnelConfig(name="a", location=Location("", 1), **fields)
    return render(Config(daemon=DaemonConfig(), tunnels=(tunnel,))).splitlines()


def test_defaults_are_written_out() -> None:
    assert lines_of() == [
        "[Daemon]",
        "LogFormat=auto",
        "ControlSocket=auto",
        "MetricsListen=none",
        "MetricsTextfile=none",
        "",
        "[Tunnel a]",
        "Mode=gre",
        "Local=any",
        "Remote=any",
        "ResolveInterval=1min",
        "Transport=ip",
        "Port=4754",
        "RemotePort=4754",
        "SourcePort=auto",
        "UDPChecksum=yes",
        "Device=none",
        "FirewallMark=none",
        "Namespace=none",
        "MACAddress=none",
        "Address=none",
        "Route=none",
        "Repair=yes",
        "Key=none",
        "Checksum=no",
        "SerializeTunneledPackets=no",
        "TTL=64",
        "TOS=inherit",
        "DiscoverPathMTU=yes",
        "ProbeMTU=auto",
        "IgnoreDontFragment=no",
        "IPv6FlowLabel=auto",
        "EncapsulationLimit=none",
        "MTUBytes=auto",
        "Protocol=none",
        "Peers=none",
        "LearnPeers=no",
        "AllowedSources=none",
        "ClampMSS=yes",
        "Offload=auto",
        "PacketSocket=auto",
        "IPsec=no",
        "Keepalive=no",
        "KeepaliveRetries=3",
        "KeepaliveTarget=none",
        "KeepaliveReply=yes",
        "Carrier=keepalive",
        "PostUp=none",
        "PreDown=none",
        "OnStateChange=none",
        "HookTimeout=10s",
    ]


def test_equal_directions_are_one_option() -> None:
    lines = lines_of(input_key=7, output_key=7, input_sequence=True, output_sequence=True)
    assert "Key=7" in lines
    assert "SerializeTunneledPackets=yes" in lines
    assert not [line for line in lines if line.startswith(("Input", "Output"))]


def test_directions_that_differ_are_two_options() -> None:
    lines = lines_of(input_key=7, input_checksum="refuse", output_sequence=True)
    assert [line for line in lines if line.startswith(("Input", "Output"))] == [
        "InputKey=7",
        "OutputKey=none",
        "InputChecksum=refuse",
        "OutputChecksum=no",
        "InputSequence=no",
        "OutputSequence=yes",
    ]
    assert not [line for line in lines if line.startswith(("Key", "Checksum", "Serialize"))]


def test_list_is_one_line(tmp_path: Path) -> None:
    config = load_text(tmp_path, "[Tunnel a]\nRoute=10.0.0.0/8\n  fd00::/8\n")
    assert "Route=10.0.0.0/8, fd00::/8" in render(config).splitlines()
