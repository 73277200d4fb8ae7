"""Findings are functions of facts: each kind from the facts that make it, and from no others."""

import re
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from gred.management import doctor
from gred.management.doctor import iptables
from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Facts,
    Firewall,
    Holder,
    IPsec,
    KernelGre,
    KernelLink,
    NetworkFile,
    Receivers,
    Running,
    Service,
    Tun,
    Unseen,
)
from gred.management.doctor.findings import findings
from gred.management.doctor.ruleset import Chain, Rule, Ruleset
from tests.management.doctor.hosts import CLEAN, ETH0, REMOTE, TUNNEL, host, remote, tunnel

GRE0 = KernelLink(name="gre0", kind="gre", version=4, takes_all=True)
STRANGER = Holder(version=4, user="root", inode=7, pid=77, program="x")
RUNNING = Receivers(running=(Running(pid=9, tunnels=("t",)),))
FILE = NetworkFile(path="/etc/systemd/network/a.network", names="*")
USERS = Capabilities(user="root", initial=False)
OTHER = Receivers(rivals={"t": "another gred (process 9) takes the same packets: stop it"})
IN_UDP = replace(TUNNEL, port=4754, remote_port=5000)
SUBNET = (ip_network("20.1.3.0/24"),)
ROUTER = {"routes": SUBNET, "between": True, "forwarding": {"4": False}}


def filtered(*rules: str, policy: str = "ACCEPT") -> Firewall:
    lines = ["*filter", f":INPUT {policy} [0:0]", *(f"-A INPUT {rule}" for rule in rules)]
    return Firewall(iptables=iptables.read("\n".join(lines), 4))


