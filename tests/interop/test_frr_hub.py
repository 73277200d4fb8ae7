"""FRR's OSPF over one hub and two spokes: multicast of the hub goes to both."""

from collections.abc import Iterator
from functools import partial

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests import require
from tests.interop.frr import Router
from tests.netns.daemons import Daemons, drops, wait_for

CONVERGENCE_S = 60.0
HUB = "198.18.0.1"  # on the loopback of the hub: each spoke has a wire of its own
SPOKES = (2, 3)

pytestmark = pytest.mark.timeout(240)


def loopback(number: int) -> str:
    """Return the address that OSPF announces for a host."""
    return f"172.20.{number}.1"


def tunnels(number: int) -> str:
    """Return gred's configuration of the hub, which is number 1, or of a spoke."""
    text = f"[Tunnel gre1]\nAddress=10.51.0.{number}/24\nKey=7\nSerializeTunneledPackets=no\n"
    if number in SPOKES:
        return f"{text}Local=198.18.{number}.2\nRemote={HUB}\n"
    peers = [
        f"{inner}@198.18.{spoke}.2"
        for spoke in SPOKES
        for inner in (f"10.51.0.{spoke}", f"172.20.{spoke}.0/24", "224.0.0.0/4")
    ]
    return f"{text}Local={HUB}\nPeers={', '.join(peers)}\n"


def ospf(number: int) -> str:
    """Return ospfd's configuration of a host."""
    return (
        "interface gre1\n"
        " ip ospf network point-to-multipoint\n"
        " ip ospf hello-interval 1\n"
        " ip ospf dead-interval 4\n"
        "router ospf\n"
        f" ospf router-id {loopback(number)}\n"
        f" network {loopback(number)}/32 area 0\n"
        " network 10.51.0.0/24 area 0\n"
    )


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    for program in ("zebra", "ospfd", "vtysh"):
        require.program(program, package="frr")
    with Lab("gredhub") as lab:
        yield lab


def full(router: Router) -> set[str]:
    """Return the router ids of the neighbours that all is known of."""
    found = router.show("ip ospf neighbor")["neighbors"]
    return {
        number
        for number, states in found.items()
        if any(one.get("nbrState", one.get("state", "")).startswith("Full") for one in states)
    }


def leads_into_the_tunnel(host: Host, destination: str) -> bool:
    return "dev gre1" in host.ip("route", "show", f"{destination}/32")


def test_ospf_of_two_spokes_meets_at_the_hub(lab: Lab) -> None:
    hub = lab.host("hub", ipv6=False)
    hub.sysctl("net.ipv4.ip_forward", "1")
    hub.address(f"{HUB}/32", "lo")
    hosts: dict[int, Host] = {1: hub}
    for number in SPOKES:
        hosts[number] = spoke = lab.host(f"spoke{number}", ipv6=False)
        lab.wire(hub, spoke, device=f"under{number}")
        hub.address(f"198.18.{number}.1/24", f"under{number}")
        spoke.address(f"198.18.{number}.2/24", f"under{number}")
        spoke.ip("route", "add", HUB, "via", f"198.18.{number}.1")
    daemons = Daemons(lab, "c")
    routers = {}
    try:
        running = {}
        for number, host in hosts.items():
            host.address(f"{loopback(number)}/32", "lo")
            running[number] = daemons.start(host, tunnels(number))
            routers[number] = Router(lab, host)
            routers[number].start("ospfd", ospf(number))
        both = {loopback(number) for number in SPOKES}
        wait_for(lambda: full(routers[1]) == both, "the hub to know both", CONVERGENCE_S)
        for number in SPOKES:
            other = loopback(sum(SPOKES) - number)
            what = f"a route of spoke {number} to {other}"
            wait_for(partial(leads_into_the_tunnel, hosts[number], other), what, CONVERGENCE_S)
        source, there = (loopback(number) for number in SPOKES)
        assert ping(hosts[2], there, source=source, count=3).received == 3
        for number in SPOKES:
            running[number].stop()
            assert not drops(running[number])
    except Exception as error:
        logs = "".join(router.log() for router in routers.values())
        raise AssertionError(f"{error}\n{logs}") from error
    finally:
        daemons.stop()
