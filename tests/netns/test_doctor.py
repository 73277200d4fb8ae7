"""gred doctor on hosts with one fault each: the fault is named, and nothing else is."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import gred
from gred.control.errors import ExitCode
from gred.control.kernel.drivers import has_carrier
from gred.control.kernel.namespaces import inside
from gred.dataplane.linux import IPPROTO_GRE
from gred.dataplane.tun import TunDevice
from gred.lab.hosts import NAMESPACES, UNDERLAY, Host, Lab, LabError
from gred.lab.traffic import ping
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, wait_for, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - what it says is the same in both
from tests.nft import nft

SOURCE = Path(gred.__file__).parent.parent
ENDS = f"[Tunnel t]\nLocal={LEFT[0]}\nRemote={RIGHT[0]}\nAddress=10.9.1.1/24\n"
NETLINK_XFRM = 6
XFRMNLGRP_ACQUIRE = 1  # linux/xfrm.h, as a mask
_serial = count(1)


@pytest.fixture
def pair(lab: Lab) -> tuple[Host, Host]:
    """Two hosts that no other test has touched, named left and right, as ``hosts``."""
    number = next(_serial)
    left, right = lab.host(f"left{number}"), lab.host(f"right{number}")
    lab.wire(left, right)
    for host, addresses in ((left, LEFT), (right, RIGHT)):
        host.address(f"{addresses[0]}/24")
        host.address(f"{addresses[1]}/64")
        for name in ("all", "default", UNDERLAY):
            host.sysctl(f"net.ipv4.conf.{name}.rp_filter", "0")
    return left, right


@dataclass(frozen=True)
class Told:
    """What the doctor printed."""

    code: int
    facts: dict[str, Any]
    findings: list[dict[str, Any]]

    @property
    def kinds(self) -> list[str]:
        return [finding["kind"] for finding in self.findings]

    def only(self) -> dict[str, Any]:
        """Return the finding, which must be the only one."""
        assert len(self.findings) == 1, self.findings
        assert self.code == ExitCode.FINDINGS
        return self.findings[0]


class Doctor:
    """Runs ``gred doctor`` on a host, with files below a root of the test's own."""

    def __init__(self, host: Host, root: Path) -> None:
        self.host = host
        self.root = root

    def run(self, *arguments: str, wrapper: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("nsenter", f"--net={NAMESPACES / self.host.namespace}"),
                *wrapper,
                *(sys.executable, "-m", "gred", "doctor", "--root", str(self.root), *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=SOURCE,
        )

    def examine(self, text: str = ENDS, *, wrapper: Sequence[str] = ()) -> Told:
        path = self.root / "gred.conf"
        path.write_text(text)
        done = self.run("--json", "-c", str(path), wrapper=wrapper)
        assert not done.stderr, done.stderr
        told = json.loads(done.stdout)
        return Told(done.returncode, told["facts"], told["findings"])


@pytest.fixture
def doctor(pair: tuple[Host, Host], lab: Lab) -> Doctor:
    root = lab.directory() / f"root{next(_serial)}"
    root.mkdir()
    return Doctor(pair[0], root)


@pytest.fixture
def left(pair: tuple[Host, Host]) -> Host:
    return pair[0]


def test_a_clean_host_has_no_findings(doctor: Doctor) -> None:
    told = doctor.examine()
    assert (told.code, told.findings) == (ExitCode.OK, [])
    (tunnel,) = told.facts["tunnels"]
    assert tunnel["remotes"][0]["device"] == UNDERLAY
    assert tunnel["mtu_computed"] == 1476
    assert told.facts["underlays"][0]["name"] == UNDERLAY


def test_nothing_is_sent_and_nothing_is_changed(doctor: Doctor, left: Host) -> None:
    nft(
        left,
        "table inet sent {\nchain out {\ntype filter hook output priority 0",
        "icmpv6 type mld2-listener-report accept",  # the kernel's, of the wire's addresses
        "counter\n}\n}",
        "table arp sent {\nchain out {\ntype filter hook output priority 0",
        "counter\n}\n}",
    )

    def state() -> list[str]:
        shown = [left.ip(*words) for words in (("addr",), ("route",), ("neigh",), ("-6", "route"))]
        return [*shown, nft(left, "list ruleset")]

    before = state()
    assert before[-1].count("counter packets 0 bytes 0") == 2
    told = doctor.examine(ENDS + f"[Tunnel u]\nLocal={LEFT[1]}\nRemote={RIGHT[1]}\n")
    assert told.code == ExitCode.OK
    assert state() == before


def test_without_a_configuration_the_host_alone_is_looked_at(doctor: Doctor) -> None:
    if Path("/etc/gred/gred.conf").exists():
        require.lacks("needs a machine without /etc/gred/gred.conf")
    done = doctor.run()
    assert done.returncode == ExitCode.OK, done.stdout
    assert "there is no /etc/gred/gred.conf; nothing is said of tunnels" in done.stdout
    assert done.stdout.endswith("No findings.\n")


def test_a_wrong_configuration_is_told_and_the_host_is_looked_at_all_the_same(
    doctor: Doctor, left: Host
) -> None:
    path = doctor.root / "gred.conf"
    path.write_text(ENDS + "TTL=300\n")
    done = doctor.run("-c", str(path))
    assert done.returncode == ExitCode.BAD_CONFIGURATION
    assert "gred.conf:5: [Tunnel t] TTL: expected" in done.stdout
    assert "/dev/net/tun: opens" in done.stdout
    absent = doctor.run("-c", str(doctor.root / "none.conf"))
    assert absent.returncode == ExitCode.BAD_CONFIGURATION
    assert "none.conf" in absent.stdout


# Packet filters.


def filtered(host: Host, hook: str, *rules: str, policy: str = "accept") -> None:
    base = f"type filter hook {hook} priority 0", f"policy {policy}"
    lines = "\n".join((*base, *rules))
    nft(host, f"table inet filter {{\nchain {hook} {{\n{lines}\n}}\n}}")


@pytest.mark.parametrize(
    ("hook", "rule", "kind"),
    [
        ("input", "meta l4proto gre drop", "firewall_stops"),
        ("input", "ip protocol gre counter reject", "firewall_stops"),
        ("output", "meta l4proto { icmp, gre } drop", "firewall_stops"),
        ("input", f"ip saddr {RIGHT[0]} drop", "firewall_stops"),
        ("input", f'iifname "{UNDERLAY}" meta l4proto 47 drop', "firewall_stops"),
        ("input", "meta l4proto gre ct state new drop", "firewall_may_stop"),
        ("input", "meta l4proto vmap { tcp : accept, gre : drop }", "firewall_stops"),
        ("prerouting", "ip protocol gre drop", "firewall_stops"),
    ],
)
def test_a_rule_of_nftables_is_printed(
    doctor: Doctor, left: Host, hook: str, rule: str, kind: str
) -> None:
    filtered(left, hook, rule)
    finding = doctor.examine().only()
    assert finding["kind"] == kind
    assert finding["tunnels"] == ["t"]
    printed = nft(left, "list ruleset").splitlines()[3].strip()
    assert printed in finding["what"]
    assert finding["remedy"].startswith(f"nft insert rule inet filter {hook} ip ")


@pytest.mark.parametrize("hook", ["input", "output"])
def test_the_remedy_mends_a_policy(doctor: Doctor, left: Host, hook: str) -> None:
    filtered(left, hook, "tcp dport 22 accept", policy="drop")
    finding = doctor.examine().only()
    assert finding["kind"] == "firewall_stops"
    assert "by its policy drop" in finding["what"]
    nft(left, finding["remedy"].removeprefix("nft "))
    assert doctor.examine().code == ExitCode.OK


def test_a_usual_firewall_may_stop_it(doctor: Doctor, left: Host) -> None:
    rules = 'iifname "lo" accept', "ct state established,related accept", "tcp dport 22 accept"
    filtered(left, "input", *rules, policy="drop")
    finding = doctor.examine().only()
    assert finding["kind"] == "firewall_may_stop"
    assert "accepted is only: ct state established,related accept)" in finding["what"]


@pytest.mark.parametrize(
    "rule",
    [
        "meta l4proto gre accept",
        f"ip saddr {RIGHT[0]} accept",
        "ip saddr 192.0.2.0/24 ct state new accept",
        f"iifname {UNDERLAY} accept",
        "meta l4proto gre limit rate 1000/second accept",
    ],
)
def test_a_firewall_that_lets_it_pass_is_no_finding(doctor: Doctor, left: Host, rule: str) -> None:
    filtered(left, "input", "ct state invalid drop", rule, policy="drop")
    assert doctor.examine().findings == []


@pytest.mark.parametrize("rule", ["meta l4proto gre drop", "ip6 nexthdr 47 drop"])
def test_of_ipv6_its_own_rules_count(doctor: Doctor, left: Host, rule: str) -> None:
    filtered(left, "input", rule)
    over6 = f"[Tunnel t]\nLocal={LEFT[1]}\nRemote={RIGHT[1]}\n"
    assert doctor.examine(over6).only()["kind"] == "firewall_stops"
    assert (doctor.examine(ENDS).findings == []) == rule.startswith("ip6")


def test_without_tunnels_rules_for_gre_are_found_too(doctor: Doctor, left: Host) -> None:
    filtered(left, "input", "ip protocol gre drop")
    finding = doctor.examine("[Daemon]\n").only()
    assert (finding["kind"], finding["tunnels"]) == ("firewall_stops", [])


def test_firewalld_may_stop_it_by_its_last_rule(doctor: Doctor, left: Host) -> None:
    """As firewalld 1.3 has its rules, shortened."""
    nft(
        left,
        "table inet firewalld {",
        "chain filter_INPUT {\ntype filter hook input priority filter + 10; policy accept",
        'ct state established,related accept\nct status dnat accept\niifname "lo" accept',
        "ct state invalid drop\njump filter_INPUT_ZONES\nreject with icmpx admin-prohibited\n}",
        f'chain filter_INPUT_ZONES {{\niifname "{UNDERLAY}" goto filter_IN_public',
        "goto filter_IN_public\n}",
        "chain filter_IN_public {\njump filter_IN_public_allow",
        "meta l4proto { icmp, ipv6-icmp } accept\nreject with icmpx admin-prohibited\n}",
        "chain filter_IN_public_allow {\ntcp dport 22 accept\n}\n}",
    )
    finding = doctor.examine().only()
    assert finding["kind"] == "firewall_may_stop"
    assert "filter_IN_public may reject" in finding["what"]
    assert finding["remedy"] == "firewall-cmd --add-protocol=gre"
    nft(left, "add rule inet firewalld filter_IN_public_allow meta l4proto gre accept")
    assert doctor.examine().findings == []


@pytest.mark.parametrize("flavour", ["legacy", "nft"])
def test_a_rule_of_iptables_is_printed(doctor: Doctor, left: Host, flavour: str) -> None:
    program = require.program(f"iptables-{flavour}", package="iptables")
    iptables = ("nsenter", f"--net={NAMESPACES / left.namespace}", program)
    done = subprocess.run(
        [*iptables, "-A", "INPUT", "-p", "gre", "-j", "DROP"], capture_output=True, check=False
    )
    if done.returncode:
        require.lacks(f"needs {program} to work: {done.stderr.decode()}")
    finding = doctor.examine().only()
    assert finding["kind"] == "firewall_stops"
    assert "gre" in finding["what"].split("by the rule: ")[1]
    assert finding["remedy"] == f"iptables -I INPUT -s {RIGHT[0]} -p gre -j ACCEPT"
    subprocess.run([*iptables, *finding["remedy"].split()[1:]], check=True)
    assert doctor.examine().code == ExitCode.OK


# Who else takes GRE.


def test_a_second_holder_of_a_socket_is_named(doctor: Doctor, left: Host) -> None:
    with left.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_GRE):
        finding = doctor.examine().only()
    assert finding["kind"] == "other_receiver"
    assert f"(process {os.getpid()}) has a raw socket for protocol 47 over IPv4" in finding["what"]