PLANTED: list[tuple[str, Facts, str]] = [
    ("tun_absent", host(tun=Tun(present=False)), "modprobe tun"),
    ("tun_wrong", host(tun=Tun(present=True, wrong="a plain file")), "mknod -m 666"),
    ("tun_refused", host(tun=Tun(present=True, opens=False, error="No")), "--device /dev/net/tun"),
    ("tun_service_user", host(tun=Tun(present=True, service_user=False)), "chmod 666"),
    (
        "capability_missing",
        host(capabilities=Capabilities(user="root", missing=("net_raw",))),
        "--cap-add NET_RAW",
    ),
    ("receive_buffer", host(capabilities=USERS), "net.core.rmem_max=8388608"),
    ("slow_codec", host(codec=Codec(implementation="python")), "apt install gcc"),
    (
        "kernel_takes_all",
        host(kernel_gre=KernelGre(modules=("ip_gre",), links=(GRE0,))),
        "gre0 down",
    ),
    ("kernel_answers", host(kernel_gre=KernelGre(modules=("ip_gre",))), "modprobe -r ip_gre"),
    ("kernel_answers", host(kernel_gre=KernelGre(modules=("ip6_gre",))), "icmpv6 code"),
    ("other_receiver", host(receivers=Receivers(holders=(STRANGER,))), "ps -fp 77"),
    ("rival", host(receivers=OTHER), "stop it"),
    ("service_cannot_see", host(service=Service(complaints=("a: no (chgrp gred)",))), "chgrp gred"),
    ("service_capabilities", host(service=Service(missing=("net_raw",))), "AmbientCapabilities="),
    ("service_failed", host(service=Service(state="failed", exit_status=78)), "journalctl -u gred"),
    ("configuration_newer", host(service=Service(configuration_newer=True)), "gred check"),
    ("gro_off", host(underlays=(replace(ETH0, offloads={"gro": False}),)), "eth0 gro on"),
    ("firewall_stops", host(firewall=filtered("-p gre -j DROP")), "-s 192.0.2.2 -p gre -j ACCEPT"),
    ("firewall_stops", host(firewall=filtered(policy="DROP")), "iptables -I INPUT"),
    (
        "firewall_may_stop",
        host(firewall=filtered("-m conntrack --ctstate ESTABLISHED -j ACCEPT", policy="DROP")),
        "iptables -I INPUT",
    ),
    (
        "firewall_stops",
        host(firewall=filtered("-p udp -m udp --dport 4754 -j DROP"), tunnels=(IN_UDP,)),
        "iptables -I INPUT -s 192.0.2.2 -p udp --dport 4754 -j ACCEPT",
    ),
    ("local_missing", tunnel(local_missing="no interface has 192.0.2.1"), "ip address show"),
    ("unresolved", tunnel(unresolved="cannot resolve vpn.example: no answer"), "resolvectl status"),
    ("no_route", remote(no_route="Network is unreachable"), "ip route add 192.0.2.2 via"),
    ("loop", tunnel(loop=("t",), loop_certain=True), "ip route add 192.0.2.2 via"),
    ("loop", tunnel(loop=("u", "t")), "ip route add 192.0.2.2 via"),
    (
        "rp_filter_underlay",
        host(
            underlays=(replace(ETH0, rp_filter=1),),
            tunnels=(replace(TUNNEL, remotes=(replace(REMOTE, back="eth1"),)),),
        ),
        "net.ipv4.conf.eth0.rp_filter=2",
    ),
    ("rp_filter_tunnel", tunnel(rp_filter=1, elsewhere=SUBNET), "net.ipv4.conf.t.rp_filter=2"),
    ("forwarding_off", tunnel(**ROUTER), "net.ipv4.ip_forward=1"),
    ("name_taken", tunnel(exists=True, up=True, mtu=1476), "ip link delete dev t"),
    (
        "mtu_above_path",
        tunnel(mtu_configured=1490, mtu_computed=1490),
        "set MTUBytes=1476, or MTUBytes=auto",
    ),
    (
        "mtu_above_path",
        tunnel(
            mtu_configured=1476,
            mtu_computed=1476,
            remotes=(replace(REMOTE, ipsec=IPsec(policy="protect", state=True, largest=1466)),),
        ),
        "set MTUBytes=1442, or",
    ),
    ("address_shared", tunnel(overlaps=("interface eth0 has it too",)), "another Address="),
    ("ipsec_blocks", remote(ipsec=IPsec(policy="block")), "ip xfrm policy"),
    ("ipsec_unprotected", remote(ipsec=IPsec(policy="shield", inbound="shield")), "swanctl"),
    ("ipsec_no_state", remote(ipsec=IPsec(policy="protect", inbound="protect")), "swanctl"),
    ("ipsec_inbound", remote(ipsec=IPsec(policy="none", inbound="block")), "ip xfrm policy"),
    ("ipsec_inbound", remote(ipsec=IPsec(policy="none", inbound="protect")), "ip xfrm policy"),
    (
        "networkd",
        host(networkd=True, tunnels=(replace(TUNNEL, network_file=FILE),)),
        "Unmanaged=yes",
    ),
]
SILENT = {
    "exists": True,
    "up": True,
    "carrier": False,
    "asks": "192.0.2.2",
    "follows_carrier": True,
    "ipv6_follows_carrier": True,
}
# Of a gred that runs.
PLANTED += [
    (kind, replace(facts, receivers=RUNNING), remedy)
    for kind, facts, remedy in (
        ("interface_down", tunnel(exists=True, up=False, mtu=1476), "ip link set dev t up"),
        ("silent", tunnel(**SILENT), "KeepaliveTarget="),
        (
            "no_carrier",
            tunnel(exists=True, up=True, carrier=False, namespace="blue"),
            "ip -n blue link set dev t carrier on",
        ),
        (
            "linkdown_ipv6",
            tunnel(**SILENT | {"carrier": True, "ipv6_follows_carrier": False}),
            "net.ipv6.conf.t.ignore_routes_with_linkdown=1",
        ),
        ("interface_incomplete", tunnel(exists=True, up=True, missing="route"), "gred check"),
        ("interface_mtu", tunnel(exists=True, up=True, mtu=1500), "dev t mtu 1476"),
        (
            "interface_mtu",
            tunnel(exists=True, up=True, mtu=1500, mtu_configured=1400, mtu_computed=1400),
            "dev t mtu 1400",
        ),
        (
            "interface_down",
            tunnel(exists=True, up=False, namespace="blue"),
            "ip -n blue link set dev t up",
        ),
    )
]


