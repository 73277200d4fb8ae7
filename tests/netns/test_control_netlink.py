"""What the kernel is asked and told, by the kernel's own account."""

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv6Interface, ip_address, ip_interface, ip_network
from typing import Any

import pytest

from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import InterfaceSettings
from gred.control.kernel.routes import NoRoute, Route, RouteInfo
from gred.dataplane.tun import TunDevice
from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.wire.checksum import checksum
from tests import require

LOCAL, REMOTE = "192.0.2.1", "192.0.2.2"


@pytest.fixture
def host() -> Iterator[Host]:
    """A host with one wire, 192.0.2.1/24 and 2001:db8::1/64 on it."""
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    with Lab("gredctlnl") as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.wire(left, right)
        left.address(f"{LOCAL}/24")
        left.address("2001:db8::1/64")
        yield left


@pytest.fixture
def device(host: Host) -> Iterator[TunDevice]:
    device = host.inside(lambda: TunDevice.open("t1", offload=False))
    yield device
    device.close()


def settings(
    device: TunDevice,
    *,
    addresses: Sequence[str] = (),
    routes: Sequence[str] = (),
    mtu: int = 1400,
    link_local: str | None = None,
) -> InterfaceSettings:
    return InterfaceSettings(
        place="gred.conf:7: [Tunnel t1]",
        index=device.index,
        name=device.name,
        mtu=mtu,
        addresses=tuple(map(ip_interface, addresses)),
        routes=tuple(map(ip_network, routes)),
        link_local=None if link_local is None else IPv6Interface(link_local),
        ipv6=any(":" in inner for inner in (*addresses, *routes)),
    )