def test_the_daemon_of_this_configuration_is_no_finding(
    doctor: Doctor, left: Host, daemons: Daemons
) -> None:
    daemon = daemons.start(left, ENDS)
    wait_for_event(daemon, "tunnel_up")
    told = doctor.examine()
    assert told.findings == []
    assert told.facts["receivers"]["running"] == [{"pid": daemon.pid, "tunnels": ["t"]}]
    (tunnel,) = told.facts["tunnels"]
    assert (tunnel["exists"], tunnel["up"], tunnel["mtu"]) == (True, True, 1476)


def test_another_gred_with_the_same_pair_is_a_rival(
    doctor: Doctor, left: Host, daemons: Daemons
) -> None:
    daemon = daemons.start(left, ENDS.replace("Tunnel t", "Tunnel other"))
    wait_for_event(daemon, "tunnel_up")
    told = doctor.examine()
    rival = next(one for one in told.findings if one["kind"] == "rival")
    assert f"another gred (process {daemon.pid}, [Tunnel other])" in rival["what"]
    assert rival["remedy"].startswith("stop one of the two")


# The tunnel and the way.


def test_a_local_address_of_nobody_is_named(doctor: Doctor) -> None:
    finding = doctor.examine(ENDS.replace(f"Local={LEFT[0]}", "Local=192.0.2.77")).only()
    assert finding["kind"] == "local_missing"
    assert finding["what"] == "no interface has 192.0.2.77 (Local=)"


