"""MTU arithmetic, as worked sums."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from gred.config.model import TunnelConfig
from gred.control.mtu import overhead, tunnel_mtu
from tests.control.fakes import tunnel

OVER_IPV6 = tunnel(local="2001:db8::1", remote="2001:db8::2")


def test_a_plain_tunnel_over_ethernet_has_1476() -> None:
    assert tunnel_mtu(tunnel(), 1500) == 1500 - 20 - 4 == 1476


def test_a_key_costs_four() -> None:
    assert tunnel_mtu(tunnel(output_key=0), 1500) == 1472


def test_key_checksum_and_sequence_cost_twelve() -> None:
    config = tunnel(output_key=42, output_checksum=True, output_sequence=True)
    assert tunnel_mtu(config, 1500) == 1464


def test_an_ipv6_underlay_has_1456() -> None:
    assert tunnel_mtu(OVER_IPV6, 1500) == 1456


def test_what_is_only_required_on_receipt_costs_nothing() -> None:
    config = replace(tunnel(), input_key=1, input_checksum="require", input_sequence=True)
    assert overhead(config) == 24


def test_a_local_address_alone_tells_the_family() -> None:
    assert overhead(tunnel(local="2001:db8::1", remote=None)) == 44
    assert overhead(tunnel(local=None, remote=None)) == 24


def test_a_peer_alone_tells_the_family_too() -> None:
    peers = ((ip_network("10.0.0.0/24"), ip_address("2001:db8::2")),)
    assert overhead(replace(tunnel(local=None, remote=None), peers=peers)) == 44


def test_a_gretap_frame_has_an_ethernet_header() -> None:
    assert tunnel_mtu(replace(tunnel(), mode="gretap"), 1500) == 1462
    assert tunnel_mtu(replace(OVER_IPV6, mode="gretap"), 1500) == 1442


def test_an_encapsulation_limit_costs_sixteen() -> None:
    """Eight that are sent, and eight because the kernel counts these twice."""
    assert tunnel_mtu(replace(OVER_IPV6, encapsulation_limit=0), 1500) == 1440


def test_a_configured_mtu_stands() -> None:
    assert tunnel_mtu(tunnel(mtu=1400), 9000) == 1400


@pytest.mark.parametrize(
    ("config", "floor"),
    [
        (tunnel(), 68),
        (tunnel(addresses=["10.0.0.1/24"]), 68),
        (tunnel(addresses=["2001:db8:1::1/64"]), 1280),
        (tunnel(routes=["2001:db8:2::/48"]), 1280),
    ],
)
def test_the_floor_is_that_of_the_inner_protocols(config: TunnelConfig, floor: int) -> None:
    assert tunnel_mtu(config, 80) == floor


def test_the_ceiling_is_what_one_outer_packet_can_hold() -> None:
    """The loopback interface has 65536, an IPv4 packet at most 65535."""
    assert tunnel_mtu(tunnel(), 65536) == 65535 - 24
    assert tunnel_mtu(OVER_IPV6, 65536) == 65536 - 44
    assert tunnel_mtu(OVER_IPV6, 1 << 20) == 65535 - 4
