"""What is asked of the kernel, and what is made of its answers."""

from ipaddress import ip_address

from gred.config.model import TunnelConfig
from gred.control.paths import NoRoute, RouteInfo, RouteQuery
from gred.control.survey import Observation, survey
from tests.control.fakes import LOCAL, OTHER_REMOTE, REMOTE, WIRE, FakeKernel, tunnel


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
