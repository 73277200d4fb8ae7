"""Where netfilter looks at packets, every one of them goes past it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gred.control.kernel import netfilter
from gred.control.kernel.iptables import RULES
from gred.control.kernel.linux import NETLINK_NETFILTER
from gred.control.kernel.monitor import open_listeners
from gred.control.kernel.netlink import Netlink
from gred.lab.hosts import Host, Lab
from gred.lab.traffic import transfer
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import PACKET_SOCKET, Daemons, wait_for, wait_for_event
from tests.nft import nft

STREAM = 2_000_000  # bytes


@pytest.fixture
def alone() -> Iterator[Host]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab("gredfilter") as lab:
        yield lab.host("alone")


def filtered(host: Host) -> set[int]:
    found = host.inside(Netlink().filtered)
    assert set(found.values()) <= {RULES}
    return set(found)


def chain(family: str, hook: str, *, kind: str = "filter", policy: str = "accept") -> list[str]:
    name = f"{hook}{kind}"
    return [
        f"add table {family} t",
        f"add chain {family} t {name} {{ type {kind} hook {hook} priority 0; policy {policy}; }}",
    ]


def rule(family: str, hook: str, *, kind: str = "filter") -> str:
    return f"add rule {family} t {hook}{kind} counter"


def test_a_new_host_filters_nothing(alone: Host) -> None:
    assert filtered(alone) == set()


@pytest.mark.parametrize("hook", ["output", "postrouting"])
@pytest.mark.parametrize(("family", "versions"), [("ip", {4}), ("ip6", {6}), ("inet", {4, 6})])
def test_a_rule_is_noticed(alone: Host, hook: str, family: str, versions: set[int]) -> None:
    nft(alone, *chain(family, hook), rule(family, hook))
    assert filtered(alone) == versions
    nft(alone, f"flush chain {family} t {hook}filter")
    assert filtered(alone) == set()


def test_a_chain_that_drops_needs_no_rule(alone: Host) -> None:
    nft(alone, *chain("ip", "output", policy="drop"))
    assert filtered(alone) == {4}


def test_what_does_not_see_outgoing_packets_does_not_matter(alone: Host) -> None:
    for hook in ("input", "forward", "prerouting"):
        nft(alone, *chain("inet", hook), rule("inet", hook))
    nft(alone, "add chain inet t called", "add rule inet t called counter")
    assert filtered(alone) == set()


def test_address_translation_is_decided_once_for_all(alone: Host) -> None:
    nft(alone, *chain("ip", "postrouting", kind="nat"), rule("ip", "postrouting", kind="nat"))
    assert filtered(alone) == set()


def legacy(host: Host, *arguments: str, version: int = 4) -> None:
    """Run iptables-legacy on *host*."""
    name = "iptables-legacy" if version == 4 else "ip6tables-legacy"
    path = require.program(name, package="iptables")
    command = ["ip", "netns", "exec", host.namespace, path, *arguments]
    done = subprocess.run(command, text=True, check=False, capture_output=True)
    if "does not exist" in done.stderr:
        require.lacks(f"needs a kernel with iptables-legacy: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("table", ["filter", "mangle", "raw", "security"])
def test_a_rule_of_iptables_is_noticed(alone: Host, table: str, version: int) -> None:
    legacy(alone, "-t", table, "-A", "OUTPUT", version=version)
    assert filtered(alone) == {version}
    legacy(alone, "-t", table, "-F", version=version)
    assert filtered(alone) == set()


def test_what_iptables_does_to_others_does_not_matter(alone: Host) -> None:
    """As a host of containers has it: rules for what is forwarded, translation of addresses."""
    legacy(alone, "-N", "CONTAINERS")
    legacy(alone, "-A", "FORWARD", "-j", "CONTAINERS")
    legacy(alone, "-A", "CONTAINERS", "-j", "ACCEPT")
    legacy(alone, "-A", "INPUT", "-j", "ACCEPT")
    legacy(alone, "-t", "nat", "-A", "POSTROUTING", "-j", "MASQUERADE")
    assert filtered(alone) == set()
    legacy(alone, "-t", "mangle", "-A", "POSTROUTING")
    assert filtered(alone) == {4}


def test_to_look_makes_no_table(alone: Host) -> None:
    def listed() -> str:
        return Path("/proc/thread-self/net/ip_tables_names").read_text()

    def read() -> str:
        try:
            return listed()
        except FileNotFoundError:
            require.lacks("needs a kernel with iptables-legacy")
            raise

    assert alone.inside(read) == ""
    assert filtered(alone) == set()
    assert alone.inside(listed) == ""


def test_who_may_not_look_finds_everything_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(netfilter, "Rtnetlink", refuse)
    unseen = "cannot see nftables rules: Operation not permitted"
    assert netfilter.filtered() == {4: unseen, 6: unseen}


def test_a_change_is_told(alone: Host) -> None:
    listeners = alone.inside(open_listeners)
    try:
        (heard,) = (one for one in listeners if one.proto == NETLINK_NETFILTER)
        nft(alone, *chain("ip", "output"))
        heard.setblocking(True)
        heard.settimeout(5)
        assert heard.recv(65536)
    finally:
        for listener in listeners:
            listener.close()


# --- whole daemons ------------------------------------------------------------------------------


def section(side: int, options: str = "") -> str:
    local, remote = (LEFT, RIGHT) if side == 1 else (RIGHT, LEFT)
    ends = f"Local={local[0]}\nRemote={remote[0]}\n"
    return f"[Tunnel t]\n{ends}Address=10.9.1.{side}/24\n{options}\n"


def raw_packets(host: Host) -> int:
    """Return how many packets the host itself has sent: the packet socket's do not count."""

    def read() -> int:
        lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        names, values = (line.split() for line in lines if line.startswith("Ip:"))
        return int(values[names.index("OutRequests")])

    return host.inside(read)