@pytest.mark.parametrize(
    "facts",
    [
        tunnel(exists=True, up=True, carrier=True),
        tunnel(**SILENT | {"carrier": True}),
        tunnel(**SILENT | {"carrier": None, "ipv6_follows_carrier": None}),
        tunnel(exists=True, up=True, carrier=True, ipv6_follows_carrier=False),
    ],
)
def test_a_carrier_that_is_there_is_no_finding(facts: Facts) -> None:
    assert findings(replace(facts, receivers=RUNNING)) == []


def test_a_clean_host_has_none() -> None:
    assert findings(CLEAN) == []


@pytest.mark.parametrize(("kind", "facts", "remedy"), PLANTED)
def test_a_fault_is_named_with_its_remedy(kind: str, facts: Facts, remedy: str) -> None:
    (finding,) = findings(facts)
    assert finding.kind == kind
    assert remedy in finding.remedy
    assert finding.what
    assert finding.why


NOT_PLANTED: list[Facts] = [
    host(tun=Tun(present=True, opens=False), capabilities=Capabilities(user="joe")),
    host(tun=Tun(present=True, opens=None)),
    host(capabilities=Capabilities(user="joe", missing=("net_admin", "net_raw"))),
    host(capabilities=USERS, buffers=Buffers(asked=1, limit=2)),
    host(codec=Codec(implementation="python", chosen=True)),
    host(kernel_gre=KernelGre(modules=("gre", "fou"))),
    host(receivers=Receivers(holders=(replace(STRANGER, gred=True),))),
    host(receivers=Receivers(holders=(replace(STRANGER, pid=None),))),
    host(underlays=(replace(ETH0, offloads={"gro": False}, physical=False),)),
    host(underlays=(replace(ETH0, rp_filter=1),)),
    host(underlays=(replace(ETH0, rp_filter=2),), tunnels=remote(back="eth1").tunnels),
    host(
        underlays=(ETH0, replace(ETH0, name="dummy0", rp_filter=1, hears=False)),
        tunnels=tunnel(local_device="dummy0").tunnels,
    ),
    host(service=Service(unit="u", state="inactive")),
    host(firewall=filtered("-s 192.0.2.2 -j ACCEPT", policy="DROP")),
    host(firewall=filtered("-s 192.0.2.2 -m limit --limit 9/s -j ACCEPT", policy="DROP")),
    host(firewall=filtered("-s 198.51.100.1 -p gre -j DROP")),
    tunnel(steered=True, loop=("t",)),
    tunnel(**(ROUTER | {"between": False})),
    tunnel(**(ROUTER | {"forwarding": {"4": True}})),
    tunnel(elsewhere=SUBNET),
    tunnel(mtu_configured=1490, mtu_computed=1490, fragments=True),
    tunnel(network_file=FILE),
    host(
        networkd=True, tunnels=tunnel(network_file=replace(FILE, harmless="Unmanaged=yes")).tunnels
    ),
    remote(learned_mtu=1400),
    remote(ipsec=IPsec(policy="protect", inbound="protect", state=True, largest=1466)),
    replace(tunnel(exists=True, up=True, mtu=1400), receivers=RUNNING),
    host(
        **dict.fromkeys(
            ("tun", "capabilities", "codec", "kernel_gre", "receivers", "firewall", "buffers"),
            Unseen("no"),
        ),
        service=Unseen("no"),
        tunnels=Unseen("no"),
    ),
    host(firewall=Firewall(nftables=Unseen("no"), iptables=Unseen("no"))),
    remote(ipsec=Unseen("no")),
]


@pytest.mark.parametrize("facts", NOT_PLANTED)
def test_what_is_no_fault_is_not_named(facts: Facts) -> None:
    assert findings(facts) == []


def test_a_remedy_of_ipv6_is_one_of_ipv6() -> None:
    facts = remote(address=ip_address("2001:db8::2"), no_route="Network is unreachable")
    assert findings(facts)[0].remedy.startswith("ip -6 route add 2001:db8::2 via")


