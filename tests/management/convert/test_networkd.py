"""Files of systemd-networkd, by systemd.netdev(5) and systemd.network(5)."""

from pathlib import Path

import pytest

from tests.management.convert.reading import converted, loaded, said

NETDEV = """\
[NetDev]
Name=gre1
Kind={kind}
{netdev}
[Tunnel]
Local={local}
Remote={remote}
{tunnel}
"""
NETWORK = """
# of the tunnel
[Match]
Name=gre*

[Network]
Address=10.1.2.1/24
Address=fd00:1::1/64

[Address]
Address=10.9.0.1
Peer=10.9.0.2/32

[Route]
Destination=20.1.3.0/24

[Route]
Gateway=fd00:1::2
"""


def netdev(tunnel: str = "", kind: str = "gre", *, netdev: str = "") -> str:
    six = kind.startswith("ip6")
    local, remote = ("2001:db8::1", "2001:db8::2") if six else ("192.0.2.1", "192.0.2.2")
    return NETDEV.format(kind=kind, netdev=netdev, local=local, remote=remote, tunnel=tunnel)


def test_defaults_are_those_of_the_kernel(tmp_path: Path) -> None:
    done = converted(netdev())
    assert said(done) == ""
    tunnel = loaded(done, tmp_path)["gre1"]
    assert (tunnel.mode, tunnel.ttl, tunnel.tos) == ("gre", None, 0)


def test_addresses_and_routes(tmp_path: Path) -> None:
    done = converted(netdev("Key=42\nTTL=64", netdev="MTUBytes=1400") + NETWORK)
    assert said(done) == ""
    tunnel = loaded(done, tmp_path)["gre1"]
    assert list(map(str, tunnel.addresses)) == ["10.1.2.1/24", "fd00:1::1/64", "10.9.0.1/32"]
    assert list(map(str, tunnel.routes)) == ["10.9.0.2/32", "20.1.3.0/24", "::/0"]
    assert (tunnel.input_key, tunnel.ttl, tunnel.mtu) == (42, 64, 1400)


def test_ipv6_and_ethernet(tmp_path: Path) -> None:
    done = converted(netdev("IPv6FlowLabel=7\nEncapsulationLimit=none\nTTL=0", "ip6gretap"))
    tunnel = loaded(done, tmp_path)["gre1"]
    assert (tunnel.mode, tunnel.family, tunnel.flow_label) == ("gretap", 6, 7)
    assert (tunnel.encapsulation_limit, tunnel.ttl) == (None, None)


def test_the_network_may_come_first(tmp_path: Path) -> None:
    tunnel = loaded(converted(NETWORK + netdev()), tmp_path)["gre1"]
    assert len(tunnel.addresses) == 3


def test_foo_over_udp(tmp_path: Path) -> None:
    text = netdev("FooOverUDP=yes\nFOUDestinationPort=4754\nFOUSourcePort=0")
    done = converted(text + "[NetDev]\nName=f\nKind=fou\n[FooOverUDP]\nPort=4754\n")
    assert "the port of a fou device is Port= of its tunnels" in said(done)
    one = loaded(done, tmp_path)["gre1"]
    assert (one.transport, one.remote_port, one.source_port) == ("udp", 4754, None)


def test_fragments(tmp_path: Path) -> None:
    tunnel = loaded(converted(netdev("IgnoreDontFragment=yes")), tmp_path)["gre1"]
    assert (tunnel.ignore_dont_fragment, tunnel.discover_path_mtu) == (True, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (netdev("Independent=yes"), "line 8: Independent=yes is not needed"),
        (
            netdev("FooOverUDP=yes\nEncapsulation=GenericUDPEncapsulation"),
            "Encapsulation=GenericUDPEncapsulation: Transport=udp is what Linux calls fou",
        ),
        (netdev("External=yes"), "External=yes: where packets go is configured here: Peers="),
        (netdev("CopyDSCP=yes"), "line 8: no equivalent: CopyDSCP=yes"),
        (netdev("Local=dhcp4"), "Local=dhcp4: Local= takes an IP address"),
        (netdev(netdev="Description=to me"), "it is described as: to me"),
        (netdev(kind="erspan"), "gre1, of type erspan: ERSPAN is not there"),
        (netdev(kind="ipip"), "gre1, of type ipip: gred is GRE and nothing else"),
        (netdev() + "[Match]\nName=eth0\n[Network]\nTunnel=gre1\n", "Name=eth0 is no tunnel's"),
        (netdev() + "[Match]\nName=gre1\n[Network]\nDHCP=yes\n", "no equivalent: DHCP=yes"),
        (netdev() + "[Match]\nName=gre1\n[QDisc]\nParent=root\n", "no equivalent: [QDisc]"),
        (
            netdev() + "[Match]\nName=gre1\n[Route]\nDestination=20.0.0.0/8\nMetric=5\n",
            "Metric=5 of the route 20.0.0.0/8",
        ),
        (netdev() + "nonsense\n", "no equivalent: nonsense: expected Option=value"),
    ],
)
def test_what_cannot_be_said_is_said(text: str, words: str, tmp_path: Path) -> None:
    done = converted(text)
    assert words in said(done)
    loaded(done, tmp_path)
