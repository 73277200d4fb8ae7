"""Path MTU where ICMP is filtered: padded keepalives find it, and TCP goes on."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.packet import Raw

from gred.lab.daemon import Daemon
from gred.lab.hosts import Lab
from gred.lab.traffic import ping, transfer
from gred.wire.gre import GreHeader
from tests.netns.daemons import Daemons, events, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.path import LEFT, NARROW, RIGHT, Path, build
from tests.netns.test_refusals import Sender
from tests.nft import nft

SOON = 30.0  # seconds in which TCP must have moved


@pytest.fixture(scope="module")
def lasting_path(lab: Lab) -> Path:
    return build(lab)


@pytest.fixture
def path(lasting_path: Path) -> Iterator[Path]:
    """A path that carries 1500 bytes."""
    lasting_path.narrow(1500)
    lasting_path.forget()
    yield lasting_path
    clear(lasting_path)


def swallow(path: Path, above: int = NARROW) -> None:
    """Let the first router drop what is longer than *above* bytes, and say nothing."""
    clear(path)
    nft(
        path.routers[0],
        "add table inet hole",
        "add chain inet hole forward { type filter hook forward priority 0; }",
        f"add rule inet hole forward meta length > {above} drop",
    )


def clear(path: Path) -> None:
    nft(path.routers[0], "add table inet hole", "delete table inet hole")


def section(own: int, options: str, *, underlay: int = 0) -> str:
    near, far = ((LEFT, RIGHT), (RIGHT, LEFT))[own - 1]
    return (
        f"[Tunnel t]\nLocal={near[underlay]}\nRemote={far[underlay]}\n"
        f"Address=10.9.1.{own}/24\n{options}\n"
    )


def start(path: Path, daemons: Daemons, options: str, *, underlay: int = 0) -> Daemon:
    """Start both ends; the right one only answers. Return the left one."""
    far = options.replace("Keepalive=1s", "").replace("ProbeMTU=yes", "")
    daemons.start(path.right, section(2, far, underlay=underlay))
    return daemons.start(path.left, section(1, options, underlay=underlay))


HUB = "Keepalive=1s\nKey=9\nPeers=10.9.1.2@" + RIGHT[0]
FORMS = {
    "plain": ("Keepalive=1s", 0, 24),
    "everything": ("Keepalive=1s\nKey=7\nChecksum=yes\nSerializeTunneledPackets=yes", 0, 36),
    "without keepalives": ("ProbeMTU=yes", 0, 24),
    "over IPv6": ("Keepalive=1s", 1, 44),
    "gretap": ("Keepalive=1s\nMode=gretap", 0, 38),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_path_that_swallows_long_packets_is_found(
    path: Path, daemons: Daemons, form: str
) -> None:
    options, underlay, overhead = FORMS[form]
    swallow(path)
    left = start(path, daemons, options, underlay=underlay)
    moved = transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON)
    assert moved.intact
    told = wait_for_event(left, "path_mtu_changed", before=1500, path_mtu=1280, tunnel="t")
    assert "ICMP is filtered" in told["detail"]
    assert f"MTU lowered from {1500 - overhead} to {1280 - overhead}" in told["detail"]
    wait_for_event(left, "mtu_changed", mtu=1280 - overhead)
    wait_for_event(left, "mtu_changed", mtu=NARROW - overhead)
    assert ping(path.left, "10.9.1.2", size=NARROW - overhead - 28).received == 3
    assert not [one for one in events(left) if one.get("reason") == "too_big"]


def test_a_path_that_begins_to_swallow_is_noticed(path: Path, daemons: Daemons) -> None:
    left = start(path, daemons, "Keepalive=1s")
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact
    assert not [one for one in events(left) if one["event"] == "path_mtu_changed"]
    swallow(path)
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact
    told = wait_for_event(left, "path_mtu_changed", path_mtu=1280)
    assert told["before"] == 1500


def test_a_path_without_a_hole_changes_nothing(path: Path, daemons: Daemons) -> None:
    """A full-size probe passes, and that is all."""
    left = start(path, daemons, "Keepalive=1s")
    wait_for_event(left, "tunnel_up")
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact
    assert not {one["event"] for one in events(left)} & {"path_mtu_changed", "mtu_changed"}


def test_pings_find_it_too(path: Path, daemons: Daemons) -> None:
    """Where the other end answers no keepalives; what comes back is as long as what was sent."""
    swallow(path)
    daemons.start(path.right, section(2, "KeepaliveReply=no\nMTUBytes=1000"))
    options = "Keepalive=1s\nKeepaliveTarget=10.9.1.2"
    left = daemons.start(path.left, section(1, options))
    told = wait_for_event(left, "path_mtu_changed", before=1500, path_mtu=1280)
    assert "ICMP is filtered" in told["detail"]
    wait_for_event(left, "mtu_changed", mtu=NARROW - 24)
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact


@pytest.mark.parametrize("key", ["", "Key=5"])
def test_where_routers_tell_nothing_else_is_said(path: Path, daemons: Daemons, key: str) -> None:
    """The first probe teaches, before anybody sends anything."""
    path.narrow(NARROW)
    left = start(path, daemons, f"Keepalive=1s\n{key}")
    told = wait_for_event(left, "path_mtu_changed", path_mtu=NARROW)
    assert not told.get("detail")
    wait_for_event(left, "mtu_changed", mtu=NARROW - (28 if key else 24))
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact
    assert "filtered" not in left.log()


def test_one_of_many_remotes_behind_a_hole(path: Path, daemons: Daemons) -> None:
    swallow(path)
    daemons.start(path.right, section(2, "Key=9"))
    hub = section(1, HUB).replace(f"Remote={RIGHT[0]}\n", "")
    left = daemons.start(path.left, hub)
    assert transfer(path.left, path.right, "10.9.1.2", size=300_000, timeout=SOON).intact
    told = wait_for_event(left, "path_mtu_changed", path_mtu=1280, remote=RIGHT[0])
    assert "ICMP is filtered" in told["detail"]
    wait_for_event(left, "path_mtu_changed", path_mtu=NARROW, remote=RIGHT[0])


def test_a_forged_error_counts_until_a_probe_has_passed(path: Path, daemons: Daemons) -> None:
    left = start(path, daemons, "Keepalive=1s")
    assert ping(path.left, "10.9.1.2", size=1400).received == 3
    quoted = IP(src=LEFT[0], dst=RIGHT[0], proto=47, flags="DF", len=1500) / Raw(
        GreHeader(protocol_type=0x0800).pack() + bytes(24)
    )
    forged = IP(src="203.0.113.77", dst=LEFT[0]) / ICMP(type=3, code=4, nexthopmtu=1280) / quoted
    with closing(Sender(path.routers[1])) as forger:
        forger.send(forged)
        wait_for_event(left, "path_mtu_changed", path_mtu=1280, before=1500)
        wait_for_event(left, "path_mtu_changed", path_mtu=1500, before=1280)
    assert ping(path.left, "10.9.1.2", size=1400).received == 3
