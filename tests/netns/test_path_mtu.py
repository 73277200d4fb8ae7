"""A path that carries less than its ends: what is too big gets through, or its sender is told."""

from collections.abc import Iterator

import pytest

from gred.lab.daemon import Daemon
from gred.lab.hosts import Lab
from gred.lab.traffic import ping, transfer
from tests.netns.daemons import Daemons, drops, wait_for_event
from tests.netns.kinds import Kind
from tests.netns.path import LEFT, NARROW, RIGHT, Path, build


@pytest.fixture(scope="module")
def lasting_path(lab: Lab) -> Path:
    return build(lab)


@pytest.fixture
def path(lasting_path: Path) -> Iterator[Path]:
    """A path on which nobody has learned anything."""
    yield lasting_path
    lasting_path.narrow(NARROW)
    lasting_path.forget()


def tunnel(options: str = "", *, underlay: int = 0, overhead: int = 24) -> Kind:
    """Return the only tunnel there is."""
    return Kind("t", options, ends=(LEFT, RIGHT), underlay=underlay, overhead=overhead, number=1)


AUTO, FIXED, AUTO6 = (
    tunnel(),
    tunnel("MTUBytes=1476"),
    tunnel(underlay=1, overhead=44),
)
KINDS = {
    "auto": AUTO,
    "fixed": FIXED,
    "every": tunnel("Key=7\nChecksum=yes\nSerializeTunneledPackets=yes", overhead=36),
    "slow": tunnel("MTUBytes=1476\nOffload=no"),
    "auto6": AUTO6,
    "fixed6": tunnel("MTUBytes=1452\nKey=1", underlay=1, overhead=48),
}


def start(path: Path, daemons: Daemons, one: Kind, *, ipv6: bool = True) -> Daemon:
    """Start both ends; return the left one."""
    daemons.start(path.right, one.section("right", ipv6=ipv6))
    return daemons.start(path.left, one.section("left", ipv6=ipv6))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_everything_gets_through(path: Path, daemons: Daemons, kind: Kind) -> None:
    """Only packets that teach are lost: in each direction the first, and with MTUBytes= the first
    of each sender that must not be cut."""
    left = start(path, daemons, kind)
    for inner in ("10.9.1.2", "fd09:1::2"):
        assert transfer(path.left, path.right, inner, size=300_000).intact
        assert transfer(path.right, path.left, inner[:-1] + "1", size=300_000).intact
    told = wait_for_event(left, "path_mtu_changed", tunnel="t", path_mtu=NARROW)
    assert told["before"] == 1500
    if not kind.both.startswith("MTUBytes"):
        wait_for_event(left, "mtu_changed", mtu=1280)
    for inner in ("10.9.1.2", "fd09:1::2"):
        assert ping(path.left, inner, size=1400, count=5, timeout=0.2).received >= 3
    for size in (1400, 4000):
        found = ping(path.left, "10.9.1.2", size=size, timeout=0.2, fragmentable=True)
        assert found.received == 3


def test_datagrams_without_dont_fragment_get_through_after_the_first(
    path: Path, daemons: Daemons
) -> None:
    """Cut by gred, before they are encapsulated: the interface lets them through whole."""
    for host in (path.left, path.right):  # interfaces with IPv6 send packets of their own
        host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
    try:
        left = start(path, daemons, FIXED, ipv6=False)
    finally:
        for host in (path.left, path.right):
            host.sysctl("net.ipv6.conf.default.disable_ipv6", "0")
    found = ping(path.left, "10.9.1.2", size=1400, count=5, timeout=0.2, fragmentable=True)
    assert found.received >= 3, "the first request and the first reply were lost"
    fragments = path.right.statistics("t")["rx_packets"]
    assert fragments == 2 * 4
    left.stop()
    assert drops(left) == {}


