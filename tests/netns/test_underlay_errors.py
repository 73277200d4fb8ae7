"""ICMP errors about outer packets: one true sentence, over when packets arrive again."""

import time
from collections.abc import Iterator

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests import require
from tests.netns.daemons import Daemons, drops, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.path import LEFT, RIGHT, Path, build

UNDERLAYS = pytest.mark.parametrize("underlay", [0, 1], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def path(lab: Lab) -> Path:
    return build(lab)


@pytest.fixture
def firewall(path: Path) -> Iterator[str]:
    """The path of nft. What it did on the far router is undone."""
    nft = require.program("nft", package="nftables")
    yield nft
    path.routers[1].start([nft, "flush", "ruleset"]).wait()


def section(host: Host, underlay: int, options: str = "") -> str:
    ends, own = ((LEFT, RIGHT), 1) if host.name == "left" else ((RIGHT, LEFT), 2)
    return (
        f"[Tunnel t]\nLocal={ends[0][underlay]}\nRemote={ends[1][underlay]}\n"
        f"Address=10.9.1.{own}/24\n{options}\n"
    )


@UNDERLAYS
def test_a_firewall_that_refuses_is_named_until_packets_arrive_again(
    path: Path, daemons: Daemons, firewall: str, underlay: int
) -> None:
    daemons.start(path.right, section(path.right, underlay))
    left = daemons.start(path.left, section(path.left, underlay))
    assert ping(path.left, "10.9.1.2").received == 3
    far = path.routers[1]
    version, name = (("icmp", "203.0.113.2"), ("icmpv6", "2001:db8:3::2"))[underlay]
    rules = f"""table inet gred {{
        chain forward {{
            type filter hook forward priority 0
            meta l4proto 47 reject with {version} type admin-prohibited
        }}
    }}
    """
    assert far.start([firewall, rules]).wait() == 0
    assert ping(path.left, "10.9.1.2", count=2, timeout=0.2).received == 0
    told = wait_for_event(left, "tunnel_refused", tunnel="t", level="warning")
    assert told["detail"] == (
        f"a firewall at {name} refuses protocol 47 (administratively prohibited)"
    )
    assert far.start([firewall, "flush", "ruleset"]).wait() == 0
    assert ping(path.left, "10.9.1.2").received == 3, "it never stopped sending"
    wait_for_event(left, "tunnel_up", tunnel="t", after=len(events(left)) - 1)
    assert sum(event["event"] == "tunnel_refused" for event in events(left)) == 1


@pytest.mark.parametrize("direction", ["both", "ours"])
def test_a_firewall_that_refuses_everything_is_told_once(
    path: Path, daemons: Daemons, firewall: str, direction: str
) -> None:
    """The states do not alternate, not even where the remote's own packets still arrive."""
    source = f"ip saddr {LEFT[0]} " if direction == "ours" else ""
    rules = f"""table inet gred {{
        chain forward {{
            type filter hook forward priority 0
            {source}meta l4proto 47 reject with icmp type admin-prohibited
        }}
    }}
    """
    assert path.routers[1].start([firewall, rules]).wait() == 0
    daemons.start(path.right, section(path.right, 0))
    left = daemons.start(path.left, section(path.left, 0))
    for _ in range(25):
        assert ping(path.left, "10.9.1.2", count=1, timeout=0.2).received == 0
        ping(path.right, "10.9.1.1", count=1, timeout=0.2)
    names = [event["event"] for event in events(left) if event.get("tunnel") == "t"]
    assert names.count("tunnel_refused") == 1
    assert names.index("tunnel_refused") > max(
        index for index, name in enumerate(names) if name == "tunnel_up"
    )


@UNDERLAYS
def test_a_remote_without_a_daemon_is_told(path: Path, daemons: Daemons, underlay: int) -> None:
    left = daemons.start(path.left, section(path.left, underlay))
    deadline = time.monotonic() + 10
    while not any(event["event"] == "tunnel_refused" for event in events(left)):
        assert time.monotonic() < deadline, left.log()
        ping(path.left, "10.9.1.2", count=1, timeout=0.1)
    told = wait_for_event(left, "tunnel_refused", tunnel="t")
    assert told["detail"] == (
        f"{RIGHT[underlay]} runs nothing that takes GRE (protocol unreachable)"
    )
    seen = len(events(left))
    daemons.start(path.right, section(path.right, underlay))
    assert ping(path.left, "10.9.1.2").received == 3
    wait_for_event(left, "tunnel_up", tunnel="t", after=seen)
    left.stop()
    assert drops(left) == {}, "ICMP errors make no send fail"


@UNDERLAYS
def test_a_small_ttl_is_told(path: Path, daemons: Daemons, underlay: int) -> None:
    left = daemons.start(path.left, section(path.left, underlay, "TTL=2"))
    ping(path.left, "10.9.1.2", count=2, timeout=0.1)
    told = wait_for_event(left, "tunnel_refused", tunnel="t")
    router = ("203.0.113.2", "2001:db8:3::2")[underlay]
    assert told["detail"] == f"TTL too small or a routing loop: time exceeded at {router}"


@UNDERLAYS
def test_one_dead_remote_costs_the_other_tunnels_nothing(
    path: Path, daemons: Daemons, underlay: int
) -> None:
    """An ICMP error is pending on the socket that all tunnels share: it fails nobody's send."""
    near = ("192.0.2.254", "2001:db8:1::fe")[underlay]
    dead = f"[Tunnel d]\nLocal={LEFT[underlay]}\nRemote={near}\nAddress=10.9.2.1/24\n"
    daemons.start(path.right, section(path.right, underlay))
    left = daemons.start(path.left, section(path.left, underlay) + dead)
    for _ in range(20):
        ping(path.left, "10.9.2.2", count=1, timeout=0.005)
        assert ping(path.left, "10.9.1.2", count=1).received == 1
    left.stop()
    assert drops(left) == {}
