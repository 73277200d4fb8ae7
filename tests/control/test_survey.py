"""What is asked of the kernel, and what is made of its answers."""

from dataclasses import replace
from ipaddress import ip_address

import pytest

from gred.config.model import TunnelConfig
from gred.control.kernel.routes import NoRoute, RouteInfo, RouteQuery
from gred.control.survey import Binding, Observation, survey
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, WIRE, FakeDevice, FakeKernel, tunnel


def look(kernel: FakeKernel, *configs: TunnelConfig) -> dict[str, Observation]:
    return survey(kernel, [(config, kernel.open(config.name, offload=True)) for config in configs])


def test_a_route_that_two_tunnels_share_is_asked_for_once() -> None:
    kernel = FakeKernel()
    look(kernel, tunnel("t1"), tunnel("t2"))
    assert kernel.asked == [[RouteQuery(ip_address(REMOTE), ip_address(LOCAL))]]


def test_a_missing_local_address_is_not_asked_with() -> None:
    """The kernel knows no route for a source that is not there; a loop would go unseen."""
    kernel = FakeKernel()
    kernel.addresses.clear()
    seen = look(kernel, tunnel())
    assert kernel.asked == [[RouteQuery(ip_address(REMOTE))]]
    assert not seen["t1"].local_present


def test_any_local_address_is_always_there() -> None:
    kernel = FakeKernel()
    kernel.addresses.clear()
    assert look(kernel, tunnel(local=None))["t1"].local_present


def test_without_a_remote_nothing_is_asked() -> None:
    seen = look(FakeKernel(), tunnel(remote=None))["t1"]
    assert seen.route is None
    assert seen.loop == ()


def test_a_loop_through_two_tunnels_is_named() -> None:
    kernel = FakeKernel()
    one, two = tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE)
    devices = [(config, kernel.open(config.name, offload=True)) for config in (one, two)]
    kernel.route_into(REMOTE, "t2")
    kernel.route_into(OTHER_REMOTE, "t1")
    seen = survey(kernel, devices)
    assert seen["t1"].loop == ("t1", "t2")
    assert seen["t2"].loop == ("t2", "t1")


def test_rules_for_gre_make_look_ups_worthless() -> None:
    """With ``ip rule add ipproto gre`` the outer packets may go elsewhere."""
    kernel = FakeKernel()
    device = kernel.open("t1", offload=True)
    kernel.route_into(REMOTE, "t1")
    kernel.gre_rules = {4}
    seen = survey(kernel, [(tunnel(), device)])
    assert seen["t1"].loop == ()
    kernel.no_route(REMOTE)
    assert survey(kernel, [(tunnel(), device)])["t1"].route is None
    kernel.gre_rules = {6}
    assert survey(kernel, [(tunnel(), device)])["t1"].route == NoRoute("Network is unreachable")


def test_a_deleted_interface_is_not_alive_but_a_moved_one_is() -> None:
    kernel = FakeKernel()
    devices = [
        (config, kernel.open(config.name, offload=True)) for config in (tunnel(), tunnel("t2"))
    ]
    for _config, device in devices:
        del kernel.interfaces[device.index]
    kernel.elsewhere = {devices[1][1].index}
    seen = survey(kernel, devices)
    assert (seen["t1"].alive, seen["t1"].here) == (False, False)
    assert (seen["t2"].alive, seen["t2"].here) == (True, False)
    assert seen["t1"].route == RouteInfo(WIRE, 1500)


# Addresses and devices that are given by name.

OVER_IPV6 = tunnel(local=None, remote="2001:db8::2")


def test_device_and_mark_are_asked_with() -> None:
    kernel = FakeKernel()
    seen = look(kernel, replace(tunnel(), underlay_device="eth0", firewall_mark=7))
    assert kernel.asked == [[RouteQuery(ip_address(REMOTE), ip_address(LOCAL), WIRE, 7)]]
    assert seen["t1"].binding == Binding(local=ip_address(LOCAL), device=WIRE)


def test_ipv6_is_asked_for_a_device_without_a_source() -> None:
    """With one, the kernel takes the device for a wish."""
    kernel = FakeKernel()
    kernel.addresses.add(ip_address("2001:db8::1"))
    config = tunnel(local="2001:db8::1", remote="2001:db8::2")
    look(kernel, replace(config, underlay_device="eth0"))
    assert kernel.asked == [[RouteQuery(ip_address("2001:db8::2"), None, WIRE)]]