def test_the_mtu_returns_when_the_time_is_over(path: Path, daemons: Daemons) -> None:
    path.left.sysctl("net.ipv4.route.mtu_expires", "2")
    try:
        left = start(path, daemons, AUTO, ipv6=False)
        ping(path.left, "10.9.1.2", size=1400, count=1, timeout=0.2)
        wait_for_event(left, "mtu_changed", mtu=NARROW - 24, before=1476)
        assert f"mtu {NARROW - 24} " in path.left.ip("link", "show", "dev", "t")
        path.narrow(1500)
        wait_for_event(left, "mtu_changed", mtu=1476, before=NARROW - 24)
        wait_for_event(left, "path_mtu_changed", path_mtu=1500, before=NARROW)
        assert ping(path.left, "10.9.1.2", size=1400).received == 3
    finally:
        path.left.sysctl("net.ipv4.route.mtu_expires", "600")


def test_ipv6_inside_passes_however_little_the_path_carries(path: Path, daemons: Daemons) -> None:
    """RFC 7676 section 3.2: 1280 bytes cross, in fragments outside; more is answered."""
    path.narrow(1000)
    left = start(path, daemons, AUTO)
    assert transfer(path.left, path.right, "fd09:1::2", size=200_000).intact
    told = wait_for_event(left, "path_mtu_changed")
    assert "IPv6 inside needs 1280" in told["detail"]
    wait_for_event(left, "mtu_changed", mtu=1280)
    assert ping(path.left, "fd09:1::2", size=1280 - 48, timeout=0.2).received >= 2
    # IPv4 above what the path carries: with Don't Fragment answered, without it cut. Both ends
    # learn it in two steps, as what is quoted to them is no secret.
    assert ping(path.left, "10.9.1.2", size=1200, count=12, timeout=0.2).received >= 3
    wait_for_event(left, "path_mtu_changed", path_mtu=1000)
    found = ping(path.left, "10.9.1.2", size=1200, fragmentable=True, timeout=0.2)
    assert found.received == 3


def test_ipv6_inside_ipv6_passes_over_the_smallest_path(path: Path, daemons: Daemons) -> None:
    path.narrow(1280)
    left = start(path, daemons, AUTO6)
    assert transfer(path.left, path.right, "fd09:1::2", size=200_000).intact
    wait_for_event(left, "path_mtu_changed", path_mtu=1280)
    assert ping(path.left, "fd09:1::2", size=1280 - 48, timeout=0.2).received >= 2


def test_a_path_below_what_is_believed_gets_fragments(path: Path, daemons: Daemons) -> None:
    """Less than 552 bytes are not believed, for a forged message could say so."""
    path.narrow(400)
    left = start(path, daemons, FIXED)
    # What the errors quote shows no secret: they are believed step by step.
    ping(path.left, "10.9.1.2", size=1000, count=5, timeout=0.2)
    told = wait_for_event(left, "path_mtu_changed", path_mtu=552)
    assert "outer packets may be fragmented" in told["detail"]
    assert transfer(path.left, path.right, "10.9.1.2", size=100_000).intact


def test_above_the_mtu_of_the_wire_datagrams_are_cut_and_others_answered(
    path: Path, daemons: Daemons
) -> None:
    """The kernel itself refuses to send them; nothing is lost to learn it."""
    path.narrow(1500)
    left = start(path, daemons, tunnel("MTUBytes=1600"))
    found = ping(path.left, "10.9.1.2", size=1560, fragmentable=True)
    assert found.received == 3
    assert ping(path.left, "10.9.1.2", size=1560, timeout=0.2).received >= 1
    assert transfer(path.left, path.right, "fd09:1::2", size=200_000).intact
    left.stop()
    assert set(drops(left)) == {("t", "tx_too_big")}


def test_an_ethernet_tunnel_cuts_and_answers_too(path: Path, daemons: Daemons) -> None:
    start(path, daemons, tunnel("Mode=gretap\nMTUBytes=1462"))
    found = ping(path.left, "10.9.1.2", size=1400, count=5, timeout=0.2, fragmentable=True)
    assert found.received >= 3
    for inner in ("10.9.1.2", "fd09:1::2"):
        assert ping(path.left, inner, size=1400, count=5, timeout=0.2).received >= 3
        assert transfer(path.left, path.right, inner, size=300_000).intact