def test_a_remote_without_a_route_is_named(doctor: Doctor) -> None:
    finding = doctor.examine(ENDS.replace(RIGHT[0], "198.51.100.1")).only()
    assert finding["kind"] == "no_route"
    assert "no route to 198.51.100.1" in finding["what"]


def test_a_tunnel_that_would_be_routed_into_itself_is_named(doctor: Doctor, left: Host) -> None:
    text = f"{ENDS}Route=0.0.0.0/0\n"
    assert doctor.examine(text).findings == [], "the wire's own network is more specific"
    left.ip("route", "add", "default", "via", RIGHT[0])
    finding = doctor.examine(text.replace(f"Remote={RIGHT[0]}", "Remote=198.51.100.1")).only()
    assert finding["kind"] == "loop"
    assert "198.51.100.1 would be, unless there is a better route, routed into t" in finding["what"]


def test_a_tunnel_that_is_routed_into_itself_is_named(
    doctor: Doctor, left: Host, daemons: Daemons
) -> None:
    daemon = daemons.start(left, ENDS)
    left.ip("route", "add", f"{RIGHT[0]}/32", "dev", "t")
    wait_for_event(daemon, "tunnel_loop")
    finding = doctor.examine().only()
    assert finding["kind"] == "loop"
    assert f"{RIGHT[0]} is routed into t" in finding["what"]


