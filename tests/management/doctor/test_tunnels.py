"""What is worked out of the kernel's answers. With a real kernel: tests/netns/test_doctor.py."""

from ipaddress import ip_address

import pytest

from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.management.doctor.tunnels import way_back

FAR = ip_address("192.0.2.2")
ETH0, ETH1, VRF = 2, 3, 9


@pytest.mark.parametrize(
    ("device", "oif", "back", "expected"),
    [
        (0, ETH0, RouteInfo(ETH0, 1500), ETH0),
        (0, ETH0, RouteInfo(ETH1, 1500), ETH1),  # by a mark it leaves by another
        (ETH0, ETH0, RouteInfo(ETH1, 1500), ETH1),
        (VRF, ETH0, RouteInfo(ETH1, 1500), ETH0),
        (VRF, ETH0, NoRoute("Network is unreachable"), ETH0),
        (ETH0, ETH0, NoRoute("Network is unreachable"), 0),
    ],
)
def test_the_way_back_is_that_of_packets_that_arrive(
    device: int, oif: int, back: Route, expected: int
) -> None:
    assert way_back(RouteQuery(FAR, device=device), RouteInfo(oif, 1500), back) == expected
