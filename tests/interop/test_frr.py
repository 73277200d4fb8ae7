"""FRR's OSPF and BGP over two gred tunnels on two underlays, one of which fails."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests import require
from tests.interop.frr import DAEMONS, Router
from tests.netns.daemons import Daemons, wait_for

CONVERGENCE_S = 60.0
WIRES = ("under1", "under2")
COSTS = {"gre1": 10, "gre2": 20}
AS = 64512  # RFC 6996

pytestmark = pytest.mark.timeout(240)


def loopback(number: int) -> str:
    """Return the address that OSPF announces for a site."""
    return f"172.20.{number}.1"


def network(number: int) -> str:
    """Return the first three octets of what BGP announces for a site."""
    return f"172.21.{number}"


def tunnels(number: int) -> str:
    """Return gred's configuration of a site: one tunnel on each wire."""
    other = 3 - number
    return "".join(
        f"[Tunnel gre{wire}]\n"
        f"Local=198.18.{wire}.{number}\nRemote=198.18.{wire}.{other}\n"
        f"Address=10.51.{wire}.{number}/30\nKey={wire}\n"
        for wire in (1, 2)
    )


def routing(number: int) -> dict[str, str]:
    """Return FRR's configuration of a site."""
    other = 3 - number
    interfaces = "".join(
        f"interface {name}\n"
        " ip ospf network point-to-point\n"
        " ip ospf hello-interval 1\n"
        " ip ospf dead-interval 4\n"
        f" ip ospf cost {cost}\n"
        for name, cost in COSTS.items()
    )
    return {
        "ospfd": (
            f"{interfaces}"
            "router ospf\n"
            f" ospf router-id {loopback(number)}\n"
            f" network {loopback(number)}/32 area 0\n"
            " network 10.51.0.0/16 area 0\n"
        ),
        "bgpd": (
            f"router bgp {AS + number}\n"
            f" bgp router-id {loopback(number)}\n"
            " no bgp ebgp-requires-policy\n"
            f" neighbor {loopback(other)} remote-as {AS + other}\n"
            f" neighbor {loopback(other)} update-source {loopback(number)}\n"
            f" neighbor {loopback(other)} ebgp-multihop 2\n"
            # The session must outlive the four seconds until OSPF knows better.
            f" neighbor {loopback(other)} timers 5 30\n"
            f" neighbor {loopback(other)} timers connect 1\n"
            " address-family ipv4 unicast\n"
            f"  network {network(number)}.0/24\n"
        ),
    }


@dataclass(frozen=True, slots=True)
class Site:
    """A host with gred and FRR."""

    number: int
    host: Host
    router: Router

    def way(self, destination: str) -> str:
        """Return the interface that the kernel would send through, or nothing."""
        words = self.host.ip("route", "show", "match", destination).split()
        return words[words.index("dev") + 1] if words else ""

    def full(self) -> set[str]:
        """Return the interfaces with a full OSPF adjacency."""
        found = set()
        for neighbours in self.router.show("ip ospf neighbor")["neighbors"].values():
            for neighbour in neighbours:
                if neighbour.get("nbrState", neighbour.get("state", "")).startswith("Full"):
                    found.add(neighbour["ifaceName"].partition(":")[0])
        return found

    def peer(self) -> dict[str, object]:
        """Return what bgpd knows of the other site's."""
        peers = self.router.show("bgp ipv4 unicast summary").get("peers", {})
        found: dict[str, object] = peers.get(loopback(3 - self.number), {})
        return found


Sites = tuple[Site, Site]


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    """Two sites that have converged."""
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    for program in (*DAEMONS, "vtysh"):
        require.program(program, package="frr")
    with Lab("gredfrr") as lab:
        hosts = lab.host("west", ipv6=False), lab.host("east", ipv6=False)
        for wire, device in enumerate(WIRES, 1):
            lab.wire(*hosts, device=device)
            for number, host in enumerate(hosts, 1):
                host.address(f"198.18.{wire}.{number}/24", device)
        daemons = Daemons(lab, "c")
        both = []
        try:
            for number, host in enumerate(hosts, 1):
                host.address(f"{loopback(number)}/32", "lo")
                host.address(f"{network(number)}.1/24", "lo")
                daemons.start(host, tunnels(number))
                both.append(Site(number, host, Router(lab, host)))
                both[-1].router.start("ospfd", routing(number)["ospfd"])
            west, east = both
            # BGP last: bgpd 8.4 with a session that comes and goes while OSPF is still finding its
            # way may never hear that the next hop can be reached.
            for site in both:
                found_each_other(site)
            for site in both:
                site.router.start("bgpd", routing(site.number)["bgpd"])
            for site in both:
                converged(site)
            yield west, east
        finally:
            daemons.stop()


def found_each_other(site: Site) -> None:
    """Wait until *site* has both adjacencies, and a way to the other's loopback address."""
    other = loopback(3 - site.number)
    try:
        wait_for(lambda: site.full() == set(COSTS), "both adjacencies", CONVERGENCE_S)
        wait_for(lambda: site.way(other) == "gre1", "the way to the other", CONVERGENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{site.host.name}: {error}\n{site.router.log()}") from None


def converged(site: Site) -> None:
    """Wait until *site* has both adjacencies, the session and the other's routes."""
    other = 3 - site.number
    try:
        wait_for(lambda: site.full() == set(COSTS), "both adjacencies", CONVERGENCE_S)
        wait_for(lambda: site.peer().get("state") == "Established", "BGP", CONVERGENCE_S)
        wait_for(lambda: site.way(f"{network(other)}.1") == "gre1", "routes", CONVERGENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{site.host.name}: {error}\n{site.router.log()}") from None


def moved(site: Site) -> None:
    """Wait until *site* sends through the second tunnel."""
    destination = f"{network(3 - site.number)}.1"
    wait_for(lambda: site.way(destination) == "gre2", "the other tunnel", CONVERGENCE_S)


def test_ospf_routes_take_the_cheaper_tunnel(sites: Sites) -> None:
    for site in sites:
        route = site.host.ip("route", "show", f"{loopback(3 - site.number)}")
        assert "proto ospf" in route
        assert "dev gre1" in route


def test_bgp_routes_are_resolved_through_the_tunnel(sites: Sites) -> None:
    for site in sites:
        route = site.host.ip("route", "show", f"{network(3 - site.number)}.0/24")
        assert "proto bgp" in route
        assert "dev gre1" in route


def test_the_announced_networks_reach_each_other(sites: Sites) -> None:
    for site in sites:
        here, there = (f"{network(number)}.1" for number in (site.number, 3 - site.number))
        assert ping(site.host, there, source=here).received == 3


def test_traffic_moves_when_an_underlay_fails_and_returns_with_it(sites: Sites) -> None:
    west, east = sites
    here, there = f"{network(1)}.1", f"{network(2)}.1"
    established = [site.peer()["connectionsEstablished"] for site in sites]

    east.host.ip("link", "set", WIRES[0], "down")
    for site in sites:
        # West's own wire still has its address and its route: only OSPF can have noticed.
        moved(site)
    assert ping(west.host, there, source=here).received == 3
    assert ping(east.host, here, source=there).received == 3
    assert west.full() == {"gre2"}

    east.host.ip("link", "set", WIRES[0], "up")
    for site in sites:
        converged(site)
    assert ping(west.host, there, source=here).received == 3
    assert [site.peer()["connectionsEstablished"] for site in sites] == established