def test_two_sockets_of_one_program_are_one_finding() -> None:
    both = (STRANGER, replace(STRANGER, version=6, inode=8))
    (finding,) = findings(host(receivers=Receivers(holders=both)))
    assert "over IPv4 and IPv6" in finding.what


def test_one_rule_is_told_once() -> None:
    """Whatever the number of tunnels and hooks that meet it."""
    facts = host(firewall=filtered("-p gre -j DROP"), tunnels=(TUNNEL, replace(TUNNEL, name="u")))
    assert [one.tunnels for one in findings(facts)] == [("t", "u")]


def test_each_kind_has_a_fault_here() -> None:
    sources = Path(doctor.__file__).parent.glob("*_findings.py")
    source = "".join(one.read_text(encoding="utf-8") for one in sources)
    kinds = set(re.findall(r'"([a-z0-9_]+)"', "".join(re.findall(r"kind=(.+),\n", source))))
    assert kinds == {kind for kind, _facts, _remedy in PLANTED}


@pytest.mark.parametrize(
    ("table", "first", "hook", "remedy"),
    [
        ("firewalld", "jump", "input", "firewall-cmd --add-protocol=gre"),
        ("firewalld", "jump", "forward", "firewall-cmd --zone=trusted --add-interface=t"),
        ("filter", "ufw-before-input", "input", "ufw allow proto gre from 192.0.2.2"),
        ("filter", "ufw-before-output", "output", "ufw allow out proto gre to 192.0.2.2"),
        ("filter", "ufw-before-forward", "forward", "ufw route allow in on t"),
        (
            "filter",
            "mine",
            "input",
            "nft insert rule inet filter x ip saddr 192.0.2.2 meta l4proto",
        ),
        ("filter", "mine", "forward", "nft insert rule inet filter x iifname t accept"),
    ],
)
def test_who_made_the_rules_mends_them(table: str, first: str, hook: str, remedy: str) -> None:
    """What is put beside them is gone when they are loaded again."""
    chain = Chain(
        tool="nft",
        family="inet",
        table=table,
        name="x",
        versions=frozenset({4}),
        hook=hook,
        policy="drop",
        rules=(Rule(first, (), "jump", first),),
    )
    facts = host(
        firewall=Firewall(nftables=Ruleset((chain,))),
        tunnels=tunnel(**(ROUTER | {"forwarding": {"4": True}})).tunnels,
    )
    assert findings(facts)[0].remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("table", "first", "hook", "remedy"),
    [
        ("firewalld", "jump", "input", "firewall-cmd --add-port=4754/udp"),
        (
            *("filter", "ufw-before-input", "input"),
            "ufw allow proto udp from 192.0.2.2 to any port 4754",
        ),
        (
            *("filter", "ufw-before-output", "output"),
            "ufw allow out proto udp to 192.0.2.2 port 5000",
        ),
        (
            *("filter", "mine", "input"),
            "nft insert rule inet filter x ip saddr 192.0.2.2 udp dport 4754 accept",
        ),
        (
            *("filter", "mine", "output"),
            "nft insert rule inet filter x ip daddr 192.0.2.2 udp dport 5000 accept",
        ),
    ],
)
def test_in_udp_the_port_is_what_must_pass(table: str, first: str, hook: str, remedy: str) -> None:
    chain = Chain(
        tool="nft",
        family="inet",
        table=table,
        name="x",
        versions=frozenset({4}),
        hook=hook,
        policy="drop",
        rules=(Rule(first, (), "jump", first),),
    )
    facts = host(firewall=Firewall(nftables=Ruleset((chain,))), tunnels=(IN_UDP,))
    (found,) = findings(facts)
    assert found.remedy == remedy
    assert "GRE in UDP, port" in found.what


@pytest.mark.parametrize(
    "rules",
    [
        ("-p gre -j DROP",),
        ("-p udp -m udp --dport 5000 -j DROP",),
        ("-p udp -m multiport --dports 22,4000:5000 -j ACCEPT", "-j DROP"),
    ],
)
def test_what_is_not_for_its_port_does_not_matter_in_udp(rules: tuple[str, ...]) -> None:
    assert findings(host(firewall=filtered(*rules), tunnels=(IN_UDP,))) == []
