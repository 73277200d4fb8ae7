"""Blocks of an IOS configuration, as ``show running-config`` prints them."""

from pathlib import Path
from typing import Any

import pytest

from tests.management.convert.reading import converted, loaded, said

ENDS = " tunnel source 192.0.2.1\n tunnel destination 192.0.2.2\n"
WHOLE = """\
hostname R1
!
interface GigabitEthernet0/0
 ip address 192.0.2.1 255.255.255.0
!
interface Tunnel0
 ip address 10.1.2.1 255.255.255.252
 ip address 10.1.3.1 255.255.255.0 secondary
 ipv6 address fd00:1::1/64
 tunnel source GigabitEthernet0/0
 tunnel destination 192.0.2.2
!
router ospf 1
 network 10.0.0.0 0.255.255.255 area 0
!
ip route 20.1.3.0 255.255.255.0 Tunnel0
ip route 0.0.0.0 0.0.0.0 192.0.2.254
ipv6 route fd00:2::/64 Tunnel0
end
"""


def block(lines: str = "") -> str:
    body = "".join(f" {line}\n" for line in lines.splitlines())
    return f"interface Tunnel0\n{ENDS}{body}!\n"


def test_whole_configuration(tmp_path: Path) -> None:
    done = converted(WHOLE)
    tunnel = loaded(done, tmp_path)["Tunnel0"]
    assert (str(tunnel.local), str(tunnel.remote), tunnel.ttl) == ("192.0.2.1", "192.0.2.2", 255)
    assert list(map(str, tunnel.addresses)) == ["10.1.2.1/30", "10.1.3.1/24", "fd00:1::1/64"]
    assert list(map(str, tunnel.routes)) == ["20.1.3.0/24", "fd00:2::/64"]
    words = said(done)
    assert "tunnel source GigabitEthernet0/0: Local= is the address of it" in words
    assert "left out: hostname R1, interface GigabitEthernet0/0, router ospf 1, ip route" in words


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("tunnel key 42", {"input_key": 42, "output_key": 42}),
        ("tunnel checksum", {"input_checksum": "require", "output_checksum": True}),
        ("tunnel sequence-datagrams", {"input_sequence": True, "output_sequence": True}),
        ("tunnel mode gre ip", {"mode": "gre"}),
        ("tunnel ttl 64\ntunnel tos 32", {"ttl": 64, "tos": 32}),
        ("tunnel path-mtu-discovery", {"discover_path_mtu": True}),
        ("ip mtu 1400", {"mtu": 1400}),
        ("keepalive", {"keepalive": 10.0, "keepalive_retries": 3}),
        ("keepalive 5", {"keepalive": 5.0, "keepalive_retries": 3}),
        ("keepalive 5 4", {"keepalive": 5.0, "keepalive_retries": 4}),
        ("keepalive 5 4\nno keepalive", {"keepalive": None}),
        ("keepalive 0", {"keepalive": None}),
        ("no shutdown", {}),
    ],
)
def test_line(lines: str, fields: dict[str, Any], tmp_path: Path) -> None:
    done = converted(block(lines))
    assert said(done) == ""
    tunnel = loaded(done, tmp_path)["Tunnel0"]
    assert {name: getattr(tunnel, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("ip ospf cost 10", "line 4: no equivalent: ip ospf cost 10: a routing daemon"),
        ("ip tcp adjust-mss 1360", "ip tcp adjust-mss 1360: ClampMSS=yes, the default"),
        ("tunnel protection ipsec profile X", "what was encrypted there is in clear here"),
        ("ip nhrp network-id 1", "there is no NHRP"),
        ("tunnel mode gre multipoint", "Peers= or LearnPeers="),
        ("bandwidth 1000", "no equivalent: bandwidth 1000"),
        ("shutdown", "gred sets its tunnels up"),
        ("description to me", "it is described as: to me"),
        ("ip address 10.1.2.1 255.0.255.0", "expected an address and a netmask"),
        ("ip address dhcp", "Address= takes ADDRESS/PREFIX"),
        ("tunnel source Loopback0", "Local=%NAME follows an interface of this host"),
        ("tunnel destination 192.0.2", "192.0.2: Remote= takes an IP address"),
    ],
)
def test_what_cannot_be_said_is_said(lines: str, words: str, tmp_path: Path) -> None:
    done = converted(block(lines))
    assert words in said(done)
    assert "Tunnel0" in loaded(done, tmp_path)


def test_another_mode_is_no_tunnel_of_ours() -> None:
    done = converted(block("tunnel mode ipsec ipv4"))
    assert done.tunnels == 0
    assert "tunnel mode ipsec ipv4: gred is GRE and nothing else" in said(done)


def test_a_block_that_lost_its_indentation(tmp_path: Path) -> None:
    lines = block("tunnel key 42").replace("\n ", "\n")
    assert loaded(converted(lines), tmp_path)["Tunnel0"].input_key == 42


def test_a_destination_may_be_a_name(tmp_path: Path) -> None:
    done = converted(block("tunnel destination peer.example"))
    assert "it receives and cannot send" not in said(done)
    assert loaded(done, tmp_path)["Tunnel0"].remote_name == "peer.example"
