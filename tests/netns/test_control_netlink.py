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

from gred.control.interfaces import changes, compare
from gred.control.kernel.changes import SetMtu
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import Actual, InterfaceSettings
from gred.control.kernel.routes import MtuRoute, NoRoute, Route, RouteInfo, RouteQuery
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


def configure(
    host: Host, wanted: InterfaceSettings, given: InterfaceSettings | None = None
) -> list[str]:
    """Make an interface as it is *wanted*; return what was refused, in words."""

    def work() -> list[str]:
        netlink = Netlink()
        asked = [wanted] if given is None else [wanted, given]
        actual = netlink.actual(asked, wanted.namespace)[wanted.index]
        (refused,) = netlink.change([(wanted, changes(wanted, actual, given))])
        return list(map(str, refused.values()))

    return host.inside(work)


def is_whole(host: Host, wanted: InterfaceSettings) -> bool:
    """Whether nothing is missing, and nothing would be changed."""
    actual = host.inside(lambda: Netlink().actual([wanted], wanted.namespace))[wanted.index]
    return not (compare(wanted, actual).sentence or changes(wanted, actual, wanted))


def refusal(host: Host, wanted: InterfaceSettings) -> str:
    (refused,) = configure(host, wanted)
    return refused


def test_an_interface_gets_all_it_needs(host: Host, device: TunDevice) -> None:
    wanted = settings(
        device,
        addresses=["10.1.2.1/24", "10.9.0.1/32", "2001:db8:1::1/64"],
        routes=["20.1.3.0/24", "2001:db8:2::/48", "10.1.2.0/24"],
        link_local="fe80::5efe:c000:201/64",
    )
    assert configure(host, wanted) == []
    assert is_whole(host, wanted)
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
    configure(host, settings(device, addresses=["fe80::1/64"]))
    (link,) = shown(host, "addr", "show", "dev", "t1")
    assert [entry["local"] for entry in link["addr_info"]] == ["fe80::1"]
    (route,) = shown(host, "-6", "route", "get", "ff02::5", "oif", "t1")
    assert route["prefsrc"] == "fe80::1"


def test_without_ipv6_inside_there_is_no_link_local_address(host: Host, device: TunDevice) -> None:
    """Router solicitations would go through the tunnel for ever."""
    wanted = settings(device, addresses=["10.1.2.1/24"])
    configure(host, wanted)
    (link,) = shown(host, "addr", "show", "dev", "t1")
    assert [entry["local"] for entry in link["addr_info"]] == ["10.1.2.1"]


FULL = {
    "addresses": ["10.1.2.1/24", "169.254.7.1/16", "10.9.0.1/32", "2001:db8:1::1/64"],
    "routes": ["20.1.3.0/24", "2001:db8:2::/48"],
    "link_local": "fe80::5efe:c000:201/64",
    "mtu": 1400,
}


@pytest.mark.parametrize(
    "mischief",
    [
        "addr flush dev t1",
        "-4 addr flush dev t1",
        "route flush dev t1",
        "-6 route flush dev t1",
        "-4 route del 10.1.2.0/24 dev t1",
        "-6 route del 2001:db8:1::/64 dev t1",
        "link set t1 mtu 1300",
        "link set t1 mtu 1000",
        "link set t1 down; link set t1 up",
        "addr del 10.1.2.1/24 dev t1; addr add 10.1.2.1/24 dev t1 scope host",
        "addr del 2001:db8:1::1/64 dev t1; addr add 2001:db8:1::1/128 dev t1",
        "link set t1 mtu 1000; link set t1 mtu 1400",
    ],
)
def test_what_somebody_did_is_undone_and_no_more(
    host: Host, device: TunDevice, mischief: str
) -> None:
    wanted = settings(device, **FULL)  # type: ignore[arg-type]  # as FULL has them
    configure(host, wanted)
    before = [shown(host, *what, "show", "dev", "t1") for what in _LISTS]
    host.ip("addr", "add", "172.16.1.1/24", "dev", "t1")
    host.ip("route", "add", "172.17.0.0/16", "dev", "t1")
    foreign = "172.1"
    for command in mischief.split("; "):
        host.ip(*command.split())
    assert configure(host, wanted, wanted) == []
    if not is_whole(host, wanted):  # what the kernel made when IPv6 came back
        assert configure(host, wanted, wanted) == []
    assert is_whole(host, wanted)
    for what, expected in zip(_LISTS, before, strict=True):
        found = shown(host, *what, "show", "dev", "t1")
        own = [one for one in _lines(found) if foreign not in one]
        assert own == _lines(expected)
    gone_too = "-4 route" in mischief or mischief.startswith(("addr flush", "-4 addr", "route"))
    if not gone_too:
        assert "172.16.1.1" in host.ip("addr", "show", "dev", "t1")


_LISTS = (("addr",), ("-4", "route"), ("-6", "route"))


def _lines(listed: list[dict[str, Any]]) -> list[str]:
    """What is listed in words that do not depend on the order or the time."""
    flat = [own for link in listed for own in link.get("addr_info", [link])]
    left_out = {"valid_life_time", "preferred_life_time", "flags", "metrics", "tentative"}
    return sorted(
        json.dumps({key: value for key, value in one.items() if key not in left_out})
        for one in flat
    )


