"""A name in Remote=, resolved by the host's resolver, as a service: its address changes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from gred.lab.hosts import UNDERLAY, Host
from gred.lab.traffic import ping
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons, events, wait_for, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.service import as_service

HOST = "vpn.example"
OTHER = "192.0.2.3"  # as near to LEFT as RIGHT is: RFC 6724 leaves their order alone


@dataclass
class Names:
    """What the daemon's host resolves: /etc/hosts in its mounts, and no name server."""

    hosts: Path

    def are(self, *addresses: str) -> None:
        # In place: the daemon has this very file over /etc/hosts.
        self.hosts.write_text("".join(f"{address} {HOST}\n" for address in addresses))

    @property
    def wrapper(self) -> list[str]:
        nobody = self.hosts.with_name("resolv.conf")
        nobody.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        return as_service(
            f"mount --bind {self.hosts} /etc/hosts", f"mount --bind {nobody} /etc/resolv.conf"
        )


@pytest.fixture
def names(daemons: Daemons) -> Names:
    directory = daemons.lab.directory()
    for path in (directory, *directory.parents):
        if path.name.startswith("gredtest"):
            path.chmod(0o755)
    made = Names(directory / "hosts")
    made.are()
    return made


def end(local: str, remote: str, inner: int, options: str = "") -> str:
    return f"[Tunnel t]\nLocal={local}\nRemote={remote}\nAddress=10.9.1.{inner}/24\n{options}\n"


def index(host: Host) -> int:
    found: int = json.loads(host.ip("-json", "link", "show", "dev", "t"))[0]["ifindex"]
    return found


@pytest.mark.parametrize("options", ["ResolveInterval=1s", "ResolveInterval=no\nKeepalive=200ms"])
def test_a_peer_that_moves_is_followed_and_the_interface_stays(
    hosts: tuple[Host, Host], daemons: Daemons, names: Names, options: str
) -> None:
    left, right = hosts
    names.are(RIGHT[0])
    peer = daemons.start(right, end(RIGHT[0], LEFT[0], 2))
    daemon = daemons.launch(left, end(LEFT[0], HOST, 1, options), wrapper=names.wrapper)
    wait_for_event(daemon, "tunnel_up", remote=RIGHT[0])
    assert ping(left, "10.9.1.2").received == 3
    before = index(left)

    assert peer.stop() == 0
    right.address(f"{OTHER}/24")
    daemons.start(right, end(OTHER, LEFT[0], 2))
    names.are(OTHER)
    told = wait_for_event(daemon, "remote_changed", remote=OTHER, before=RIGHT[0])
    assert told["host"] == HOST
    if "Keepalive" in options:
        after = events(daemon).index(told)
        wait_for_event(daemon, "tunnel_up", after=after, remote=OTHER)
    wait_for(lambda: ping(left, "10.9.1.2", count=1).received, "an answer of the other address")
    assert ping(left, "10.9.1.2").received == 3
    assert index(left) == before
    right.ip("address", "del", f"{OTHER}/24", "dev", UNDERLAY)


def test_a_name_that_is_not_known_yet_is_no_failure(
    hosts: tuple[Host, Host], daemons: Daemons, names: Names
) -> None:
    left, right = hosts
    daemons.start(right, end(RIGHT[0], LEFT[0], 2))
    daemon = daemons.launch(left, end(LEFT[0], HOST, 1), wrapper=names.wrapper)
    told = wait_for_event(daemon, "tunnel_unresolved")
    assert told["detail"].startswith(f"cannot resolve {HOST}: ")
    wait_for_event(daemon, "started")
    assert ping(left, "10.9.1.2", count=1).received == 0
    before = index(left)
    names.are(RIGHT[0])
    wait_for_event(daemon, "tunnel_up", remote=RIGHT[0])
    assert ping(left, "10.9.1.2").received == 3
    assert index(left) == before

    names.are()  # nobody knows it any more
    assert ping(left, "10.9.1.2").received == 3


def test_the_next_address_is_tried_where_the_first_does_not_answer(
    hosts: tuple[Host, Host], daemons: Daemons, names: Names
) -> None:
    left, right = hosts
    names.are(OTHER, RIGHT[0])
    daemons.start(right, end(RIGHT[0], LEFT[0], 2))
    daemon = daemons.launch(left, end(LEFT[0], HOST, 1, "Keepalive=200ms"), wrapper=names.wrapper)
    wait_for_event(daemon, "remote_changed", remote=RIGHT[0], before=OTHER)
    wait_for_event(daemon, "tunnel_up", remote=RIGHT[0])
    assert ping(left, "10.9.1.2").received == 3


def test_from_ipv4_to_ipv6(hosts: tuple[Host, Host], daemons: Daemons, names: Names) -> None:
    left, right = hosts
    names.are(RIGHT[0])
    four = daemons.start(right, end(RIGHT[0], LEFT[0], 2))
    daemon = daemons.launch(left, end("any", HOST, 1, "ResolveInterval=1s"), wrapper=names.wrapper)
    wait_for_event(daemon, "tunnel_up", remote=RIGHT[0])
    assert ping(left, "10.9.1.2").received == 3
    assert four.stop() == 0
    daemons.start(right, end(RIGHT[1], LEFT[1], 2))
    names.are(RIGHT[1])
    wait_for_event(daemon, "tunnel_up", remote=RIGHT[1])
    assert ping(left, "10.9.1.2").received == 3
