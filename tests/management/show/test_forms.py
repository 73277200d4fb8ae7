"""What is printed for each system, and that gred reads it back; tests/interop runs it."""

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings

from gred.config import Config, DaemonConfig, TunnelConfig
from gred.config.verify import verify
from gred.management.convert import command as convert
from gred.management.convert.printing import Conversion
from gred.management.show.command import FORMS, of_tunnel
from gred.management.show.mirror import mirror
from gred.management.show.writing import NoFormError
from tests.config.test_properties import TUNNELS
from tests.management.convert.reading import loaded
from tests.management.show.test_mirror import tunnel

WHOLE = {
    "Address": "10.1.2.1/24, fd00:1::1/64",
    "Key": "42",
    "Checksum": "yes",
    "SerializeTunneledPackets": "yes",
    "TOS": "0x28",
    "MTUBytes": "1400",
    "Keepalive": "10s",
}


def form(name: str, **options: str) -> str:
    return of_tunnel(tunnel(**options), name)[0]


def test_gred() -> None:
    lines = form("gred", **WHOLE).splitlines()
    assert "[Tunnel t]" in lines
    assert {"Local=192.0.2.2", "Remote=192.0.2.1", "Key=42", "Keepalive=10s"} <= set(lines)


def test_ip() -> None:
    lines = [line for line in form("ip", **WHOLE).splitlines() if line[0] != "#"]
    assert lines == [
        "ip link add t type gre local 192.0.2.2 remote 192.0.2.1 key 42 csum seq ttl 64 tos 0x28",
        "ip link set t mtu 1400 up",
        "ip address add 10.1.2.2/24 dev t",
        "ip address add fd00:1::2/64 dev t",
    ]


def test_ip_over_ipv6() -> None:
    text = form("ip", Local="fd00::1", Remote="fd00::2", TTL="inherit", Mode="gretap")
    assert "type ip6gretap local fd00::2 remote fd00::1 hoplimit 64 tclass inherit" in text
    assert "encaplimit none" in text
    assert "# no equivalent of TTL=inherit" in text


def test_networkd() -> None:
    lines = form("networkd", **WHOLE).splitlines()
    assert {"Name=t", "Kind=gre", "Key=42", "MTUBytes=1400", "TTL=64", "TOS=40"} <= set(lines)
    assert {"SerializeTunneledPackets=yes", "Independent=yes", "Address=10.1.2.2/24"} <= set(lines)
    assert "# no equivalent of Checksum=: take it out at this end" in lines


def test_in_udp() -> None:
    options = {"Transport": "udp", "Port": "4001", "RemotePort": "4002", "UDPChecksum": "no"}
    lines = form("gred", **options).splitlines()
    assert {"Transport=udp", "Port=4002", "RemotePort=4001", "UDPChecksum=no"} <= set(lines)
    text = form("ip", **options)
    assert "ip fou add port 4002 ipproto 47\n" in text
    assert "encap fou encap-sport auto encap-dport 4001 noencap-csum\n" in text
    lines = form("networkd", **options).splitlines()
    assert {"FooOverUDP=yes", "FOUDestinationPort=4001", "Kind=fou", "Port=4002"} <= set(lines)
    for router in ("cisco", "mikrotik"):
        with pytest.raises(NoFormError, match="GRE-in-UDP"):
            form(router, **options)


def test_cisco() -> None:
    lines = form("cisco", **WHOLE).splitlines()
    assert lines[lines.index("interface Tunnel0") :] == [
        "interface Tunnel0",
        " ip address 10.1.2.2 255.255.255.0",
        " ipv6 address fd00:1::2/64",
        " ip mtu 1400",
        " ip tcp adjust-mss 1360",
        " keepalive 10 3",
        " tunnel source 192.0.2.2",
        " tunnel destination 192.0.2.1",
        " tunnel mode gre ip",
        " tunnel key 42",
        " tunnel checksum",
        " tunnel sequence-datagrams",
        " tunnel ttl 64",
        " tunnel tos 40",
        " tunnel path-mtu-discovery",
        " no shutdown",
        "!",
    ]


def test_mikrotik() -> None:
    text = form("mikrotik", **WHOLE)
    assert "/interface gre add name=t local-address=192.0.2.2 remote-address=192.0.2.1" in text
    assert " mtu=1400 keepalive=10s,3 dscp=10 dont-fragment=inherit\n" in text
    assert "/ip address add address=10.1.2.2/24 interface=t\n" in text
    for option in ("Key=", "Checksum=", "SerializeTunneledPackets="):
        assert f"# no equivalent of {option}: take it out at this end" in text


@pytest.mark.parametrize("name", ["cisco", "mikrotik"])
def test_ethernet_has_no_form(name: str) -> None:
    with pytest.raises(NoFormError):
        form(name, Mode="gretap")


@pytest.mark.parametrize("name", FORMS)
def test_notes_are_comments(name: str) -> None:
    text, notes = of_tunnel(tunnel(**WHOLE), name)
    assert notes
    assert all(f"{'!' if name == 'cisco' else '#'} {note}\n" in text for note in notes)


# What the form cannot say, or the conversion of it takes for something else.
NEVER = {"location", "keepalive", "keepalive_retries", "keepalive_target", "port"}
UNKNOWN = {
    "ip": NEVER | {"protocol"},
    "networkd": NEVER | {"input_checksum", "output_checksum", "input_sequence", "protocol"}
    | {"output_sequence", "udp_checksum"},
    "cisco": {"location", "mtu"},
}  # fmt: skip


@pytest.mark.parametrize("name", ["ip", "networkd"])
@settings(suppress_health_check=[HealthCheck.filter_too_much])  # most options exclude others
@given(one=TUNNELS)
def test_round_trip(name: str, one: TunnelConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is shown converts to the mirrored tunnel."""
    expected = mirror(one).tunnel
    assume(not verify(Config(daemon=DaemonConfig(), tunnels=(expected,))))
    assume(expected.local is not None or expected.remote is not None)
    six = expected.family == 6
    assume(not six or expected.discover_path_mtu)
    assume(expected.tos != 1)
    skipped = set(UNKNOWN[name])
    skipped |= {"ttl", *({"tos"} if name == "networkd" else ())} if six else set()
    done = convert.of_text(of_tunnel(one, name)[0], dialect=name)
    found = _only(done, tmp_path_factory.mktemp("shown"))
    for field in fields(TunnelConfig):
        if field.compare and field.name not in skipped:
            assert getattr(found, field.name) == getattr(expected, field.name), field.name


def _only(done: Conversion, directory: Path) -> TunnelConfig:
    (found,) = loaded(done, directory).values()
    return found


@pytest.mark.parametrize("name", ["cisco", "mikrotik"])
def test_round_trip_of_a_router(name: str, tmp_path: Path) -> None:
    one = tunnel(Address="10.1.2.1/24", TOS="0x28", MTUBytes="1400", Keepalive="10s")
    expected = mirror(one).tunnel
    found = _only(convert.of_text(of_tunnel(one, name)[0]), tmp_path)
    for field in ("local", "remote", "addresses", "tos", "mtu", "keepalive", "keepalive_retries"):
        assert getattr(found, field) == getattr(expected, field), field
