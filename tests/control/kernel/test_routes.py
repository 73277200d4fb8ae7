"""Networks, asked whether they have an address."""

from ipaddress import ip_address, ip_network

import pytest

from gred.control.kernel.parts import prefix
from gred.control.kernel.routes import Networks


def networks(*texts: str) -> Networks:
    return Networks(prefix(ip_network(text)) for text in texts)


SOME = networks("192.0.2.0/24", "198.51.100.7/32", "198.51.100.128/25", "2001:db8:1::/48")


@pytest.mark.parametrize(
    ("address", "is_there"),
    [
        ("192.0.2.0", True),
        ("192.0.2.255", True),
        ("192.0.3.0", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("198.51.100.200", True),
        ("2001:db8:1::7", True),
        ("2001:db8:2::7", False),
    ],
)
def test_an_address_is_in_one_of_them_or_not(address: str, is_there: bool) -> None:
    assert SOME.have(ip_address(address).packed) is is_there


def test_a_default_route_has_all_of_its_version() -> None:
    default = networks("0.0.0.0/0")
    assert default.have(ip_address("203.0.113.1").packed)
    assert not default.have(ip_address("2001:db8::1").packed)


def test_none_is_nothing() -> None:
    assert not networks()
    assert SOME
    assert not networks().have(ip_address("192.0.2.1").packed)
