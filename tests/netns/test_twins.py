"""Two tunnels that come to the same outer addresses while they run, and sources that last."""

import json
from collections.abc import Iterator

import pytest

from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import ping
from tests.netns.capture import wire
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, wait_for, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone

SECOND = "192.0.2.51"
GIVEN = f"[Tunnel t]\nLocal={SECOND}\nRemote={RIGHT[0]}\nAddress=10.9.1.1/24\n"
FOLLOWS = f"[Tunnel u]\nLocal=%{UNDERLAY}\nRemote={RIGHT[0]}\nAddress=10.9.2.1/24\n"
FAR = (
    f"[Tunnel t]\nLocal={RIGHT[0]}\nRemote={SECOND}\nAddress=10.9.1.2/24\n"
    f"[Tunnel u]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\nAddress=10.9.2.2/24\n"
)


def test_an_address_that_comes_to_another_tunnels_holds_the_later_down(
    hosts: tuple[Host, Host], daemons: Daemons
) -> None:
    left, right = hosts
    left.ip("addr", "add", f"{SECOND}/24", "dev", UNDERLAY)  # a secondary one
    try:
        daemons.start(right, FAR)
        daemon = daemons.start(left, GIVEN + FOLLOWS)
        assert ping(left, "10.9.1.2").received == ping(left, "10.9.2.2").received == 3
        left.sysctl(f"net.ipv4.conf.{UNDERLAY}.promote_secondaries", "1")
        left.ip("addr", "del", f"{LEFT[0]}/24", "dev", UNDERLAY)
        twin = wait_for_event(daemon, "tunnel_twin", tunnel="u")
        assert f"[Tunnel t] takes the same packets (local {SECOND}" in twin["detail"]
        assert ping(left, "10.9.1.2").received == 3
        before = len(daemon.log().splitlines())
        left.ip("addr", "del", f"{SECOND}/24", "dev", UNDERLAY)
        left.ip("addr", "add", f"{LEFT[0]}/24", "dev", UNDERLAY)
        left.ip("addr", "add", f"{SECOND}/24", "dev", UNDERLAY)
        wait_for_event(daemon, "tunnel_up", tunnel="u", after=before)
        wait_for(lambda: ping(left, "10.9.2.2").received == 3, "both pass again")
        assert ping(left, "10.9.1.2").received == 3
    finally:
        left.ip("addr", "flush", "dev", UNDERLAY, "scope", "global")
        left.address(f"{LEFT[0]}/24")
        left.address(f"{LEFT[1]}/64")


def addresses(host: Host) -> list[dict[str, object]]:
    (link,) = json.loads(host.ip("-j", "-6", "addr", "show", "dev", UNDERLAY))
    return list(link["addr_info"])


def source_of(host: Host) -> str:
    (route,) = json.loads(host.ip("-j", "-6", "route", "get", RIGHT[1]))
    source: str = route["prefsrc"]
    return source


@pytest.fixture
def temporary(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """The left host has a temporary IPv6 address beside a public one, and prefers it."""
    left, _right = hosts
    left.sysctl(f"net.ipv6.conf.{UNDERLAY}.use_tempaddr", "2")
    left.ip("addr", "del", f"{LEFT[1]}/64", "dev", UNDERLAY)
    left.ip("addr", "add", f"{LEFT[1]}/64", "dev", UNDERLAY, "mngtmpaddr", "nodad")
    wait_for(lambda: source_of(left) != LEFT[1], "left to itself the kernel takes another address")
    assert any(own.get("temporary") for own in addresses(left))
    yield left
    left.sysctl(f"net.ipv6.conf.{UNDERLAY}.use_tempaddr", "0")
    left.ip("-6", "addr", "flush", "dev", UNDERLAY, "scope", "global")
    left.address(f"{LEFT[1]}/64")


def test_local_any_sends_from_a_public_address_and_shows_it(
    hosts: tuple[Host, Host], temporary: Host, daemons: Daemons
) -> None:
    """A temporary one would be a stranger to the peer tomorrow. RFC 5014."""
    _left, right = hosts
    with wire(right, UNDERLAY) as packets:
        daemon = daemons.start(temporary, f"[Tunnel t]\nRemote={RIGHT[1]}\nAddress=10.9.1.1/24\n")
        ping(temporary, "10.9.1.2", count=1, timeout=0.1)
        assert packets.gre().source == LEFT[1]
    assert wait_for_event(daemon, "tunnel_up")["source"] == LEFT[1]