def test_another_configuration_leaves_nothing_of_the_first(host: Host, device: TunDevice) -> None:
    before = settings(device, **FULL)  # type: ignore[arg-type]  # as FULL has them
    wanted = settings(
        device,
        addresses=["10.1.2.2/24", "2001:db8:1::1/64"],
        routes=["20.1.3.0/24", "20.1.4.0/24"],
        link_local="fe80::5efe:c000:201/64",
        mtu=1410,
    )
    configure(host, before)
    for promotes in ("0", "1"):
        host.sysctl("net.ipv4.conf.t1.promote_secondaries", promotes)
        configure(host, before, wanted)
        assert is_whole(host, before)
        assert configure(host, wanted, before) == []
        assert is_whole(host, wanted)
        shows = host.ip("addr", "show", "dev", "t1") + host.ip("route", "show", "dev", "t1")
        assert "10.1.2.1" not in shows
        assert "169.254" not in shows
        assert "20.1.4.0" in shows
        assert "20.1.3.0" in shows
        assert "2001:db8:2::" not in host.ip("-6", "route", "show", "dev", "t1")


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
        new = Actual(up=False, mtu=1500)
        work = [(one, changes(one, new)) for one in wanted]
        refused = host.inside(lambda: Netlink().change(work))
        texts = [next(map(str, refusals.values()), "") for refusals in refused]
        assert texts[0] == texts[4] == ""
        assert texts[1].startswith("gred.conf:9: cannot add route 20.1.3.0/24: File exists")
        assert "cannot set MTU 1400: No such device" in texts[2]
        assert "cannot speak to the kernel over netlink: No such file" in texts[3]
        assert [entry["dst"] for entry in shown(host, "route", "show", "dev", "t2")] == [
            "10.1.4.0/24"
        ]


def test_an_mtu_the_kernel_refuses_is_said_in_its_words(host: Host, device: TunDevice) -> None:
    text = refusal(host, settings(device, mtu=40))
    assert "cannot set MTU 40: mtu less than device minimum" in text


def test_more_orders_than_one_chunk_are_all_answered(host: Host, device: TunDevice) -> None:
    routes = [f"20.{number // 256}.{number % 256}.0/24" for number in range(500)]
    configure(host, settings(device, routes=routes))
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
        wanted = [replace(settings(device), mtu=mtu) for device, mtu in ((one, 1300), (two, 1301))]
        work = [(each, [SetMtu(each.mtu)]) for each in wanted]
        assert host.inside(lambda: Netlink().change(work)) == [{}, {}]
        assert [shown(host, "link", "show", name)[0]["mtu"] for name in ("t1", "t2")] == [
            1300,
            1301,
        ]
        lost = replace(wanted[0], index=99999)
        work = [(lost, [SetMtu(1300)]), (wanted[0], [SetMtu(1302)])]
        refused = host.inside(lambda: Netlink().change(work))
        assert [len(one) for one in refused] == [1, 0]
        assert "cannot set MTU 1300" in str(refused[0][SetMtu(1300)])
        assert shown(host, "link", "show", "t1")[0]["mtu"] == 1302


ENDS = {4: ("192.0.2.77", "198.51.100.0/24"), 6: ("2001:db8::77", "2001:db8:9::/48")}


def given(host: Host, version: int) -> set[MtuRoute]:
    return set(host.inside(lambda: Netlink().mtu_routes(version)))


def mtus(host: Host, *destinations: str, source: str | None = None) -> list[int | None]:
    own = None if source is None else ip_address(source)
    queries = [RouteQuery(ip_address(destination), own) for destination in destinations]
    return host.inside(lambda: Netlink().route_mtus(queries))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("lock", [False, True], ids=["mtu", "locked"])
def test_routes_that_were_given_an_mtu_are_found_and_what_they_say(
    host: Host, version: int, lock: bool
) -> None:
    gateway, network = ENDS[version]
    inside = str(ip_network(network)[7])
    for number in range(300):  # more than one datagram lists
        other = f"198.18.{number >> 8}.{number & 255}" if version == 4 else f"2001:db8:7::{number}"
        host.ip("route", "add", other, "via", gateway, "advmss", "1300")
    assert given(host, version) == set()
    assert mtus(host, inside, gateway) == [None, None]
    kind = ("mtu", "lock", "1400") if lock else ("mtu", "1400")
    host.ip("route", "add", network, "via", gateway, *kind)
    host.ip("route", "add", network, "via", gateway, "mtu", "1300", "table", "77")
    parsed = ip_network(network)
    place = parsed.network_address.packed, parsed.prefixlen
    assert given(host, version) == {MtuRoute(*place, 1400), MtuRoute(*place, 1300)}
    own = (LOCAL, "2001:db8::1")[version == 6]
    assert mtus(host, inside, gateway) == [1400, None]
    assert mtus(host, inside, gateway, source=own) == [1400, None]
    host.ip("route", "del", network)
    assert given(host, version) == {MtuRoute(*place, 1300)}


def test_a_host_without_a_route_has_no_mtu_for_it(host: Host) -> None:
    assert mtus(host, "203.0.113.9", REMOTE) == [None, None]
