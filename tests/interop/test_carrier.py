"""Routing daemons follow the carrier: a silent tunnel's routes are withdrawn, and come back.

The other end's firewall begins to drop GRE of one of two tunnels without a word. OSPF itself would
notice after 40 seconds, a static route never.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from tests import require
from tests.interop.frr import Router
from tests.netns.daemons import Daemons, wait_for, wait_for_event
from tests.nft import nft

SOON_S = 20.0  # less than half of OSPF's dead interval
AT_FIRST_S = 60.0
EAST, STATIC = "172.20.2.1", "172.22.2.1"  # behind the other end: found by OSPF, and configured

pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True, slots=True)
class Ends:
    """Two hosts with two wires, a tunnel with keepalives on each."""

    lab: Lab
    west: Host
    east: Host
    daemons: Daemons

    def silence(self) -> None:
        """Let the east lose all GRE of the first wire."""
        nft(
            self.east,
            "add table inet hole",
            "add chain inet hole input { type filter hook input priority 0; }",
            'add rule inet hole input iifname "under1" meta l4proto gre drop',
        )

    def end_silence(self) -> None:
        nft(self.east, "add table inet hole", "delete table inet hole")


def configuration(number: int) -> str:
    other = 3 - number
    return "".join(
        f"[Tunnel gre{wire}]\n"
        f"Local=198.18.{wire}.{number}\nRemote=198.18.{wire}.{other}\n"
        f"Address=10.51.{wire}.{number}/30\nKeepalive=200ms\n"
        for wire in (1, 2)
    )


@pytest.fixture
def ends() -> Iterator[Ends]:
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    with Lab("gredcarrier") as lab:
        west, east = lab.host("west", ipv6=False), lab.host("east", ipv6=False)
        for wire in (1, 2):
            lab.wire(west, east, device=f"under{wire}")
            for number, host in enumerate((west, east), 1):
                host.address(f"198.18.{wire}.{number}/24", f"under{wire}")
        for address in (EAST, STATIC):
            east.address(f"{address}/32", "lo")
        daemons = Daemons(lab, "c")
        try:
            daemons.start(east, configuration(2))
            near = daemons.start(west, configuration(1))
            for wire in (1, 2):
                wait_for_event(near, "tunnel_up", tunnel=f"gre{wire}")
            yield Ends(lab, west, east, daemons)
        finally:
            daemons.stop()


def leads(host: Host, destination: str, device: str) -> bool:
    """Whether the kernel's table of *host* says that *destination* is behind *device*."""
    return f"dev {device} " in host.ip("route", "show", "match", destination)


def withdrawn_and_back(ends: Ends, *destinations: str, log: Callable[[], str]) -> None:
    def wait(device: str, seconds: float) -> None:
        for destination in destinations:
            arrived = partial(leads, ends.west, destination, device)
            try:
                wait_for(arrived, f"{destination} through {device}", seconds)
            except TimeoutError as error:
                routes = ends.west.ip("route", "show")
                raise AssertionError(f"{error}\n{routes}\n{log()}") from None
            assert ping(ends.west, destination).received == 3

    wait("gre1", AT_FIRST_S)
    ends.silence()
    wait("gre2", SOON_S)
    ends.end_silence()
    wait("gre1", AT_FIRST_S)


def test_frr_withdraws_and_returns(ends: Ends) -> None:
    for program in ("zebra", "ospfd", "staticd", "vtysh"):
        require.program(program, package="frr")
    ospf = "".join(
        f"interface gre{wire}\n ip ospf network point-to-point\n"
        f" ip ospf hello-interval 1\n ip ospf dead-interval 40\n ip ospf cost {10 * wire}\n"
        for wire in (1, 2)
    )
    ospf += "router ospf\n timers throttle spf 0 50 200\n network 10.51.0.0/16 area 0\n"
    routers = {host: Router(ends.lab, host) for host in (ends.west, ends.east)}
    routers[ends.west].start("ospfd", ospf)
    routers[ends.east].start("ospfd", f"{ospf} network {EAST}/32 area 0\n")
    routers[ends.west].start(
        "staticd",
        f"ip route {STATIC}/32 gre1 10\nip route {STATIC}/32 gre2 20\n",
    )
    withdrawn_and_back(ends, EAST, STATIC, log=routers[ends.west].log)


def test_bird_withdraws_and_returns(ends: Ends) -> None:
    """Its static routes look at the carrier only where they are told to."""
    program = require.program("bird", package="bird2")
    directory = ends.lab.directory()
    for number, host in enumerate((ends.west, ends.east), 1):
        file = directory / f"bird-{host.name}.conf"
        file.write_text(bird(number))
        place = directory / f"bird-{host.name}"
        command = [program, "-f", "-c", str(file), "-s", f"{place}.ctl", "-P", f"{place}.pid"]
        host.start(command)
    withdrawn_and_back(ends, EAST, STATIC, log=str)


def bird(number: int) -> str:
    interfaces = "".join(
        f'    interface "gre{wire}" {{ type ptp; hello 1; dead 40; cost {10 * wire}; }};\n'
        for wire in (1, 2)
    )
    static = "".join(
        f"protocol static s{wire} {{\n"
        "  check link yes;\n"
        f"  ipv4 {{ preference {200 - 10 * wire}; }};\n"
        f'  route {STATIC}/32 via "gre{wire}";\n'
        "}\n"
        for wire in (1, 2)
    )
    loopback = '    interface "lo" { stub; };\n' if number == 2 else ""
    return (
        f"router id 10.0.0.{number};\n"
        "protocol device { scan time 1; }\n"
        "protocol kernel { ipv4 { export all; }; }\n"
        f"protocol ospf v2 {{\n  ipv4;\n  area 0 {{\n{interfaces}{loopback}  }};\n}}\n"
        + (static if number == 1 else "")
    )
