"""A tunnel's states: what it is shown, what it tells, what it has the data plane do."""

from dataclasses import fields, replace
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar

import pytest

from gred.config.model import TunnelConfig
from gred.control.kernel.routes import NoRoute, RouteInfo
from gred.control.survey import Binding, Observation
from gred.control.tunnel import AS_CONFIGURED, Tunnel, TunnelState
from gred.dataplane.layout import Transport
from gred.wire.drop import DropReason
from tests.control.fakes import WIRE, FakeAttachment, FakeDevice, FakeKernel, tunnel

FINE = Observation(route=RouteInfo(WIRE, 1500))
LOOP = Observation(route=RouteInfo(10, 1476), loop=("t1", "t2"))
NO_ROUTE = Observation(route=NoRoute("Network is unreachable"))
NO_LOCAL = Observation(route=RouteInfo(WIRE, 1500), local_present=False)


@pytest.fixture
def made() -> Tunnel:
    one = Tunnel(tunnel())
    one.device = FakeDevice(FakeKernel(), "t1", 10)
    one.attachment = FakeAttachment(one.device, one.parameters())
    return one


def told(tunnel: Tunnel, seen: Observation) -> list[tuple[str, str]]:
    return [(event.name, event.level) for event in tunnel.observe(seen)]


def test_up_is_told_once(made: Tunnel) -> None:
    assert told(made, FINE) == [("tunnel_up", "info")]
    assert told(made, FINE) == []
    assert made.state is TunnelState.UP


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        (LOOP, TunnelState.LOOP),
        (NO_ROUTE, TunnelState.NO_ROUTE),
        (NO_LOCAL, TunnelState.NO_LOCAL),
    ],
)
def test_trouble_is_told_once_and_so_is_its_end(
    made: Tunnel, seen: Observation, state: TunnelState
) -> None:
    made.observe(FINE)
    assert told(made, seen) == [(f"tunnel_{state}", "warning")]
    assert told(made, seen) == []
    assert made.state is state
    assert made.detail
    (recovered,) = made.observe(FINE)
    assert (recovered.name, recovered.fields["after"]) == ("tunnel_up", str(state))
    assert made.detail == ""


def test_only_a_loop_stops_sending(made: Tunnel) -> None:
    for seen, blocked in [
        (NO_ROUTE, None),
        (NO_LOCAL, None),
        (LOOP, DropReason.DEAD_LOOP),
        (NO_ROUTE, None),
        (LOOP, DropReason.DEAD_LOOP),
        (FINE, None),
    ]:
        made.observe(seen)
        assert isinstance(made.attachment, FakeAttachment)
        assert made.attachment.blocked is blocked


def test_a_loop_is_told_with_its_way(made: Tunnel) -> None:
    (event,) = made.observe(LOOP)
    assert event.fields["detail"] == "192.0.2.2 is routed into the tunnel itself: t1 > t2 > t1"


def test_a_loop_outweighs_a_missing_address(made: Tunnel) -> None:
    made.observe(Observation(route=RouteInfo(10, 1476), local_present=False, loop=("t1",)))
    assert made.state is TunnelState.LOOP


def test_without_a_remote_it_is_up_and_says_that_it_only_receives() -> None:
    one = Tunnel(tunnel(remote=None))
    assert told(one, Observation()) == [("tunnel_up", "info"), ("tunnel_receives_only", "warning")]


def test_the_mtu_follows_the_route(made: Tunnel) -> None:
    assert made.wanted_mtu(Observation(route=RouteInfo(WIRE, 9000))) == 8976


@pytest.mark.parametrize("seen", [LOOP, NO_ROUTE, Observation()])
def test_the_mtu_stays_where_the_route_tells_nothing(made: Tunnel, seen: Observation) -> None:
    """In a loop the route's MTU is the tunnel's own: it would shrink at every look."""
    assert made.wanted_mtu(seen) == made.mtu == 1476


def test_ipv6_inside_brings_a_link_local_address() -> None:
    device = FakeDevice(FakeKernel(), "t1", 10)
    without = Tunnel(tunnel(addresses=["10.0.0.1/24"])).settings(device)
    assert (without.link_local, without.ipv6) == (None, False)
    beside = Tunnel(tunnel(addresses=["2001:db8::1/64"])).settings(device)
    assert (str(beside.link_local), beside.ipv6) == ("fe80::5efe:c000:201/64", True)
    instead = Tunnel(tunnel(addresses=["fe80::1/64"])).settings(device)
    assert (instead.link_local, instead.ipv6) == (None, True)