def shown(host: Host, *arguments: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(host.ip("-j", "-d", *arguments) or "[]")
    return [entry for entry in listed if entry]


def route_to(host: Host, destination: str, source: str | None = None) -> Route:
    origin = None if source is None else ip_address(source)
    return host.inside(lambda: Netlink().route_to(ip_address(destination), origin))


def refusal(host: Host, wanted: InterfaceSettings) -> str:
    (refused,) = host.inside(lambda: Netlink().configure([wanted]))
    assert refused is not None
    return str(refused)


def test_an_interface_gets_all_it_needs(host: Host, device: TunDevice) -> None:
    wanted = settings(
        device,
        addresses=["10.1.2.1/24", "10.9.0.1/32", "2001:db8:1::1/64"],
        routes=["20.1.3.0/24", "2001:db8:2::/48", "10.1.2.0/24"],
        link_local="fe80::5efe:c000:201/64",
    )
    assert host.inside(lambda: Netlink().configure([wanted])) == [None]
    (link,) = shown(host, "addr", "show", "dev", "t1")
    assert link["mtu"] == 1400
    assert {"UP", "POINTOPOINT", "MULTICAST"} <= set(link["flags"])
    assert link["txqlen"] == 2000
    assert link["group"] == "default"
    addresses = {f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"]}
    assert {"10.1.2.1/24", "10.9.0.1/32", "2001:db8:1::1/64"} <= addresses
    assert [own for own in addresses if own.startswith("fe80:")] == ["fe80::5efe:c000:201/64"]
    (route,) = shown(host, "route", "show", "20.1.3.0/24")
    assert (route["dev"], route["protocol"], route["scope"]) == ("t1", "static", "link")
    (route6,) = shown(host, "-6", "route", "show", "2001:db8:2::/48")
    assert (route6["dev"], route6["protocol"]) == ("t1", "static")


def test_the_kernel_makes_no_link_local_address_beside_one_that_is_given(
    host: Host, device: TunDevice
) -> None:
    host.inside(lambda: Netlink().configure([settings(device, addresses=["fe80::1/64"])]))
    (link,) = shown(host, "addr", "show", "dev", "t1")
    assert [entry["local"] for entry in link["addr_info"]] == ["fe80::1"]
    (route,) = shown(host, "-6", "route", "get", "ff02::5", "oif", "t1")
    assert route["prefsrc"] == "fe80::1"


def test_without_ipv6_inside_there_is_no_link_local_address(host: Host, device: TunDevice) -> None:
    """Router solicitations would go through the tunnel for ever."""
    wanted = settings(device, addresses=["10.1.2.1/24"])
    host.inside(lambda: Netlink().configure([wanted]))
    (link,) = shown(host, "addr", "show", "dev", "t1")
    assert [entry["local"] for entry in link["addr_info"]] == ["10.1.2.1"]


def test_ipv6_switched_off_is_said_with_a_remedy(host: Host, device: TunDevice) -> None:
    host.sysctl("net.ipv6.conf.t1.disable_ipv6", "1")
    text = refusal(host, settings(device, addresses=["2001:db8:1::1/64"]))
    assert text.startswith("gred.conf:7: [Tunnel t1]: cannot add address 2001:db8:1::1/64: ")
    assert "IPv6 is disabled" in text
    assert "disable_ipv6=0" in text


def test_a_route_that_exists_is_said_with_a_remedy(host: Host, device: TunDevice) -> None:
    host.ip("route", "add", "20.1.3.0/24", "dev", UNDERLAY)
    text = refusal(host, settings(device, routes=["20.1.3.0/24"]))
    assert "cannot add route 20.1.3.0/24: File exists" in text
    assert "ip -4 route show 20.1.3.0/24" in text


def test_what_one_interface_is_refused_the_others_get(host: Host, device: TunDevice) -> None:
    other = host.inside(lambda: TunDevice.open("t2", offload=False))
    with contextlib.closing(other):
        wanted = [
            settings(device, addresses=["10.1.2.1/24"], routes=["20.1.3.0/24"]),
            replace(settings(other, routes=["20.1.3.0/24"]), place="gred.conf:9"),
            replace(settings(device), index=99999),
            replace(settings(other, addresses=["10.1.3.1/24"]), namespace="gred-nowhere"),
            settings(other, addresses=["10.1.4.1/24"]),
        ]
        refused = host.inside(lambda: Netlink().configure(wanted))
        texts = [None if error is None else str(error) for error in refused]
        assert texts[0] is texts[4] is None
        assert texts[1] is not None
        assert texts[1].startswith("gred.conf:9: cannot add route 20.1.3.0/24: File exists")
        assert texts[2] is not None
        assert "cannot set MTU 1400: No such device" in texts[2]
        assert texts[3] is not None
        assert "cannot speak to the kernel over netlink: No such file" in texts[3]
        assert [entry["dst"] for entry in shown(host, "route", "show", "dev", "t2")] == [
            "10.1.4.0/24"
        ]


def test_an_mtu_the_kernel_refuses_is_said_in_its_words(host: Host, device: TunDevice) -> None:
    text = refusal(host, settings(device, mtu=40))
    assert "cannot set MTU 40: mtu less than device minimum" in text


def test_more_orders_than_one_chunk_are_all_answered(host: Host, device: TunDevice) -> None:
    routes = [f"20.{number // 256}.{number % 256}.0/24" for number in range(500)]
    host.inside(lambda: Netlink().configure([settings(device, routes=routes)]))
    assert len(shown(host, "route", "show", "dev", "t1")) == 500


def test_a_route_has_the_mtu_of_its_device_or_its_own(host: Host) -> None:
    index = host.inside(lambda: socket.if_nametoindex(UNDERLAY))
    expected = RouteInfo(index, 1500, prefsrc=ip_address(LOCAL))
    assert route_to(host, REMOTE) == expected
    host.ip("link", "set", UNDERLAY, "mtu", "1450")
    host.ip("route", "add", "198.51.100.0/24", "via", REMOTE, "mtu", "1300")
    host.ip("-6", "route", "add", "2001:db8:9::/64", "via", "2001:db8::2", "mtu", "1290")
    found = route_to(host, "198.51.100.1", LOCAL)
    assert isinstance(found, RouteInfo)
    assert (found.oif, found.mtu, found.gateway) == (index, 1300, ip_address(REMOTE))
    found6 = route_to(host, "2001:db8:9::1")
    assert isinstance(found6, RouteInfo)
    assert (found6.oif, found6.mtu, found6.gateway) == (index, 1290, ip_address("2001:db8::2"))
    plain = route_to(host, REMOTE)
    assert isinstance(plain, RouteInfo)
    assert plain.mtu == 1450


def test_a_learned_path_mtu_is_not_followed(host: Host) -> None:
    """It expires, and nobody tells."""
    local, remote = ip_address(LOCAL), ip_address(REMOTE)
    with (
        host.socket(socket.AF_INET, socket.SOCK_DGRAM) as talker,
        host.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as offender,
    ):
        talker.bind((LOCAL, 0))
        talker.connect((REMOTE, 9))
        udp = struct.pack("!HHHH", talker.getsockname()[1], 9, 8, 0)
        quoted = struct.pack("!BxHxxHBBxx", 0x45, 1500, 0x4000, 64, 17)
        quoted += local.packed + remote.packed + udp
        icmp = struct.pack("!BBHHH", 3, 4, 0, 0, 1000) + quoted  # fragmentation needed, RFC 1191 §4
        offender.sendto(icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:], (LOCAL, 0))
    assert "mtu 1000" in host.ip("route", "get", REMOTE)
    found = route_to(host, REMOTE)
    assert isinstance(found, RouteInfo)
    assert found.mtu == 1500


def test_a_learned_path_mtu_is_not_followed_on_ipv6(host: Host) -> None:
    local, remote = ip_address("2001:db8::1"), ip_address("2001:db8::2")
    with (
        host.socket(socket.AF_INET6, socket.SOCK_DGRAM) as talker,
        host.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as offender,
    ):
        talker.bind((str(local), 0))
        talker.connect((str(remote), 9))
        udp = struct.pack("!HHHH", talker.getsockname()[1], 9, 8, 0)
        quoted = struct.pack("!IHBB", 6 << 28, len(udp), 17, 64)
        quoted += local.packed + remote.packed + udp
        icmp = struct.pack("!BBHI", 2, 0, 0, 1300) + quoted  # packet too big, RFC 4443 §3.2
        offender.sendto(icmp, (str(local), 0))
    assert "mtu 1300" in host.ip("route", "get", str(remote))
    found = route_to(host, str(remote))
    assert isinstance(found, RouteInfo)
    assert found.mtu == 1500


@pytest.mark.parametrize("kind", ["unreachable", "prohibit", "blackhole"])
@pytest.mark.parametrize(
    ("network", "address"),
    [("198.51.100.0/24", "198.51.100.1"), ("2001:db8:9::/64", "2001:db8:9::1")],
)
def test_routes_that_lead_nowhere_are_none(
    host: Host, kind: str, network: str, address: str
) -> None:
    assert isinstance(route_to(host, address), NoRoute)
    host.ip("route", "add", kind, network)
    assert isinstance(route_to(host, address), NoRoute)


def test_rules_by_source_are_followed(host: Host) -> None:
    host.address("192.0.2.9/32")
    host.ip("rule", "add", "from", "192.0.2.9", "unreachable")
    assert isinstance(route_to(host, REMOTE, LOCAL), RouteInfo)
    assert isinstance(route_to(host, REMOTE, "192.0.2.9"), NoRoute)


def test_rules_that_select_gre_are_seen(host: Host) -> None:
    versions = Netlink().versions_with_gre_rules
    assert host.inside(versions) == set()
    host.ip("-6", "rule", "add", "ipproto", "47", "lookup", "100")
    assert host.inside(versions) == {6}
    host.ip("rule", "add", "ipproto", "47", "lookup", "100")
    assert host.inside(versions) == {4, 6}


def test_addresses_of_the_host_are_known(host: Host) -> None:
    own = {LOCAL, "127.0.0.1", "::1", "2001:db8::1"}
    asked = [*own, REMOTE, "2001:db8::2", "203.0.113.1"]
    found = host.inside(lambda: Netlink().local_addresses(map(ip_address, asked)))
    assert found == set(map(ip_address, own))


def test_an_interface_is_known_by_its_descriptor(host: Host, device: TunDevice) -> None:
    netlink = Netlink()
    assert netlink.attached(device) == "t1"
    host.ip("link", "set", "t1", "name", "t1new")
    assert netlink.attached(device) == "t1new"
    host.ip("link", "del", "t1new")
    assert netlink.attached(device) is None


def test_only_our_own_interfaces_are_deleted(host: Host) -> None:
    def names() -> set[str]:
        return set(host.inside(Netlink().links).values())

    host.ip("link", "add", "stranger", "group", "77", "type", "bridge")
    before = names()
    devices = [
        host.inside(lambda name=name: TunDevice.open(name, offload=False))  # type: ignore[misc]  # mypy cannot infer the default argument
        for name in ("t1", "t2", "t3")
    ]
    host.ip("link", "set", "t1", "name", "renamed")
    host.ip("link", "set", "t2", "group", "77")
    host.ip("link", "del", "t3")
    assert names() == before | {"renamed", "t2"}
    host.inside(lambda: Netlink().delete(devices))
    assert names() == before
    host.inside(lambda: Netlink().delete(devices))
    with contextlib.ExitStack() as stack:
        for device in devices:
            stack.callback(device.close)


def test_an_interface_in_another_namespace_is_left_to_its_descriptor(host: Host) -> None:
    """Its index may be somebody else's here."""
    device: TunDevice = host.inside(lambda: TunDevice.open("t1", offload=False))
    with contextlib.closing(device):
        other = host.namespace.removesuffix("left") + "right"
        host.ip("link", "set", "t1", "netns", other)
        host.ip("link", "add", "name", "stranger", "index", str(device.index), "type", "bridge")
        host.inside(lambda: Netlink().delete([device]))
        assert "stranger" in host.inside(Netlink().links).values()
        assert Netlink().attached(device) == "t1"


def test_mtus_are_set_together(host: Host) -> None:
    opener: Callable[[str], TunDevice] = lambda name: TunDevice.open(name, offload=False)  # noqa: E731 - one expression, used twice
    one, two = (host.inside(lambda name=name: opener(name)) for name in ("t1", "t2"))  # type: ignore[misc]  # mypy cannot infer the default argument
    with contextlib.closing(one), contextlib.closing(two):
        host.inside(lambda: Netlink().set_mtus({one.index: 1300, two.index: 1301}))
        assert [shown(host, "link", "show", name)[0]["mtu"] for name in ("t1", "t2")] == [
            1300,
            1301,
        ]
        mtus = {99999: 1300, one.index: 1302}
        refused = host.inside(lambda: Netlink().set_mtus(mtus))
        assert list(refused) == [99999]
        assert "cannot set MTU 1300" in str(refused[99999])
        assert shown(host, "link", "show", "t1")[0]["mtu"] == 1302
