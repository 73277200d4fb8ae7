"""Link-local addresses: the kernel's GRE's where there is one to follow, the same at each start."""

from dataclasses import replace
from ipaddress import IPv6Interface, ip_address

import pytest

from gred.config.model import TunnelConfig
from gred.control import link_local as module
from gred.control.link_local import link_local
from tests.control.fakes import tunnel

INNER = ["2001:db8:9::1/64"]


def address(config: TunnelConfig) -> str:
    found = link_local(config)
    assert isinstance(found, IPv6Interface)
    assert found.network.prefixlen == 64
    assert found.ip.is_link_local
    return str(found.ip)


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("192.0.2.1", "fe80::5efe:c000:201"),
        ("10.1.2.3", "fe80::5efe:a01:203"),
        ("172.31.0.1", "fe80::5efe:ac1f:1"),
        ("203.0.113.1", "fe80::200:5efe:cb00:7101"),
        ("172.32.0.1", "fe80::200:5efe:ac20:1"),
    ],
)
def test_over_ipv4_it_is_that_of_the_kernels_gre(local: str, expected: str) -> None:
    """addrconf_ifid_gre: the universal bit is set where the IPv4 address is unique."""
    assert address(tunnel(local=local, addresses=INNER)) == expected


def test_a_mac_address_makes_it_as_on_any_ethernet() -> None:
    """RFC 4291 appendix A has this pair."""
    config = replace(tunnel(addresses=INNER), mode="gretap", mac_address="34:56:78:9a:bc:de")
    assert address(config) == "fe80::3656:78ff:fe9a:bcde"


@pytest.mark.parametrize(("local", "remote"), [(None, "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_elsewhere_it_is_the_same_at_each_start_and_anothers_is_another(
    local: str | None, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tunnel(local=local, remote=remote, addresses=INNER)
    own = address(config)
    assert address(tunnel(local=local, remote=remote, addresses=[*INNER, "10.0.0.1/24"])) == own
    assert address(replace(config, name="t2")) != own
    assert address(replace(config, remote=ip_address("2001:db8::3"))) != own
    monkeypatch.setattr(module, "_secret", lambda: b"another machine")
    assert address(config) != own


def test_it_does_not_depend_on_an_address_that_is_found_at_run_time() -> None:
    config = tunnel(local=None, remote="192.0.2.2", addresses=INNER)
    follows = replace(config, local_interface="eth0")
    assert address(follows) == address(follows) != address(config)


@pytest.mark.parametrize("addresses", [["fe80::1/64"], ["2001:db8:9::1/64", "fe80::1/64"]])
def test_there_is_none_beside_one_that_is_configured(addresses: list[str]) -> None:
    assert link_local(tunnel(addresses=addresses)) is None


@pytest.mark.parametrize("addresses", [[], ["10.0.0.1/24"], ["169.254.1.1/16"]])
def test_there_is_none_without_ipv6_inside(addresses: list[str]) -> None:
    assert link_local(tunnel(addresses=addresses)) is None
    assert link_local(tunnel(addresses=addresses, routes=["2001:db8:9::/48"])) is not None