def test_strict_reverse_path_filtering_with_another_way_back_is_named(
    doctor: Doctor, left: Host, pair: tuple[Host, Host], lab: Lab
) -> None:
    lab.wire(*pair, device="under1")
    left.address("198.51.100.1/24", "under1")
    text = ENDS.replace(LEFT[0], "198.51.100.1")
    assert doctor.examine(text).findings == []
    left.sysctl("net.ipv4.conf.all.rp_filter", "1")
    finding = doctor.examine(text).only()
    assert finding["kind"] == "rp_filter_underlay"
    assert f"strict on under1, and the route to {RIGHT[0]} leads to {UNDERLAY}" in finding["what"]
    left.sysctl("net.ipv4.conf.under1.rp_filter", "2")
    assert finding["remedy"] == "sysctl -w net.ipv4.conf.under1.rp_filter=2"
    assert doctor.examine(text).findings == []


def test_where_an_address_is_only_kept_nothing_is_filtered(doctor: Doctor, left: Host) -> None:
    """Routers keep addresses on the loopback or on a dummy device."""
    left.sysctl("net.ipv4.conf.all.rp_filter", "1")
    left.ip("addr", "add", "198.51.100.1/32", "dev", "lo")
    told = doctor.examine(ENDS.replace(LEFT[0], "198.51.100.1"))
    assert told.findings == []
    assert told.facts["tunnels"][0]["local_device"] == "lo"
    assert [(one["name"], one["hears"]) for one in told.facts["underlays"]] == [
        (UNDERLAY, True),
        ("lo", False),
    ]


def test_strict_reverse_path_filtering_alone_is_no_finding(doctor: Doctor, left: Host) -> None:
    left.sysctl("net.ipv4.conf.all.rp_filter", "1")
    told = doctor.examine()
    assert told.findings == []
    assert told.facts["underlays"][0]["rp_filter"] == 1
    assert told.facts["tunnels"][0]["rp_filter"] == 1


def test_a_router_that_does_not_forward_is_named(doctor: Doctor, left: Host) -> None:
    text = f"{ENDS}Route=20.1.3.0/24\n"
    assert doctor.examine(text).findings == [], "who has no network beside it forwards nothing"
    left.ip("link", "add", "lan0", "type", "bridge")
    left.address("20.1.1.1/24", "lan0")
    finding = doctor.examine(text).only()
    assert finding["kind"] == "forwarding_off"
    assert finding["remedy"] == "sysctl -w net.ipv4.ip_forward=1"
    left.sysctl("net.ipv4.ip_forward", "1")
    assert doctor.examine(text).findings == []


