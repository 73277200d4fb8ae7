"""Link-local addresses that stay, and IPv4-only tunnels that say nothing of IPv6."""

import json
import socket
from collections.abc import Iterator

import pytest

from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import ping
from tests.netns.capture import wire
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons
from tests.netns.once import implementation  # noqa: F401 - control alone

ENDS = f"Local={LEFT[0]}\nRemote={RIGHT[0]}\n"
ENDS6 = f"Local={LEFT[1]}\nRemote={RIGHT[1]}\n"
OTHER_ENDS = f"Local={RIGHT[0]}\nRemote={LEFT[0]}\n"


def addresses(host: Host, device: str = "t") -> list[str]:
    (link,) = json.loads(host.ip("-j", "-6", "addr", "show", "dev", device))
    return [entry["local"] for entry in link["addr_info"] if entry["scope"] == "link"]


@pytest.mark.parametrize("mode", ["gre", "gretap"])
def test_a_configured_one_is_the_only_one_and_the_source(
    hosts: tuple[Host, Host], daemons: Daemons, mode: str
) -> None:
    """A BGP peer with "neighbor fe80::1" refuses everybody else."""
    left, right = hosts
    text = f"[Tunnel t]\nMode={mode}\n{{}}Address={{}}/64\n"
    daemons.start(left, text.format(ENDS, "fe80::1"))
    daemons.start(right, text.format(OTHER_ENDS, "fe80::2"))
    assert addresses(left) == ["fe80::1"]
    (route,) = json.loads(left.ip("-j", "-6", "route", "get", "ff02::5", "oif", "t"))
    assert route["prefsrc"] == "fe80::1"
    index = right.inside(lambda: socket.if_nametoindex("t"))
    with right.socket(socket.AF_INET6, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("::", 9999))
        receiver.settimeout(5)
        right.inside(
            lambda: receiver.setsockopt(
                socket.IPPROTO_IPV6,
                socket.IPV6_JOIN_GROUP,
                socket.inet_pton(socket.AF_INET6, "ff02::5") + index.to_bytes(4, "little"),
            )
        )
        out = left.inside(lambda: socket.if_nametoindex("t"))
        with left.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", ("ff02::5", 9999, 0, out))
        assert receiver.recvfrom(100)[1][0].split("%")[0] == "fe80::1"


@pytest.mark.parametrize("ends", [ENDS, ENDS6, f"Remote={RIGHT[0]}\n"])
def test_a_derived_one_is_the_same_at_each_start(
    hosts: tuple[Host, Host], daemons: Daemons, ends: str
) -> None:
    left, _right = hosts
    seen = []
    for _ in range(2):
        daemon = daemons.start(left, f"[Tunnel t]\n{ends}Address=2001:db8:9::1/64\n")
        seen.append(addresses(left))
        assert daemon.stop() == 0
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    if ends is ENDS:
        assert seen[0] == ["fe80::5efe:c000:201"]


@pytest.fixture
def router(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """The left host forwards IPv6: the kernel lets it join the group of all routers."""
    left, _right = hosts
    left.sysctl("net.ipv6.conf.all.forwarding", "1")
    yield left
    left.sysctl("net.ipv6.conf.all.forwarding", "0")


@pytest.mark.parametrize("mode", ["gre", "gretap"])
def test_an_ipv4_tunnel_of_a_router_says_nothing_of_ipv6(
    hosts: tuple[Host, Host], router: Host, daemons: Daemons, mode: str
) -> None:
    """No report of a group, no router solicitation: neither at start nor with the first packets."""
    _left, right = hosts
    with wire(right, UNDERLAY) as packets:
        daemons.start(router, f"[Tunnel t]\nMode={mode}\n{ENDS}Address=10.9.1.1/24\n")
        ping(router, "10.9.1.2", count=1, timeout=0.1)
        # A report would go out as the interface comes up: before what the ping sends.
        first = packets.gre().payload
        kind = first[2:4] if mode == "gre" else first[4 + 12 : 4 + 14]
        assert kind in {b"\x08\x00", b"\x08\x06"}, "IPv4 or ARP"
    groups = router.ip("-6", "maddr", "show", "dev", "t")
    assert "ff02::2" not in groups
    (link,) = json.loads(router.ip("-j", "link", "show", "dev", "t"))
    assert {"UP", "MULTICAST"} <= set(link["flags"])
    # And IPv6 is still to be had there.
    router.address("2001:db8:9::1/64", "t")
    assert "2001:db8:9::1" in router.ip("-6", "addr", "show", "dev", "t")


def test_a_router_with_ipv6_inside_still_joins_its_group(router: Host, daemons: Daemons) -> None:
    daemons.start(router, f"[Tunnel t]\n{ENDS}Address=2001:db8:9::1/64\n")
    assert "ff02::2" in router.ip("-6", "maddr", "show", "dev", "t")
