"""One tunnel's trouble is that tunnel's, with real devices and a real kernel: at the start and
while running; and it comes up by itself when the cause is gone."""

import asyncio
import itertools
import os
import resource
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from gred.config.model import TunnelConfig
from gred.control.tunnel import TunnelState
from gred.dataplane.descriptors import FOR_SOCKETS, RESERVE
from gred.lab.hosts import UNDERLAY, Host, Lab
from gred.wire.drop import DropReason
from tests import require
from tests.control.fakes import tunnel
from tests.netns.test_control_daemon import (
    LOCAL,
    OTHER_REMOTE,
    REMOTE,
    Watched,
    interfaces,
    running,
)
from tests.waiting import until

Scenario = Callable[[], Coroutine[None, None, None]]
GROUPS = {4: ("239.1.2.3", LOCAL), 6: ("ff05::1:3", "2001:db8::1")}


@pytest.fixture
def lab() -> Iterator[Lab]:
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    with Lab("gredone") as lab:
        yield lab


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    left, right = lab.host("left"), lab.host("right")
    lab.wire(left, right)
    left.address(f"{LOCAL}/24")
    left.address("2001:db8::1/64")
    right.address(f"{REMOTE}/24")
    right.address("2001:db8::2/64")
    return left, right


@pytest.fixture
def host(hosts: tuple[Host, Host]) -> Host:
    return hosts[0]


def play(host: Host, scenario: Scenario) -> None:
    """Run *scenario* on *host*; a bug that the loop is told of fails the test."""
    bugs: list[dict[str, object]] = []

    def run() -> None:
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(lambda _loop, bug: bugs.append(bug))
            runner.run(scenario())

    host.inside(run)
    assert not bugs


WELL = tunnel("well", remote=OTHER_REMOTE)


def check_others(daemon: Watched, attachment: object) -> None:
    """What was well has not noticed."""
    assert daemon.tunnels["well"].state is TunnelState.UP
    assert daemon.tunnels["well"].attachment is attachment
    told = [event.name for event in daemon.events if event.tunnel == "well"]
    assert told == ["tunnel_up"]


async def is_down(daemon: Watched, name: str, reason: str) -> None:
    await until(lambda: reason in daemon.tunnels[name].detail)
    assert daemon.tunnels[name].state is TunnelState.DOWN


def test_ipv6_switched_off_downs_only_who_needs_it(host: Host) -> None:
    host.sysctl("net.ipv6.conf.default.disable_ipv6", "1")

    async def scenario() -> None:
        async with running(tunnel("ill", addresses=["2001:db8:1::1/64"]), WELL) as daemon:
            attachment = daemon.tunnels["well"].attachment
            await is_down(daemon, "ill", "disable_ipv6=0")
            assert "ill" not in interfaces(host)
            host.sysctl("net.ipv6.conf.default.disable_ipv6", "0")
            await daemon.reaches(TunnelState.UP, "ill")
            check_others(daemon, attachment)

    play(host, scenario)


def group_tunnel(version: int, **fields: object) -> TunnelConfig:
    group, local = GROUPS[version]
    return replace(tunnel("ill", local=local, remote=group), **fields)  # type: ignore[arg-type]  # as the caller means it


def joined(host: Host, device: str, group: str) -> bool:
    return group in host.ip("maddr", "show", "dev", device)