def test_a_device_that_is_not_there_is_no_route_and_not_asked_for() -> None:
    kernel = FakeKernel()
    kernel.gre_rules = {4}  # they change nothing about a missing device
    seen = look(kernel, replace(tunnel(), underlay_device="eth9"))["t1"]
    assert kernel.asked == [[]]
    assert seen.route == NoRoute("there is no interface eth9")
    assert seen.binding.device == 0


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (tunnel(local=None), "192.0.2.7"),
        (OVER_IPV6, "2001:db8::7"),
        (replace(OVER_IPV6, underlay_device="eth0"), "fe80::7"),
    ],
)
def test_the_local_address_is_the_best_of_the_interface(
    config: TunnelConfig, expected: str
) -> None:
    kernel = FakeKernel()
    given = ["192.0.2.7", "fe80::7", "192.0.2.8", "2001:db8::7"]
    kernel.given[WIRE] = list(map(ip_address, given))
    seen = look(kernel, replace(config, local_interface="eth0"))["t1"]
    assert seen.binding.local == ip_address(expected)


@pytest.mark.parametrize(
    ("interface", "reason"),
    [("eth0", "interface eth0 has no IPv4 address"), ("eth9", "there is no interface eth9")],
)
def test_an_interface_that_gives_no_address_is_named(interface: str, reason: str) -> None:
    kernel = FakeKernel()
    kernel.given[WIRE] = [ip_address("2001:db8::7")]
    seen = look(kernel, replace(tunnel(local=None), local_interface=interface))["t1"]
    assert seen.binding == Binding(no_local=reason)
    assert not seen.local_present
    assert kernel.asked == [[RouteQuery(ip_address(REMOTE))]]


def test_a_local_address_may_be_in_the_vrf_of_the_device() -> None:
    kernel = FakeKernel()
    kernel.addresses.clear()
    device = kernel.open("t1", offload=True)
    config = replace(tunnel(), underlay_device="eth0")
    assert not survey(kernel, [(config, device)])["t1"].local_present
    kernel.in_vrf[WIRE] = {ip_address(LOCAL)}
    assert survey(kernel, [(config, device)])["t1"].local_present


def test_what_netfilter_looks_at_is_seen_for_each_ip_version() -> None:
    kernel = FakeKernel()
    kernel.filters = {6: "netfilter rules"}
    six = tunnel("t2", local="2001:db8::1", remote="2001:db8::2")
    seen = look(kernel, tunnel("t1"), six)
    assert [seen[name].binding.filtered for name in ("t1", "t2")] == ["", "netfilter rules"]


def test_netfilter_is_not_asked_about_for_nothing() -> None:
    kernel = FakeKernel()
    kernel.filters = {4: "netfilter rules"}
    without = replace(tunnel("t1"), packet_socket=False)
    assert not look(kernel, without)["t1"].binding.filtered


# Interfaces in other namespaces.


def moved(kernel: FakeKernel) -> tuple[TunnelConfig, FakeDevice]:
    kernel.namespaces["blue"] = {1: "lo"}
    config = replace(tunnel(), namespace="blue")
    return config, kernel.open(config.name, offload=True, namespace="blue")


def test_an_interface_is_looked_for_where_it_was_moved_to() -> None:
    kernel = FakeKernel()
    one = moved(kernel)
    assert survey(kernel, [one])["t1"].here
    kernel.elsewhere = {one[1].index}
    del kernel.namespaces["blue"][one[1].index]
    seen = survey(kernel, [one])["t1"]
    assert (seen.alive, seen.here) == (True, False)


def test_with_its_namespace_the_interface_is_gone() -> None:
    kernel = FakeKernel()
    one = moved(kernel)
    kernel.namespaces.clear()
    kernel.interfaces[one[1].index] = "another"  # the same index in our own namespace
    seen = survey(kernel, [one])["t1"]
    assert (seen.alive, seen.here) == (False, False)


def test_an_index_of_another_namespace_is_no_loop() -> None:
    kernel = FakeKernel()
    one = moved(kernel)
    kernel.interfaces[one[1].index] = "eth1"
    kernel.route_into(REMOTE, "eth1")
    assert survey(kernel, [one])["t1"].loop == ()