def test_parameters_carry_every_option_that_the_data_plane_knows() -> None:
    config = replace(
        tunnel(output_key=2, output_checksum=True, output_sequence=True),
        input_key=1,
        input_checksum="require",
        input_sequence=True,
        ttl=None,
        tos=4,
        discover_path_mtu=False,
        ignore_dont_fragment=True,
        clamp_mss=False,
        firewall_mark=9,
        flow_label=5,
        encapsulation_limit=6,
        port=4001,
        remote_port=4002,
        source_port=4003,
        udp_checksum=False,
    )
    parameters = Tunnel(config).parameters()
    renamed = {"dont_fragment": "discover_path_mtu"}
    found_out = {"mtu", "path_mtu", "interface", "group_device", "inner", "echo", "transport"}
    found_out.add("protection")
    for field in fields(parameters):
        if field.name not in found_out:
            value = getattr(config, renamed.get(field.name, field.name))
            assert getattr(parameters, field.name) == value, field.name


def test_the_transport_is_handed_on_and_costs_its_header() -> None:
    assert Tunnel(tunnel()).parameters().transport is Transport.IP
    made = Tunnel(replace(tunnel(), transport="udp"))
    assert made.parameters().transport is Transport.UDP
    assert made.mtu == 1500 - 20 - 8 - 4


# Where outer packets leave from.

OWN = ip_address("192.0.2.9")
NEW = ip_address("192.0.2.10")


def following() -> Tunnel:
    return Tunnel(replace(tunnel(local=None), local_interface="eth0", underlay_device="eth1"))


def test_an_address_found_on_the_interface_is_used() -> None:
    made = following()
    assert made.move(Binding(local=OWN, device=3))
    assert not made.move(Binding(local=OWN, device=3))
    assert (made.parameters().local, made.parameters().interface) == (OWN, 3)
    assert made.move(Binding(local=NEW, device=3))
    assert made.move(Binding(local=NEW, device=4))
    assert (made.parameters().local, made.parameters().interface) == (NEW, 4)


@pytest.mark.parametrize(
    ("remote", "nowhere"), [("192.0.2.2", "192.0.0.8"), ("2001:db8::2", "100::")]
)
def test_without_an_address_or_a_device_nothing_can_leave(remote: str, nowhere: str) -> None:
    """Not from another address, and not by another way: what is put in their place is refused."""
    made = Tunnel(replace(following().config, remote=ip_address(remote)))
    made.move(Binding(no_local="there is no interface eth0", no_device="none eth1"))
    parameters = made.parameters()
    assert parameters.local == ip_address(nowhere)
    assert parameters.interface == 0x7FFFFFFF


def test_an_address_that_went_is_kept_until_there_is_another() -> None:
    made = following()
    made.move(Binding(local=OWN))
    assert not made.move(Binding(no_local="interface eth0 has no IPv4 address"))
    assert made.parameters().local == OWN


def test_the_reason_names_the_interface_that_has_no_address() -> None:
    made = following()
    binding = Binding(no_local="interface eth0 has no IPv4 address")
    made.move(binding)
    made.observe(Observation(local_present=False, binding=binding))
    assert made.state is TunnelState.NO_LOCAL
    assert made.detail == "interface eth0 has no IPv4 address"


class TestProjection:
    """What was configured reaches the data plane under the same name."""

    OF_CONTROL: ClassVar = {
        *("name", "location", "places", "notes", "mode", "local_interface"),
        *("remote_name", "resolve_interval"),
        *("underlay_device", "namespace"),
        *("mac_address", "addresses", "routes", "repair", "offload", "discover_path_mtu"),
        *("keepalive", "keepalive_retries", "keepalive_reply", "carrier", "probe_mtu"),
        *("keepalive_target", "post_up", "pre_down", "on_state_change", "hook_timeout"),
    }
    BENT: ClassVar = {"local", "ignore_dont_fragment", "mtu", "packet_socket", "transport", "ipsec"}

    def test_every_option_is_handed_on_or_is_known_to_be_controls(self) -> None:
        configured = {field.name for field in fields(TunnelConfig)}
        assert AS_CONFIGURED - {"family"} <= configured
        assert configured - AS_CONFIGURED - self.BENT == self.OF_CONTROL

    @pytest.mark.parametrize(
        ("options", "family"),
        [
            ({}, 4),
            ({"local": ip_address("2001:db8::1")}, 6),
            ({"remote": ip_address("2001:db8::1")}, 6),
            ({"peers": ((ip_network("10.0.0.0/8"), ip_address("2001:db8::1")),)}, 6),
            ({"peers": ((ip_network("fd00::/8"), ip_address("192.0.2.1")),)}, 4),
        ],
    )
    def test_the_family_is_decided_once(self, options: dict[str, Any], family: int) -> None:
        config = replace(tunnel(local=None, remote=None), **options)
        assert config.family == family
        assert Tunnel(config).parameters().family == family
        headers = {4: 24, 6: 44}[family]
        assert Tunnel(config).mtu == 1500 - headers