def test_a_router_whose_filter_forwards_nothing_is_named(doctor: Doctor, left: Host) -> None:
    left.ip("link", "add", "lan0", "type", "bridge")
    left.address("20.1.1.1/24", "lan0")
    left.sysctl("net.ipv4.ip_forward", "1")
    filtered(left, "forward", policy="drop")
    text = f"{ENDS}Route=20.1.3.0/24\n"
    told = doctor.examine(text)
    assert told.kinds == ["firewall_stops"] * 2
    for finding in told.findings:
        nft(left, finding["remedy"].removeprefix("nft "))
    assert doctor.examine(text).findings == []


def test_an_interface_of_another_mtu_is_named(doctor: Doctor, left: Host, daemons: Daemons) -> None:
    text = f"{ENDS}MTUBytes=1400\nRepair=no\n"
    wait_for_event(daemons.start(left, text), "tunnel_up")
    left.ip("link", "set", "dev", "t", "mtu", "1500")
    finding = doctor.examine(text).only()
    assert finding["kind"] == "interface_mtu"
    assert finding["remedy"] == "ip link set dev t mtu 1400"


def test_a_configured_mtu_that_the_path_does_not_take_is_named(doctor: Doctor) -> None:
    finding = doctor.examine(f"{ENDS}MTUBytes=1500\n").only()
    assert finding["kind"] == "mtu_above_path"
    assert finding["remedy"] == "set MTUBytes=1476, or MTUBytes=auto"
    assert doctor.examine(f"{ENDS}MTUBytes=1500\nDiscoverPathMTU=no\n").findings == []