@pytest.mark.parametrize("version", [4, 6])
def test_a_device_may_come_go_and_be_renamed_under_a_group(host: Host, version: int) -> None:
    group = GROUPS[version][0]

    def make() -> None:
        host.ip("link", "add", "wire7", "type", "veth", "peer", "name", "peer7")
        host.ip("link", "set", "peer7", "up")
        host.ip("link", "set", "wire7", "up")

    async def scenario() -> None:
        local = None if version == 4 else GROUPS[6][1]
        config = replace(tunnel("ill", local=local, remote=group), underlay_device="wire7")
        async with running(config, WELL) as daemon:
            attachment = daemon.tunnels["well"].attachment
            assert daemon.tunnels["ill"].state is not TunnelState.UP
            assert "no interface wire7" in daemon.tunnels["ill"].detail
            make()
            await until(lambda: joined(host, "wire7", group))
            await daemon.reaches(TunnelState.UP, "ill")
            host.ip("link", "del", "wire7")
            await until(lambda: "no interface wire7" in daemon.tunnels["ill"].detail)
            make()
            await until(lambda: joined(host, "wire7", group))
            host.ip("link", "set", "wire7", "down")
            host.ip("link", "set", "wire7", "name", "wire8")
            await until(lambda: "no interface wire7" in daemon.tunnels["ill"].detail)
            await until(lambda: not joined(host, "wire8", group))
            host.ip("link", "set", "wire8", "name", "wire7")
            host.ip("link", "set", "wire7", "up")
            await until(lambda: joined(host, "wire7", group))
            await daemon.reaches(TunnelState.UP, "ill")
            assert "interface_deleted" not in [event.name for event in daemon.events]
            check_others(daemon, attachment)

    play(host, scenario)


@pytest.mark.parametrize("version", [4, 6])
def test_a_group_without_a_device_of_its_own_follows_its_route(host: Host, version: int) -> None:
    """The kernel has taken the membership along with the device: it is to be joined anew."""
    group, _local = GROUPS[version]
    net, address = ("239.0.0.0/8", "10.7.7.7/24") if version == 4 else ("ff05::/16", "fd07::7/64")

    def make() -> None:
        host.ip("link", "add", "wire7", "type", "veth", "peer", "name", "peer7")
        host.ip("link", "set", "peer7", "up")
        host.ip("link", "set", "wire7", "up")
        host.ip("addr", "add", address, "dev", "wire7", *(["nodad"] if version == 6 else []))
        if version == 4:
            host.ip("route", "add", net, "dev", "wire7")
        else:
            route = ("route", "add", "multicast", net, "dev", "wire7", "table", "local")
            host.ip("-6", *route, "metric", "1")

    make()

    async def scenario() -> None:
        own = address.split("/")[0]
        async with running(tunnel("ill", local=own, remote=group), WELL) as daemon:
            attachment = daemon.tunnels["well"].attachment
            assert joined(host, "wire7", group)
            host.ip("link", "del", "wire7")
            await daemon.reaches(TunnelState.NO_LOCAL, "ill")
            make()
            await until(lambda: joined(host, "wire7", group))
            await daemon.reaches(TunnelState.UP, "ill")
            check_others(daemon, attachment)

    play(host, scenario)


def test_more_groups_than_one_socket_may_join(hosts: tuple[Host, Host]) -> None:
    """Each packet arrives once, at its own tunnel, and those to other addresses once as well."""
    left, right = hosts
    left.sysctl("net.ipv4.igmp_max_memberships", "3")
    groups = {f"g{number}": f"239.1.2.{number}" for number in range(1, 9)}
    gre = bytes((0, 0, 8, 0)) + bytes((0x45, 0, 0, 20)) + bytes(16)

    def send(destination: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, 47) as sender:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(REMOTE))
            sender.sendto(gre, (destination, 0))

    async def scenario() -> None:
        tunnels = [tunnel(name, local=LOCAL, remote=group) for name, group in groups.items()]
        configs = [replace(one, input_key=None) for one in (*tunnels, tunnel("well"))]
        async with running(*configs) as daemon:
            assert daemon.status() == "9 tunnels: 9 up"

            def received() -> dict[str | None, int]:
                return {name: seen.rx_packets for name, seen in daemon.counters()}

            for count in (1, 2):
                for destination in (*groups.values(), LOCAL):
                    right.inside(lambda destination=destination: send(destination))  # type: ignore[misc]  # mypy cannot infer the default argument
                await until(lambda count=count: min(list(received().values())[1:]) == count)  # type: ignore[misc]
            right.inside(lambda: send("239.1.2.99"))  # nobody's group
            right.inside(lambda: send(LOCAL))
            await until(lambda: received()["well"] == 3)
            expected: dict[str | None, int] = {None: 0, "well": 3}
            assert received() == expected | dict.fromkeys(groups, 2)
            assert not dict(daemon.counters())[None].rx_drops.get(DropReason.NO_TUNNEL)
            await daemon.remove_tunnel("g1")
            assert not joined(left, UNDERLAY, "239.1.2.1 ")
            await daemon.remove_tunnel("g8")
            assert not joined(left, UNDERLAY, "239.1.2.8")

    play(left, scenario)


