"""Output of a real ip(8) of a real kernel, as it was recorded; tests/interop asks one that runs."""

from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from gred.config import TunnelConfig
from gred.management.convert.draft import ConversionError
from tests.management.convert.reading import converted, loaded, said

RECORDED = Path(__file__).parent / "recorded"
LINKS = (RECORDED / "ip-details-link.json").read_text()
ADDRESSES = (RECORDED / "ip-address.json").read_text()
ROUTES = (RECORDED / "ip-route.json").read_text()


@pytest.fixture
def tunnels(tmp_path: Path) -> dict[str, TunnelConfig]:
    return loaded(converted(LINKS + ADDRESSES + ROUTES), tmp_path)


def test_all_gre_tunnels_are_found(tunnels: dict[str, TunnelConfig]) -> None:
    names = ["plain", "keyed", "keys", "fragile", "any", "tap", "six", "six2", "tap6"]
    assert list(tunnels) == names


def test_plain_tunnel_is_as_the_kernel_has_it(tunnels: dict[str, TunnelConfig]) -> None:
    plain = tunnels["plain"]
    assert (plain.local, plain.remote) == (ip_address("198.18.0.1"), ip_address("198.18.0.2"))
    assert (plain.ttl, plain.tos, plain.mtu, plain.discover_path_mtu) == (None, 0, None, True)


def test_peer_address_is_a_route(tunnels: dict[str, TunnelConfig]) -> None:
    assert tunnels["plain"].addresses == (ip_interface("10.9.0.1/32"),)
    assert tunnels["plain"].routes == (ip_network("10.9.0.2/32"),)


def test_key_checksum_mtu_addresses_and_routes(tunnels: dict[str, TunnelConfig]) -> None:
    keyed = tunnels["keyed"]
    assert (keyed.input_key, keyed.output_key) == (42, 42)
    assert (keyed.input_checksum, keyed.output_checksum) == ("require", True)
    assert (keyed.ttl, keyed.tos, keyed.mtu) == (64, 0x28, 1400)
    assert list(map(str, keyed.addresses)) == ["10.1.2.1/24", "fd00:1::1/64"]
    assert list(map(str, keyed.routes)) == ["20.1.3.0/24", "20.1.4.0/24", "fd00:2::/64"]


def test_directions_that_differ(tunnels: dict[str, TunnelConfig]) -> None:
    keys = tunnels["keys"]
    assert (keys.input_key, keys.output_key) == (0x0A000007, 8)
    assert (keys.input_checksum, keys.output_checksum) == ("accept", True)
    assert (keys.input_sequence, keys.output_sequence) == (True, False)
    assert keys.underlay_device == "d0"


def test_fragmenting_tunnel(tunnels: dict[str, TunnelConfig]) -> None:
    fragile = tunnels["fragile"]
    assert (fragile.discover_path_mtu, fragile.ignore_dont_fragment) == (False, True)
    assert fragile.firewall_mark == 0x10


def test_key_zero_and_open_remote(tunnels: dict[str, TunnelConfig]) -> None:
    assert (tunnels["any"].input_key, tunnels["any"].remote) == (0, None)


def test_ethernet_keeps_its_address(tunnels: dict[str, TunnelConfig]) -> None:
    assert (tunnels["tap"].mode, tunnels["tap"].mac_address) == ("gretap", "02:00:00:00:00:01")


def test_ipv6_tunnels(tunnels: dict[str, TunnelConfig]) -> None:
    six, other, tap = tunnels["six"], tunnels["six2"], tunnels["tap6"]
    assert (six.ttl, six.tos, six.encapsulation_limit, six.mtu) == (64, 0, 4, None)
    assert (other.ttl, other.tos, other.encapsulation_limit) == (77, None, None)
    assert (other.flow_label, other.input_sequence) == (0x12345, True)
    assert (tap.mode, tap.tos, tap.family) == ("gretap", 0x20, 6)


def test_what_cannot_be_said_is_said() -> None:
    done = converted(LINKS + ADDRESSES + ROUTES)
    words = said(done)
    assert "[Tunnel ext]: no equivalent: external: where packets go is configured" in words
    assert "# [Tunnel ext]\n" in done.text
    assert "ip6_tnl_f_use_orig_flowlabel" in words
    assert "no tunnels, and left out: lo, gre0, gretap0, ip6gre0, d0" in words
    assert "routes that do not lead into a tunnel, and left out: 4" in words


def test_without_details_the_remedy_is_named() -> None:
    done = converted('[{"ifname":"gre1","link_type":"gre","mtu":1476}]')
    assert done.tunnels == 0
    assert "ip -json -details link" in said(done)


def test_the_kernels_sign_for_inherit(tmp_path: Path) -> None:
    """ip -json of iproute2 6.1 prints it as the number it is."""
    done = converted(LINKS.replace('"tos":"0x28"', '"tos":"0x1"'))
    assert loaded(done, tmp_path)["keyed"].tos is None


def test_text_that_is_no_json_is_one_clear_error() -> None:
    with pytest.raises(ConversionError, match=r"^stdin: line 2: expected the JSON of ip"):
        converted('[\n{"ifname" gre1}]')


def test_a_bridge_port_and_an_alias() -> None:
    done = converted(
        '[{"ifname":"t","flags":["UP"],"mtu":1462,"master":"br0","ifalias":"to\\nme",'
        '"address":"02:00:00:00:00:01","linkinfo":{"info_slave_kind":"bridge",'
        '"info_kind":"gretap","info_data":{"remote":"192.0.2.2","encap":{"type":"gue"}}}}]'
    )
    words = said(done)
    assert "no equivalent: master br0: put the interface into the bridge" in words
    assert "it is described as: to me" in words
    assert "encap gue: Transport=udp is what Linux calls fou" in words
    assert done.tunnels == 0


def test_foo_over_udp(tmp_path: Path) -> None:
    done = converted(
        '[{"ifname":"t","flags":["UP"],"mtu":1468,"linkinfo":{"info_kind":"gre","info_data":'
        '{"local":"192.0.2.1","remote":"192.0.2.2","ttl":64,'
        '"encap":{"type":"fou","sport":4001,"dport":4754,"csum":true}}}}]'
    )
    one = loaded(done, tmp_path)["t"]
    assert (one.transport, one.remote_port, one.source_port) == ("udp", 4754, 4001)
    assert one.mtu is None
