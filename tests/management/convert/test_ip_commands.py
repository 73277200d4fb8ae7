"""Command lines of ip(8), as they stand in scripts."""

from pathlib import Path
from typing import Any

import pytest

from tests.management.convert.reading import converted, loaded, said

BOTH = "local 192.0.2.1 remote 192.0.2.2"


@pytest.mark.parametrize(
    ("commands", "fields"),
    [
        (f"ip tunnel add t mode gre {BOTH}", {"ttl": None, "tos": 0, "mode": "gre"}),
        (f"ip tun a name t {BOTH} mode gre ttl 255", {"ttl": 255}),
        (f"sudo /sbin/ip link add t type gre {BOTH} key 7", {"input_key": 7, "output_key": 7}),
        (f"ip l a name t type gre {BOTH} ikey 0.0.1.0 okey 8", {"input_key": 256, "output_key": 8}),
        (f"ip link add t type gre {BOTH} key 7 okey 8", {"input_key": 7, "output_key": 8}),
        (f"ip link add t type gre {BOTH} csum", {"input_checksum": "require"}),
        (f"ip link add t type gre {BOTH} ocsum", {"output_checksum": True}),
        (f"ip link add t type gre {BOTH} csum nocsum", {"output_checksum": False}),
        (f"ip link add t type gre {BOTH} seq", {"input_sequence": True, "output_sequence": True}),
        (f"ip link add t type gre {BOTH} oseq", {"input_sequence": False, "output_sequence": True}),
        (f"ip link add t type gre {BOTH} tos 10", {"tos": 0x10}),
        (f"ip link add t type gre {BOTH} tos inherit", {"tos": None}),
        (f"ip link add t type gre {BOTH} nopmtudisc", {"discover_path_mtu": False}),
        (f"ip link add t mtu 1400 type gre {BOTH} dev eth0", {"mtu": 1400}),
        (f"ip link add t address 02:00:00:00:00:01 type gretap {BOTH}", {"mode": "gretap"}),
        (f"ip link add t type gre {BOTH} fwmark 0x10", {"firewall_mark": 16}),
        (f"ip link add t type gre \\\n  {BOTH} \\\n  ttl 9", {"ttl": 9}),
        (f"ip link add t type gre {BOTH} && ip link set t mtu 1300", {"mtu": 1300}),
        (f"ip link add t type gre {BOTH}; ip link set dev t up mtu 1300", {"mtu": 1300}),
        ("ip link add t type ip6gre remote fd00::2", {"ttl": 64, "encapsulation_limit": 4}),
        (
            "ip -6 tunnel add t mode ip6gre remote fd00::2 encaplimit none hoplimit 9",
            {"ttl": 9, "encapsulation_limit": None},
        ),
        ("ip link add t type ip6gretap remote fd00::2 flowlabel 0x12345", {"flow_label": 0x12345}),
    ],
)
def test_tunnel(commands: str, fields: dict[str, Any], tmp_path: Path) -> None:
    done = converted(commands)
    assert said(done) == ""
    (tunnel,) = loaded(done, tmp_path).values()
    assert tunnel.name == "t"
    assert {name: getattr(tunnel, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("command", "field", "expected"),
    [
        ("ip address add 10.1.2.1/24 dev t", "addresses", ["10.1.2.1/24"]),
        ("ip a a 10.1.2.1/24 brd + dev t scope link", "addresses", ["10.1.2.1/24"]),
        ("ip addr add local 10.1.2.1 dev t", "addresses", ["10.1.2.1/32"]),
        ("ip -6 addr add fd00::1/64 dev t nodad", "addresses", ["fd00::1/64"]),
        ("ip addr add 10.1.2.1 peer 10.1.2.2/32 dev t", "routes", ["10.1.2.2/32"]),
        ("ip route add 20.1.3.0/24 dev t", "routes", ["20.1.3.0/24"]),
        ("ip r replace 20.1.3.9 dev t scope link", "routes", ["20.1.3.9/32"]),
        ("ip route add default dev t", "routes", ["0.0.0.0/0"]),
        ("ip -6 route add default dev t", "routes", ["::/0"]),
        (
            "ip addr add 10.1.2.1/24 dev t; ip route add 20.1.3.0/24 via 10.1.2.2",
            "routes",
            ["20.1.3.0/24"],
        ),
    ],
)
def test_addresses_and_routes(
    command: str, field: str, expected: list[str], tmp_path: Path
) -> None:
    done = converted(f"ip link add t type gre {BOTH}\n{command}\n")
    assert said(done) == ""
    assert list(map(str, getattr(loaded(done, tmp_path)["t"], field))) == expected


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("modprobe ip_gre", "line 2: no equivalent: modprobe ip_gre: no module is needed"),
        ("iptables -A INPUT -p gre -j ACCEPT", "it is not of ip(8)"),
        ("ip rule add fwmark 1 table 2", "it makes no tunnel"),
        ("ip link del t", "it makes no tunnel"),
        ("ip link add v type vxlan id 3", "v, of type vxlan: gred is GRE and nothing else"),
        ("ip tunnel add v mode ipip remote 192.0.2.3", "v, of type ipip"),
        ("ip route add 192.0.2.2 via 198.51.100.1 dev eth0", "does not lead into a tunnel"),
        ("ip route add 20.0.0.0/8 dev t metric 5", "metric 5 of the route 20.0.0.0/8"),
        ("ip link set t master br0", "no equivalent: master br0"),
        ("ip link set t down", "gred sets its tunnels up"),
        ("ip link set other up", "no tunnel was made of that name"),
        ("ip addr add $INNER dev t", "no equivalent"),
        ("ip link set t mtu 40", "mtu 40: MTUBytes= takes 68..65535 or auto"),
        (
            "ip link add u type gre remote $REMOTE",
            "$REMOTE: Remote= takes an IP address, a host name or any",
        ),
        ("ip link add u type gre external", "[Tunnel u]: line 2: no equivalent: external"),
        ("ip link add u type gre remote 192.0.2.9 encap gue encap-dport 4", "encap gue"),
        ("ip fou add port 4000 ipproto 47", "Port= of a tunnel with Transport=udp"),
        (f"ip link add u type gre {BOTH}", "gred refuses this: expected another Local, Remote"),
        ("ip -n far link add u type gre remote 192.0.2.9", "the network namespace far"),
        ("echo 'not closed", "it is not of ip(8)"),
    ],
)
def test_what_cannot_be_said_is_said(command: str, words: str, tmp_path: Path) -> None:
    done = converted(f"ip link add t type gre {BOTH}\n{command}\n")
    assert words in said(done)
    assert "t" in loaded(done, tmp_path)


def test_comments_and_empty_lines_are_nothing() -> None:
    assert said(converted(f"# tunnels\n\nip link add t type gre {BOTH} # one\n")) == ""


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("encap-sport auto encap-dport 4754", ("udp", 4754, None, True)),
        ("encap-sport 0 encap-dport 4000 encap-csum", ("udp", 4000, None, True)),
        ("encap-sport 4001 encap-dport 4000 noencap-csum", ("udp", 4000, 4001, False)),
    ],
)
def test_foo_over_udp(words: str, values: tuple[object, ...], tmp_path: Path) -> None:
    done = converted(f"ip link add t type gre {BOTH} encap fou {words}\n")
    assert said(done) == ""
    one = loaded(done, tmp_path)["t"]
    assert (one.transport, one.remote_port, one.source_port, one.udp_checksum) == values
