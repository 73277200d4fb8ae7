"""Two hosts, a wire, and daemons in both implementations."""

import itertools
from collections.abc import Iterator

import pytest

from gred.lab.hosts import Host, Lab
from tests import require
from tests.netns.daemons import Daemons

LEFT, RIGHT = ("192.0.2.1", "2001:db8::1"), ("192.0.2.2", "2001:db8::2")

_serial = itertools.count(1)


@pytest.fixture(scope="module", params=["c", "python"])
def implementation(request: pytest.FixtureRequest) -> str:
    """Which half of each twin moves the packets."""
    name: str = request.param
    if name == "c":
        require.extension()
    return name


@pytest.fixture(scope="module")
def lab(implementation: str) -> Iterator[Lab]:
    """A laboratory that lives as long as the module's tests of one implementation."""
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    with Lab(f"gredtest{next(_serial)}{implementation[0]}") as lab:
        yield lab


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> tuple[Host, Host]:
    """Left, 192.0.2.1 and 2001:db8::1, and right, 192.0.2.2 and 2001:db8::2, on one wire."""
    left, right = lab.host("left"), lab.host("right")
    lab.wire(left, right)
    for host, addresses in ((left, LEFT), (right, RIGHT)):
        host.address(f"{addresses[0]}/24")
        host.address(f"{addresses[1]}/64")
    return left, right


@pytest.fixture
def silence(hosts: tuple[Host, Host]) -> Iterator[None]:
    """Let tunnels made meanwhile send nothing by themselves: where packets are counted.

    They have no IPv6; the underlay keeps it.
    """
    for host in hosts:
        host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")
    yield
    for host in hosts:
        host.sysctl("net.ipv6.conf.default.disable_ipv6", "0")


@pytest.fixture
def daemons(lab: Lab, implementation: str) -> Iterator[Daemons]:
    """Daemons that stop with the test."""
    daemons = Daemons(lab, implementation)
    yield daemons
    daemons.stop()


@pytest.fixture(scope="module")
def lasting_daemons(lab: Lab, implementation: str) -> Iterator[Daemons]:
    """Daemons that stop with the module."""
    daemons = Daemons(lab, implementation)
    yield daemons
    daemons.stop()