def test_a_silent_tunnel_is_named(
    doctor: Doctor, pair: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = pair
    text = f"{ENDS}Keepalive=200ms\n"
    wait_for_event(daemons.start(left, text), "tunnel_silent")
    told = doctor.examine(text)
    assert told.only()["kind"] == "silent"
    (tunnel,) = told.facts["tunnels"]
    assert (tunnel["up"], tunnel["carrier"], tunnel["asks"]) == (True, False, RIGHT[0])
    daemons.start(right, f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\n")
    wait_for_event(daemons.running[0], "tunnel_up")
    assert doctor.examine(text).findings == []


def test_a_carrier_that_somebody_took_is_named(
    doctor: Doctor, left: Host, daemons: Daemons
) -> None:
    wait_for_event(daemons.start(left, ENDS), "tunnel_up")
    left.ip("link", "set", "dev", "t", "carrier", "off")
    # The kernel takes up to a second to say so.
    wait_for(lambda: "NO-CARRIER" in left.ip("link", "show", "dev", "t"), "no carrier")
    finding = doctor.examine(ENDS).only()
    assert finding["kind"] == "no_carrier"
    left.ip(*finding["remedy"].removeprefix("ip ").split())
    wait_for(lambda: "NO-CARRIER" not in left.ip("link", "show", "dev", "t"), "a carrier")
    assert doctor.examine(ENDS).findings == []


def test_ipv6_routes_that_would_stay_are_named(
    doctor: Doctor, pair: tuple[Host, Host], daemons: Daemons
) -> None:
    text = f"{ENDS}Address=10.9.1.1/24, fd09::1/64\nKeepalive=200ms\nCarrier=keepalive\n"
    text = text.replace("Address=10.9.1.1/24\n", "", 1)
    finding = doctor.examine(text).only()
    assert finding["kind"] == "linkdown_ipv6"
    left, right = pair
    daemons.start(right, f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\n")
    wait_for_event(daemons.start(left, text), "tunnel_up")
    assert doctor.examine(text).findings == [], "gred itself was able to set it"


def test_what_an_interface_lacks_is_named(doctor: Doctor, left: Host, daemons: Daemons) -> None:
    text = f"{ENDS}Repair=no\n"
    wait_for_event(daemons.start(left, text), "tunnel_up")
    left.ip("addr", "del", "10.9.1.1/24", "dev", "t")
    finding = doctor.examine(text).only()
    assert finding["kind"] == "interface_incomplete"
    assert "address 10.9.1.1/24 is missing" in finding["what"]
    left.ip("link", "set", "dev", "t", "down")
    assert doctor.examine(text).only()["kind"] == "interface_down"


def test_a_name_that_is_taken_is_named(doctor: Doctor, left: Host) -> None:
    left.ip("link", "add", "dev", "t", "type", "bridge")
    assert doctor.examine().only()["kind"] == "name_taken"


def test_an_address_of_another_interface_is_named(doctor: Doctor, left: Host) -> None:
    left.ip("link", "add", "lan0", "type", "bridge")
    left.address("10.9.1.1/24", "lan0")
    assert doctor.examine().only()["kind"] == "address_shared"


def test_a_strict_tunnel_with_a_network_that_is_elsewhere_is_named(
    doctor: Doctor, left: Host, daemons: Daemons
) -> None:
    text = f"{ENDS}Route=20.1.3.0/24\n"
    wait_for_event(daemons.start(left, text), "tunnel_up")
    left.ip("link", "add", "lan0", "type", "bridge")
    left.ip("link", "set", "lan0", "up")
    left.ip("route", "add", "20.1.3.0/25", "dev", "lan0")
    told = doctor.examine(text)
    assert told.findings == []
    assert told.facts["tunnels"][0]["elsewhere"] == ["20.1.3.0/24"]
    left.sysctl("net.ipv4.conf.t.rp_filter", "1")
    assert doctor.examine(text).only()["kind"] == "rp_filter_tunnel"


def test_a_carrier_is_known_at_once(left: Host) -> None:
    """The flags that the kernel tells follow it up to a second later."""

    def changes() -> Iterator[tuple[bool | None, bool]]:
        device = TunDevice.open("tun9", offload=False, mode="tun")
        try:
            yield has_carrier("tun9"), False
            subprocess.run(["ip", "link", "set", "tun9", "up"], check=True)
            for number in range(50):
                up = bool(number % 2)
                device.set_carrier(up)
                yield has_carrier("tun9"), up
        finally:
            device.close()

    found = inside(left.namespace, lambda: list(changes()))
    assert found[0][0] is None
    assert all(told is real for told, real in found[1:])


def test_each_of_many_remotes_is_looked_at(doctor: Doctor) -> None:
    peers = f"Peers=10.9.1.2/32@{RIGHT[0]}, 10.9.1.3/32@198.51.100.1"
    told = doctor.examine(f"[Tunnel t]\nLocal={LEFT[0]}\nAddress=10.9.1.1/24\n{peers}\n")
    assert "no route to 198.51.100.1" in told.only()["what"]
    remotes = told.facts["tunnels"][0]["remotes"]
    assert [one["device"] for one in remotes] == [UNDERLAY, ""]


def test_a_device_that_is_not_there_has_no_route(doctor: Doctor) -> None:
    finding = doctor.examine(f"{ENDS}Device=eth9\n").only()
    assert finding["what"].endswith("there is no interface eth9")


def test_a_local_interface_is_followed(doctor: Doctor, left: Host) -> None:
    text = ENDS.replace(f"Local={LEFT[0]}", f"Local=%{UNDERLAY}")
    told = doctor.examine(text)
    assert told.findings == []
    assert told.facts["tunnels"][0]["local"] == LEFT[0]
    left.ip("addr", "flush", "dev", UNDERLAY)
    kinds = doctor.examine(text).kinds
    assert kinds[0] == "local_missing"


def test_rules_that_select_gre_make_nothing_certain(doctor: Doctor, left: Host) -> None:
    text = ENDS.replace(RIGHT[0], "198.51.100.1")
    left.ip("route", "add", "198.51.100.0/24", "dev", UNDERLAY, "table", "47")
    left.ip("rule", "add", "ipproto", "gre", "lookup", "47")
    told = doctor.examine(text)
    assert told.findings == []
    assert told.facts["tunnels"][0]["steered"]


def test_an_interface_in_another_namespace_is_looked_at_there(
    doctor: Doctor, left: Host, lab: Lab, daemons: Daemons
) -> None:
    inner = lab.host(f"inner{next(_serial)}")
    text = f"{ENDS}Namespace={inner.namespace}\n"
    wait_for_event(daemons.start(left, text), "tunnel_up")
    told = doctor.examine(text)
    assert told.findings == []
    (tunnel,) = told.facts["tunnels"]
    assert (tunnel["exists"], tunnel["up"], tunnel["mtu"]) == (True, True, 1476)
    inner.ip("link", "set", "dev", "t", "down")
    finding = doctor.examine(text).only()
    assert finding["kind"] == "interface_down"
    assert finding["remedy"] == f"ip -n {inner.namespace} link set dev t up"
    missing = doctor.examine(f"{ENDS}Namespace=/run/netns/none\n")
    assert missing.facts["tunnels"][0]["exists"] is None


# What is named is what keeps packets from passing, and the remedy lets them pass.


@pytest.mark.parametrize("fault", ["a rule", "a policy", "reverse path"])
def test_the_remedy_lets_packets_pass(
    doctor: Doctor, pair: tuple[Host, Host], lab: Lab, daemons: Daemons, fault: str
) -> None:
    left, right = pair
    text = ENDS
    if fault == "a rule":
        filtered(left, "input", "ip protocol gre drop")
    elif fault == "a policy":
        filtered(left, "output", "ip protocol icmp accept", policy="drop")
        nft(left, 'insert rule inet filter output oifname "t" accept')
    else:
        lab.wire(*pair, device="under1")
        left.address("198.51.100.1/24", "under1")
        right.address("198.51.100.2/24", "under1")
        left.sysctl("net.ipv4.conf.all.rp_filter", "1")
        text = ENDS.replace(LEFT[0], "198.51.100.1")
    far = f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\nAddress=10.9.1.2/24\n"
    if fault == "reverse path":
        far = far.replace(LEFT[0], "198.51.100.1")
    wait_for_event(daemons.start(right, far), "tunnel_up")
    daemons.start(left, text)
    assert ping(left, "10.9.1.2", timeout=0.3).received == 0
    remedy = doctor.examine(text).only()["remedy"].split()
    subprocess.run(["nsenter", f"--net={NAMESPACES / left.namespace}", *remedy], check=True)
    assert ping(left, "10.9.1.2").received == 3
    assert doctor.examine(text).findings == []


# IPsec.


def policy(host: Host, *words: str) -> None:
    try:
        host.ip("xfrm", "policy", "add", *words)
    except LabError as error:
        require.lacks(f"needs a kernel with xfrm: {error}")


def test_a_policy_that_blocks_is_named(doctor: Doctor, left: Host) -> None:
    policy(left, "dst", f"{RIGHT[0]}/32", "proto", "47", "dir", "out", "action", "block")
    told = doctor.examine()
    assert told.only()["kind"] == "ipsec_blocks"
    ipsec = told.facts["tunnels"][0]["remotes"][0]["ipsec"]
    assert (ipsec["policy"], ipsec["error"]) == ("block", "Operation not permitted")


@pytest.fixture
def ike(left: Host) -> Iterator[socket.socket]:
    """What an IKE daemon listens to: the kernel's requests for states."""
    with left.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_XFRM) as listening:
        listening.bind((0, XFRMNLGRP_ACQUIRE))
        listening.setblocking(False)
        yield listening


def is_asked(ike: socket.socket) -> bool:
    try:
        return bool(ike.recv(1 << 16))
    except BlockingIOError:
        return False


@pytest.mark.parametrize(
    ("version", "selector", "text"),
    [
        (0, ("proto", "47"), ENDS),
        (0, (), ENDS.replace(f"Local={LEFT[0]}\n", "")),
        (1, ("proto", "47"), f"[Tunnel t]\nLocal={LEFT[1]}\nRemote={RIGHT[1]}\n"),
        # The source that gred would have is what a connected socket tells, of UDP as well.
        (1, (), f"[Tunnel t]\nRemote={RIGHT[1]}\n"),
    ],
)
def test_a_policy_that_has_no_state_is_named_and_nobody_is_asked_for_one(
    doctor: Doctor,
    left: Host,
    ike: socket.socket,
    version: int,
    selector: tuple[str, ...],
    text: str,
) -> None:
    ends = ("src", LEFT[version], "dst", RIGHT[version])
    template = ("tmpl", *ends, "proto", "esp", "mode", "transport")
    policy(left, *ends, *selector, "dir", "out", *template)
    assert doctor.examine(text).only()["kind"] == "ipsec_no_state"
    assert not is_asked(ike)
    family = (socket.AF_INET, socket.AF_INET6)[version]
    with left.socket(family, socket.SOCK_RAW, 47) as asking, contextlib.suppress(OSError):
        asking.connect((RIGHT[version], 0))
    assert is_asked(ike), "a socket of protocol 47 that connects does ask"


def test_a_policy_for_what_is_received_alone_is_named(doctor: Doctor, left: Host) -> None:
    policy(left, "src", f"{RIGHT[0]}/32", "proto", "47", "dir", "in", "action", "block")
    assert doctor.examine().only()["kind"] == "ipsec_inbound"


# networkd, and places that show less.


def test_a_file_of_networkd_that_matches_is_named(doctor: Doctor) -> None:
    directory = doctor.root / "etc/systemd/network"
    directory.mkdir(parents=True)
    (directory / "50-all.network").write_text("[Match]\nName=t*\n[Network]\nDHCP=yes\n")
    assert doctor.examine().findings == [], "networkd does not run"
    (doctor.root / "run/systemd/netif").mkdir(parents=True)
    finding = doctor.examine().only()
    assert finding["kind"] == "networkd"
    assert "50-all.network (Name=t*) matches t" in finding["what"]
    (directory / "00-gred.network").write_text("[Match]\nName=t\n[Link]\nUnmanaged=yes\n")
    assert doctor.examine().findings == []


def test_who_is_not_root_is_told_what_cannot_be_seen(doctor: Doctor, left: Host) -> None:
    setpriv = require.program("setpriv", package="util-linux")
    filtered(left, "input", "meta l4proto gre drop")
    nobody = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    for directory in (doctor.root, *list(doctor.root.parents)[:1]):
        directory.chmod(0o755)
    if subprocess.run(
        [*nobody, sys.executable, "-c", "import gred"], check=False, cwd=SOURCE
    ).returncode:
        require.lacks("needs a program that user nobody may run")
    told = doctor.examine(wrapper=nobody)
    assert (told.code, told.findings) == (ExitCode.OK, [])
    assert "Operation not permitted" in told.facts["firewall"]["nftables"]["unseen"]
    assert told.facts["capabilities"]["missing"] == ["net_admin", "net_raw"]
    assert told.facts["tunnels"][0]["remotes"][0]["device"] == UNDERLAY
    path = doctor.root / "gred.conf"
    path.chmod(0o600)
    done = doctor.run("-c", str(path), wrapper=nobody)
    assert done.returncode == ExitCode.OK
    assert f"could not see {path}: Permission denied" in done.stdout


@pytest.mark.parametrize("hidden", ["/sys", "/proc"])
def test_a_place_without_it_is_told_what_cannot_be_seen(doctor: Doctor, hidden: str) -> None:
    unshare = require.program("unshare", package="util-linux")
    script = f'mount -t tmpfs tmpfs {hidden} && exec "$@"'
    told = doctor.examine(wrapper=[unshare, "--mount", "sh", "-c", script, "sh"])
    assert told.findings == []
    assert told.facts["tunnels"][0]["name"] == "t"
    if hidden == "/proc":
        assert "unseen" in told.facts["capabilities"]
        assert "unseen" in told.facts["receivers"]


@pytest.mark.parametrize("what", ["absent", "a plain file"])
def test_a_device_that_is_not_there_is_named(doctor: Doctor, what: str) -> None:
    unshare = require.program("unshare", package="util-linux")
    make = "" if what == "absent" else "mkdir -p /dev/net && touch /dev/net/tun && "
    script = f'mount -t tmpfs tmpfs /dev && {make}exec "$@"'
    finding = doctor.examine(wrapper=[unshare, "--mount", "sh", "-c", script, "sh"]).only()
    assert finding["kind"] == ("tun_absent" if what == "absent" else "tun_wrong")


def test_root_without_capabilities_is_named(doctor: Doctor) -> None:
    setpriv = require.program("setpriv", package="util-linux")
    bound = [setpriv, "--bounding-set=-net_raw", "--inh-caps=-net_raw"]
    finding = doctor.examine(wrapper=bound).only()
    assert finding["kind"] == "capability_missing"
    assert finding["remedy"] == "in a container: --cap-add NET_RAW"


@pytest.fixture
def slow_programs(lab: Lab) -> Iterator[Path]:
    """A directory whose nft(8) never answers."""
    directory = lab.directory() / "slow"
    directory.mkdir()
    program = directory / "nft"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def test_a_program_that_does_not_answer_is_told(doctor: Doctor, slow_programs: Path) -> None:
    path = f"PATH={slow_programs}:{os.environ['PATH']}"
    told = doctor.examine(wrapper=["env", path])
    assert told.findings == []
    assert told.facts["firewall"]["nftables"]["unseen"] == "nft did not answer in 5 s"
