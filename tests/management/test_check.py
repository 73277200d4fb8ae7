"""gred check: the plan in ip(8) terms, and warnings of what the kernel knows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from gred.config import Config, load
from gred.config.model import IPAddress, IPInterface
from gred.control.kernel.routes import NoRoute, Route, RouteInfo
from gred.control.receivers import Others, Party
from gred.control.twins import Claim
from gred.management import check

ETH0 = RouteInfo(oif=2, mtu=1500, gateway=ip_address("192.0.2.254"))


@dataclass
class FakeKernel:
    """Answers every question about routes with *route*."""

    route: Route = ETH0
    names: dict[int, str] = field(default_factory=lambda: {1: "lo", 2: "eth0"})
    has_addresses: bool = True
    on_link: dict[str, list[IPInterface]] = field(default_factory=dict)
    own: dict[int, list[IPAddress]] = field(default_factory=dict)
    fails: bool = False

    def links(self) -> dict[int, str]:
        return self.names

    def local_addresses(self, addresses: Iterable[IPAddress]) -> set[IPAddress]:
        return set(addresses) if self.has_addresses else set()

    def networks(self, namespace: str | None = None) -> dict[str, list[IPInterface]]:
        return self.on_link

    def interface_addresses(self) -> dict[int, list[IPAddress]]:
        return self.own

    def routes_to(self, queries: Sequence[tuple[IPAddress, IPAddress | None]]) -> list[Route]:
        if self.fails:
            raise OSError
        return [self.route] * len(queries)


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gred.conf"
    path.write_text(text)
    return load(path)


def view(configuration: Config, **kernel: Any) -> check.View:
    fake: Any = FakeKernel(**kernel)
    return check.look(configuration, fake)


def plan(configuration: Config, **kernel: Any) -> list[str]:
    return [line.strip() for line in check.describe(configuration, view(configuration, **kernel))]


def told(configuration: Config, **kernel: Any) -> list[str]:
    return list(check.warnings(configuration, view(configuration, **kernel)))


ONE = "[Tunnel t]\nLocal=192.0.2.1\nRemote=192.0.2.2\n"


def test_the_mtu_is_what_the_route_leaves(tmp_path: Path) -> None:
    lines = plan(config(tmp_path, ONE + "Key=1\n"), route=RouteInfo(oif=2, mtu=9000))
    assert "ip link set dev t mtu 8972 up" in lines
    assert "mtu 8972: 9000 of the route, less 28 of outer and GRE header" in lines


def test_without_a_route_the_mtu_is_assumed(tmp_path: Path) -> None:
    lines = plan(config(tmp_path, ONE), route=NoRoute("Network is unreachable"))
    assert "mtu 1476: 1500 of the route (assumed), less 24 of outer and GRE header" in lines


def test_a_configured_mtu_is_taken(tmp_path: Path) -> None:
    lines = plan(config(tmp_path, ONE + "MTUBytes=1400\n"))
    assert "ip link set dev t mtu 1400 up" in lines
    assert "mtu 1400: configured" in lines


def test_the_way_of_the_outer_packets_is_told(tmp_path: Path) -> None:
    assert "outer packets now leave via 192.0.2.254 dev eth0" in plan(config(tmp_path, ONE))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("Mode=gretap\nMACAddress=02:00:00:00:00:01\n", "gretap local 192.0.2.1"),
        ("Device=eth0\nFirewallMark=7\n", "dev eth0 fwmark 7 ttl"),
        ("", "gre local 192.0.2.1 remote 192.0.2.2 ttl 64 tos inherit"),
        ("Key=5\nTTL=inherit\nTOS=0x10\n", "key 5 ttl inherit tos 0x10"),
        ("InputKey=5\nOutputKey=6\n", "ikey 5 okey 6 ttl"),
        ("InputKey=5\n", "192.0.2.2 ikey 5 ttl"),
        ("Checksum=yes\nSerializeTunneledPackets=yes\n", "ocsum icsum oseq iseq ttl"),
        ("DiscoverPathMTU=no\n", "nopmtudisc"),
    ],
)
def test_the_tunnel_is_told_in_the_words_of_ip_tunnel(
    tmp_path: Path, options: str, words: str
) -> None:
    assert any(words in line for line in plan(config(tmp_path, ONE + options)))


def test_a_kernel_that_does_not_answer_leaves_the_plan_without_its_words(tmp_path: Path) -> None:
    configuration = config(tmp_path, ONE)
    assert "ip link set dev t mtu 1476 up" in plan(configuration, fails=True)
    assert told(configuration, fails=True) == []
    assert check.look(configuration, None) == check.View()


def test_a_configuration_without_tunnels_has_no_plan_and_is_warned_of(tmp_path: Path) -> None:
    empty = config(tmp_path, "[Daemon]\n")
    assert plan(empty) == ["No tunnels: gred would wait for a configuration that has some."]
    (warning,) = told(empty)
    assert warning.endswith("gred.conf: no tunnels configured")


def test_nothing_is_warned_of_when_all_is_well(tmp_path: Path) -> None:
    assert told(config(tmp_path, ONE)) == []


def test_the_source_that_the_kernel_chooses_is_shown(tmp_path: Path) -> None:
    route = RouteInfo(oif=2, mtu=1500, prefsrc=ip_address("192.0.2.7"))
    lines = plan(config(tmp_path, "[Tunnel t]\nRemote=192.0.2.2\n"), route=route)
    assert "outer packets now leave dev eth0 src 192.0.2.7" in lines


@pytest.mark.parametrize(
    ("there", "words"),
    [
        ("10.0.0.1/8", "interface eth0 has the address 10.0.0.1 too"),
        ("10.0.0.9/24", "interface eth0 has 10.0.0.0/24 on its link too"),
    ],
)
def test_an_address_that_is_not_new_to_the_host_is_warned_of(
    tmp_path: Path, there: str, words: str
) -> None:
    text = ONE + "Address=fe80::1/64, 10.0.0.1/24\n"
    own = [ip_interface("fe80::1/64"), ip_interface(there)]
    (warning,) = told(config(tmp_path, text), on_link={"eth0": own})
    assert f"[Tunnel t] Address: {words}" in warning
    assert told(config(tmp_path, text), on_link={"eth0": [ip_interface("10.0.0.9/16")]}) == []


def test_an_address_without_a_prefix_is_taken_with_a_note(tmp_path: Path) -> None:
    """As systemd-networkd does."""
    (warning,) = told(config(tmp_path, ONE + "Address=10.0.0.1, 10.0.1.1/24, 2001:db8::1\n"))
    assert "gred.conf:4: [Tunnel t] Address: 10.0.0.1 is taken as 10.0.0.1/32, " in warning
    assert "2001:db8::1 is taken as 2001:db8::1/128: a prefix tells" in warning


def test_another_gred_with_the_same_pair_is_warned_of(tmp_path: Path) -> None:
    configuration = config(tmp_path, ONE)
    ends = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    party = Party(77, (1.0, "a"), (("x", Claim(4, *ends, None)),))
    others = Others(versions=frozenset({4}), users=frozenset({998}), parties=(party,))
    seen = replace(view(configuration), others=others)
    first, second = check.warnings(configuration, seen)
    assert first.startswith("another program here takes GRE over IPv4 (user 998)")
    assert "[Tunnel t]: another gred (process 77, [Tunnel x]) takes the same packets" in second
    running = replace(seen, links={3: "t"})
    assert not any("another gred" in warning for warning in check.warnings(configuration, running))


FOLLOWS = "[Tunnel u]\nLocal=%eth0\nRemote=192.0.2.2\n"


def test_an_address_that_another_tunnel_has_now_is_warned_of(tmp_path: Path) -> None:
    own = {2: [ip_address("2001:db8::1"), ip_address("192.0.2.1")]}
    (warning,) = told(config(tmp_path, ONE + FOLLOWS), own=own)
    assert "[Tunnel u] Local: 192.0.2.1 is that of [Tunnel t] now: this one is held" in warning


def test_an_address_that_another_tunnel_may_get_is_warned_of(tmp_path: Path) -> None:
    own = {2: [ip_address("192.0.2.9")]}
    (warning,) = told(config(tmp_path, ONE + FOLLOWS), own=own)
    assert "while eth0 has 192.0.2.1, [Tunnel t] takes the same packets" in warning


@pytest.mark.parametrize("differs", ["Key=7\n", "Remote=192.0.2.3\n", "Local=%eth1\n"])
def test_tunnels_that_differ_are_not_warned_of(tmp_path: Path, differs: str) -> None:
    option = differs.split("=", maxsplit=1)[0]
    kept = [line for line in FOLLOWS.splitlines() if not line.startswith(f"{option}=")]
    own = {2: [ip_address("192.0.2.1")]}
    first = FOLLOWS.replace("Tunnel u", "Tunnel t") if option == "Local" else ONE
    text = first + "\n".join(kept) + f"\n{differs}"
    assert told(config(tmp_path, text), own=own) == []


def test_an_absent_local_address_is_warned_of(tmp_path: Path) -> None:
    (warning,) = told(config(tmp_path, ONE), has_addresses=False)
    assert warning.endswith("gred.conf:1: [Tunnel t] Local: no interface has 192.0.2.1 now")


def test_a_remote_without_a_route_is_warned_of(tmp_path: Path) -> None:
    (warning,) = told(config(tmp_path, ONE), route=NoRoute("Network is unreachable"))
    assert warning.endswith("Remote: no route to 192.0.2.2 now: Network is unreachable")


def test_a_remote_that_the_kernel_routes_into_the_tunnel_is_warned_of(tmp_path: Path) -> None:
    warnings = told(config(tmp_path, ONE), route=RouteInfo(3, 1476), names={3: "t"})
    assert any("Remote: 192.0.2.2 is routed into t: " in warning for warning in warnings)
    assert any("interface t exists now" in warning for warning in warnings)


def test_a_default_route_into_the_tunnel_is_warned_of(tmp_path: Path) -> None:
    (warning,) = told(config(tmp_path, ONE + "Route=0.0.0.0/0\n"))
    assert "192.0.2.2 would be routed into t, unless it has a route of its own" in warning


def test_of_a_tunnel_that_runs_the_kernel_knows(tmp_path: Path) -> None:
    configuration = config(tmp_path, ONE + "Route=0.0.0.0/0\n")
    (warning,) = told(configuration, names={2: "eth0", 3: "t"})
    assert "interface t exists now" in warning


def test_two_tunnels_that_carry_each_other_are_warned_of(tmp_path: Path) -> None:
    text = (
        "[Tunnel a]\nRemote=192.0.2.2\nRoute=198.51.100.0/24\n"
        "[Tunnel b]\nRemote=198.51.100.2\nRoute=192.0.2.0/24\n"
    )
    first, second = told(config(tmp_path, text))
    assert "[Tunnel a] Remote: 192.0.2.2 would be routed into b > a, " in first
    assert "[Tunnel b] Remote: 198.51.100.2 would be routed into a > b, " in second


def test_a_tunnel_inside_another_is_fine(tmp_path: Path) -> None:
    text = "[Tunnel a]\nRemote=192.0.2.2\nRoute=198.51.100.0/24\n[Tunnel b]\nRemote=198.51.100.2\n"
    assert told(config(tmp_path, text)) == []


@pytest.mark.parametrize(("text", "code"), [("[Tunnel t1]\nRemote=192.0.2.2\n", 0), ("x", 78)])
def test_quiet_says_only_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    path = tmp_path / "gred.conf"
    path.write_text(text)
    assert check.check(path, quiet=True) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert bool(told.err) == (code != 0)


PINGING = """\
KeepaliveTarget=10.1.3.2
KeepaliveRetries=2
Address=fd00::1/64, 10.9.9.9/32, 10.1.3.1/30
Carrier=always"""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            "Remote=192.0.2.9\nKeepalive=10s",
            [
                "asks 192.0.2.9 for a keepalive every 10 s; silent after 30 s: no carrier",
                "probes what the path carries while that is answered",
            ],
        ),
        (
            f"Remote=192.0.2.9\nKeepalive=1min\n{PINGING}\nProbeMTU=no",
            ["pings 10.1.3.2 from 10.1.3.1 every 60 s; silent after 120 s: the carrier stays"],
        ),
        (
            "Remote=192.0.2.9\nProbeMTU=yes",
            ["asks 192.0.2.9 for a keepalive, to probe what the path carries"],
        ),
        (
            "Peers=10.0.0.1@192.0.2.3, 10.0.0.2@192.0.2.4\nKeepalive=1s\nProbeMTU=no",
            ["asks 192.0.2.3, 192.0.2.4 for a keepalive every 1 s; silent after 3 s: no carrier"],
        ),
        ("Remote=192.0.2.9", []),
        ("Remote=192.0.2.9\nDiscoverPathMTU=no", []),
    ],
)
def test_who_is_asked(tmp_path: Path, options: str, expected: list[str]) -> None:
    configuration = config(tmp_path, f"[Tunnel t]\n{options}\n")
    lines = [line.strip() for line in check.describe(configuration, check.View())]
    assert [line for line in lines if line.startswith(("asks", "pings", "probes"))] == expected


def test_a_program_that_cannot_be_run_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "script").write_text("#!/nowhere/sh\n")
    (tmp_path / "script").chmod(0o755)
    configuration = config(
        tmp_path,
        f"[Tunnel t]\nPostUp={tmp_path}/none a\nPreDown={tmp_path}/data\nOnStateChange={tmp_path}\n"
        f"[Tunnel u]\nKey=1\nPostUp=/bin/sh -c true\nPreDown={tmp_path}/script",
    )
    where, lost = tmp_path / "gred.conf", "/nowhere/sh, which is to run it, is not there"
    assert list(check.programs(configuration)) == [
        f"{where}:2: [Tunnel t] PostUp: {tmp_path}/none: No such file or directory",
        f"{where}:3: [Tunnel t] PreDown: {tmp_path}/data: it is not executable (chmod +x)",
        f"{where}:4: [Tunnel t] OnStateChange: {tmp_path}: it is no file",
        f"{where}:8: [Tunnel u] PreDown: {tmp_path}/script: {lost}",
    ]


def test_the_plan_has_what_is_run_when_the_interface_is_there(tmp_path: Path) -> None:
    lines = plan(config(tmp_path, "[Tunnel t]\nPostUp=/sbin/ip route add 'default'"))
    assert "/sbin/ip route add default" in lines