def test_a_limit_that_lets_nobody_join_downs_only_who_wants_to(host: Host) -> None:
    host.sysctl("net.ipv4.igmp_max_memberships", "0")

    async def scenario() -> None:
        async with running(group_tunnel(4), WELL) as daemon:
            attachment = daemon.tunnels["well"].attachment
            await is_down(daemon, "ill", "cannot join group 239.1.2.3: No buffer space")
            assert "ill" not in interfaces(host)
            host.sysctl("net.ipv4.igmp_max_memberships", "20")
            await daemon.reaches(TunnelState.UP, "ill")
            assert joined(host, UNDERLAY, "239.1.2.3")
            check_others(daemon, attachment)

    play(host, scenario)


def test_a_namespace_that_is_deleted_and_made_again_gets_its_interface_again(
    lab: Lab, host: Host
) -> None:
    inner = lab.host("inner")

    async def scenario() -> None:
        async with running(replace(tunnel("ill"), namespace=inner.namespace), WELL) as daemon:
            attachment = daemon.tunnels["well"].attachment
            assert "ill" in interfaces(inner)
            for _ in range(2):
                lab.ip("netns", "delete", inner.namespace)
                await is_down(daemon, "ill", "there is no network namespace")
                lab.ip("netns", "add", inner.namespace)
                await daemon.reaches(TunnelState.UP, "ill")
                assert "ill" in interfaces(inner)
            check_others(daemon, attachment)

    play(host, scenario)


@contextmanager
def descriptors(spare: int) -> Iterator[None]:
    """Let this process open *spare* more than it keeps in reserve."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = {int(number) for number in os.listdir("/proc/self/fd")}  # noqa: PTH208 - numbers
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None)) + RESERVE + FOR_SOCKETS
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_full_table_of_descriptors_downs_those_that_do_not_fit(host: Host) -> None:
    before = interfaces(host)
    tunnels = [tunnel(f"t{number}", output_key=number) for number in range(40)]

    async def scenario() -> None:
        with descriptors(30):
            daemon = Watched(*tunnels)
            await daemon.start()
            up = [one for one in daemon.tunnels.values() if one.state is TunnelState.UP]
            down = [one for one in daemon.tunnels.values() if one.state is TunnelState.DOWN]
            assert len(up) + len(down) == len(tunnels)
            assert up
            assert down
            assert all("LimitNOFILE=" in one.detail for one in down)
            assert len(interfaces(host) - before) == len(up)
            # What runs is still looked after.
            host.ip("route", "add", "unreachable", REMOTE)
            await until(lambda: all(one.state is TunnelState.NO_ROUTE for one in up))
        host.ip("route", "del", REMOTE)
        await until(lambda: daemon.status() == "40 tunnels: 40 up")
        await daemon.stop()

    play(host, scenario)
    assert interfaces(host) == before


def test_all_down_is_no_end(host: Host) -> None:
    host.ip("link", "add", "ill", "type", "bridge")

    async def scenario() -> None:
        async with running(tunnel("ill")) as daemon:
            assert daemon.status() == "1 tunnel: 1 down"
            host.ip("link", "set", "ill", "name", "other")
            await daemon.reaches(TunnelState.UP, "ill")

    play(host, scenario)