def counted(host: Host) -> int:
    found = re.search(r"counter packets (\d+)", nft(host, "list chain ip t outputfilter"))
    assert found
    return int(found[1])


def test_followers_pass_the_hosts_routing_by(
    hosts: tuple[Host, Host], daemons: Daemons, implementation: str
) -> None:
    left, right = hosts
    daemons.start(right, section(2))
    daemons.start(left, section(1))
    before, tunnelled = raw_packets(left), left.statistics("under0")["tx_packets"]
    assert transfer(left, right, "10.9.1.2", size=STREAM).intact
    sent = left.statistics("under0")["tx_packets"] - tunnelled
    routed = raw_packets(left) - before
    assert sent > STREAM / 1500
    # Its own inner packets are routed, too, some of them large.
    assert routed < sent * 0.5 if implementation == "c" else routed >= sent


def test_without_the_packet_socket_all_packets_are_routed(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    daemons.start(right, section(2))
    daemons.start(left, section(1, "PacketSocket=no"))
    before, tunnelled = raw_packets(left), left.statistics("under0")["tx_packets"]
    assert transfer(left, right, "10.9.1.2", size=STREAM).intact
    assert raw_packets(left) - before >= left.statistics("under0")["tx_packets"] - tunnelled > 0


def test_a_rule_sees_every_packet(
    hosts: tuple[Host, Host], daemons: Daemons, implementation: str
) -> None:
    left, right = hosts
    daemons.start(right, section(2))
    daemon = daemons.start(left, section(1))
    lines = [*chain("ip", "output"), "add rule ip t outputfilter meta l4proto 47 counter"]
    nft(left, *lines)
    try:
        wait_for_event(daemon, "packet_socket_changed", packet_socket="no (netfilter rules)")
        nft(left, "flush chain ip t outputfilter", lines[-1])
        tunnelled = left.statistics("t")["tx_packets"]
        outer = left.statistics("under0")["tx_packets"]
        assert transfer(left, right, "10.9.1.2", size=STREAM).intact
        assert left.statistics("t")["tx_packets"] > tunnelled
        sent = left.statistics("under0")["tx_packets"] - outer
        # Neighbours may have asked for each other's addresses meanwhile.
        wait_for(lambda: counted(left) >= sent - 4, "the rule has seen all packets")
    finally:
        nft(left, "delete table ip t")
    wait_for_event(daemon, "packet_socket_changed", packet_socket=PACKET_SOCKET[implementation])
