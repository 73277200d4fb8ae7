"""Through address translation: one -- and two -- router == translated == outside.

GRE has no ports, and Linux's connection tracking does not look at keys. In UDP each host has one.
"""

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests.netns.daemons import Daemons, drops, wait_for
from tests.nft import nft

OUTSIDE, TRANSLATED = "203.0.113.2", "203.0.113.1"
TUNNEL = "[Tunnel t{key}]\nLocal={local}\nRemote={remote}\nKey={key}\nAddress=10.9.{key}.{own}/24\n"


@pytest.fixture(scope="module")
def network(lab: Lab) -> tuple[Host, Host, Host]:
    """Two hosts behind a translator, and the host outside."""
    one, two, outside, router = (lab.host(name) for name in ("one", "two", "outside", "router"))
    for number, host in enumerate((one, two), 1):
        device = f"inside{number}"
        lab.wire(router, host, device=device)
        router.address(f"192.168.{number}.254/24", device)
        host.address(f"192.168.{number}.1/24", device)
        host.ip("route", "add", "default", "via", f"192.168.{number}.254")
    lab.wire(router, outside)
    router.address(f"{TRANSLATED}/24")
    outside.address(f"{OUTSIDE}/24")
    router.sysctl("net.ipv4.ip_forward", "1")
    nft(
        router,
        "add table ip nat",
        "add chain ip nat post { type nat hook postrouting priority 100; }",
        "add rule ip nat post oifname under0 masquerade",
    )
    return one, two, outside


def inner(number: int, key: int) -> str:
    return TUNNEL.format(key=key, local=f"192.168.{number}.1", remote=OUTSIDE, own=1)


def outer(key: int) -> str:
    return TUNNEL.format(key=key, local=OUTSIDE, remote=TRANSLATED, own=2)


def reaches(host: Host, destination: str) -> bool:
    """Ping until there is an answer: neighbours may have to be found first."""
    return bool(wait_for(lambda: ping(host, destination, count=1).received, f"{destination}"))


def test_one_host_may_have_several_tunnels(
    network: tuple[Host, Host, Host], daemons: Daemons
) -> None:
    """To the translator they are one connection. The inside has to begin."""
    one, _two, outside = network
    daemons.start(outside, outer(1) + outer(2))
    daemons.start(one, inner(1, 1) + inner(1, 2))
    for key in (1, 2):
        assert reaches(one, f"10.9.{key}.2")
        assert ping(outside, f"10.9.{key}.1").received == 3


def test_of_two_hosts_only_the_first_gets_through(
    network: tuple[Host, Host, Host], daemons: Daemons
) -> None:
    """Their keys differ, and nobody looks."""
    one, two, outside = network
    there = daemons.start(outside, outer(3) + outer(4))
    daemons.start(one, inner(1, 3))
    daemons.start(two, inner(2, 4))
    assert reaches(one, "10.9.3.2")
    assert ping(two, "10.9.4.2", timeout=0.2).received == 0
    assert ping(one, "10.9.3.2").received == 3
    there.stop()
    assert not [key for key in drops(there) if key[1] == "rx_key_mismatch"]


UDP = "Transport=udp\nPort={here}\nSourcePort={here}\nRemotePort={there}\n"


def test_in_udp_each_host_has_a_port(network: tuple[Host, Host, Host], daemons: Daemons) -> None:
    """The translator leaves ports as they are while nobody else has them."""
    one, two, outside = network
    ports = {1: (4754, 5), 2: (4755, 6)}
    there = daemons.start(
        outside,
        "".join(outer(key) + UDP.format(here=4754, there=port) for port, key in ports.values()),
    )
    for host, (number, (port, key)) in zip((one, two), ports.items(), strict=True):
        daemons.start(host, inner(number, key) + UDP.format(here=port, there=4754))
        assert reaches(host, f"10.9.{key}.2")
    for host, (_port, key) in zip((one, two), ports.values(), strict=True):
        assert ping(host, f"10.9.{key}.2").received == 3
        assert ping(outside, f"10.9.{key}.1").received == 3
    there.stop()
    assert not [key for key in drops(there) if key[1] == "rx_no_tunnel"]
