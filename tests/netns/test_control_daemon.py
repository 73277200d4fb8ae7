"""The daemon with real devices, a real data plane and a kernel that changes under it."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import TYPE_CHECKING, Literal

import pytest
import uvloop

from gred.config.model import TunnelConfig
from gred.control.daemon import Daemon, Parts
from gred.control.errors import ExitCode
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import Device, DeviceMode
from gred.control.tunnel import TunnelState
from gred.dataplane.tun import TunDevice
from gred.lab.hosts import UNDERLAY, Host, Lab
from tests import require
from tests.control.fakes import configuration, tunnel
from tests.waiting import until

if TYPE_CHECKING:
    from gred.control.events import Event

LOCAL, REMOTE, OTHER_REMOTE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
Inside = Callable[[Coroutine[None, None, None]], None]


@pytest.fixture
def lab() -> Iterator[Lab]:
    require.root()
    require.tun()
    require.program("ip", package="iproute2")
    with Lab("gredctl") as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    """A host with one wire, and 192.0.2.1/24 on it."""
    left, right = lab.host("left"), lab.host("right")
    lab.wire(left, right)
    left.address(f"{LOCAL}/24")
    left.address("2001:db8::1/64")
    return left


@pytest.fixture(params=["asyncio", "uvloop"])
def inside(request: pytest.FixtureRequest, host: Host) -> Inside:
    """Run a coroutine on a loop that lives in the host's namespace."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_in_namespace(coroutine: Coroutine[None, None, None]) -> None:
        bugs: list[dict[str, object]] = []

        def run() -> None:
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.get_loop().set_exception_handler(lambda _loop, bug: bugs.append(bug))
                runner.run(coroutine)

        host.inside(run)
        assert not bugs

    return run_in_namespace


class Watched(Daemon):
    """A daemon that keeps its events."""

    def __init__(self, *tunnels: TunnelConfig, parts: Parts | None = None) -> None:
        self.events: list[Event] = []
        loop = asyncio.get_running_loop()
        super().__init__(configuration(*tunnels), loop, listener=self.events.append, parts=parts)

    async def reaches(self, state: TunnelState, name: str = "t1") -> None:
        await until(lambda: self.tunnels[name].state is state)

    def names(self) -> list[str]:
        names = [event.name for event in self.events]
        self.events.clear()
        return names


@asynccontextmanager
async def running(*tunnels: TunnelConfig, parts: Parts | None = None) -> AsyncIterator[Watched]:
    daemon = Watched(*tunnels, parts=parts)
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.stop()


def interfaces(host: Host) -> set[str]:
    return set(host.inside(Netlink().links).values())


def test_what_was_made_is_gone_after_stop(host: Host, inside: Inside) -> None:
    before = interfaces(host)
    routes = host.ip("route", "show", "table", "all")

    async def scenario() -> None:
        one = tunnel("t1", addresses=["10.1.2.1/24", "2001:db8:1::1/64"], routes=["20.1.3.0/24"])
        async with running(one, tunnel("t2", remote=OTHER_REMOTE)) as daemon:
            assert daemon.status() == "2 tunnels: 2 up"
            assert interfaces(host) == before | {"t1", "t2"}
            assert daemon.facts()["codec"] in {"c", "python"}
            assert set(dict(daemon.counters())) == {None, "t1", "t2"}

    inside(scenario())
    assert interfaces(host) == before
    assert host.ip("route", "show", "table", "all") == routes


@pytest.mark.parametrize("mode", ["gre", "gretap"])
def test_the_interface_says_that_it_is_up(
    host: Host, inside: Inside, mode: Literal["gre", "gretap"]
) -> None:
    """Not UNKNOWN, which others take for down."""

    async def scenario() -> None:
        async with running(replace(tunnel(), mode=mode)):
            assert json.loads(host.ip("-json", "link", "show", "t1"))[0]["operstate"] == "UP"

    inside(scenario())


def test_a_route_into_the_tunnel_blocks_until_it_goes(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel()) as daemon:
            daemon.names()
            host.ip("route", "add", REMOTE, "dev", "t1")
            await daemon.reaches(TunnelState.LOOP)
            host.ip("route", "del", REMOTE)
            await daemon.reaches(TunnelState.UP)
            assert daemon.names() == ["tunnel_loop", "tunnel_up"]

    inside(scenario())


def test_an_address_that_covers_the_remote_starts_blocked(inside: Inside) -> None:
    async def scenario() -> None:
        config = tunnel(local=None, remote="198.51.100.7", addresses=["198.51.100.1/24"])
        async with running(config) as daemon:
            assert daemon.names() == ["tunnel_loop"]
            assert daemon.tunnels["t1"].mtu == 1476

    inside(scenario())


def test_two_tunnels_that_carry_each_other_are_blocked(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE)) as daemon:
            host.ip("route", "add", REMOTE, "dev", "t2")
            await until(lambda: daemon.tunnels["t1"].mtu == 1452)  # a tunnel in a tunnel is fine
            assert daemon.status() == "2 tunnels: 2 up"
            host.ip("route", "add", OTHER_REMOTE, "dev", "t1")
            await until(lambda: daemon.status() == "2 tunnels: 2 loop")
            host.ip("route", "del", REMOTE)
            await until(lambda: daemon.status() == "2 tunnels: 2 up")

    inside(scenario())


def test_a_rule_for_gre_that_breaks_the_loop_is_respected(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel()) as daemon:
            host.ip("route", "add", REMOTE, "dev", "t1")
            await daemon.reaches(TunnelState.LOOP)
            host.ip("route", "add", REMOTE, "dev", UNDERLAY, "table", "100")
            host.ip("rule", "add", "ipproto", "47", "lookup", "100")
            await daemon.reaches(TunnelState.UP)

    inside(scenario())


def test_no_route_is_told_and_recovers(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel()) as daemon:
            daemon.names()
            host.ip("route", "add", "unreachable", REMOTE)
            await daemon.reaches(TunnelState.NO_ROUTE)
            host.ip("route", "del", REMOTE)
            await daemon.reaches(TunnelState.UP)
            assert daemon.names() == ["tunnel_no_route", "tunnel_up"]

    inside(scenario())


def test_the_mtu_follows_device_and_route(host: Host, inside: Inside) -> None:
    def has_mtu(mtu: int) -> Callable[[], bool]:
        return lambda: f" mtu {mtu} " in host.ip("link", "show", "dev", "t1")

    async def scenario() -> None:
        async with running(tunnel(output_key=1), tunnel("t2", remote=OTHER_REMOTE, mtu=1400)):
            assert has_mtu(1472)()
            host.ip("link", "set", UNDERLAY, "mtu", "1450")
            await until(has_mtu(1422))
            host.ip("route", "add", REMOTE, "dev", UNDERLAY, "mtu", "1300")
            await until(has_mtu(1272))
            assert " mtu 1400 " in host.ip("link", "show", "dev", "t2")

    inside(scenario())


def test_the_local_address_may_go_and_come_back(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel()) as daemon:
            daemon.names()
            host.ip("addr", "del", f"{LOCAL}/24", "dev", UNDERLAY)
            await daemon.reaches(TunnelState.NO_LOCAL)
            host.address(f"{LOCAL}/24")
            await daemon.reaches(TunnelState.UP)
            names = daemon.names()
            assert (names[0], names[-1]) == ("tunnel_no_local", "tunnel_up")

    inside(scenario())


def test_the_wire_may_go_down_and_up(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel(local=None)) as daemon:
            host.ip("link", "set", UNDERLAY, "down")
            await daemon.reaches(TunnelState.NO_ROUTE)
            host.ip("link", "set", UNDERLAY, "up")
            await daemon.reaches(TunnelState.UP)

    inside(scenario())


def test_a_deleted_interface_is_made_again(host: Host, inside: Inside) -> None:
    async def scenario() -> None:
        async with running(tunnel(addresses=["10.1.2.1/24"])) as daemon:
            first = daemon.tunnels["t1"].device
            daemon.names()
            host.ip("link", "del", "t1")
            await until(
                lambda: (
                    daemon.tunnels["t1"].device not in {None, first}
                    and daemon.tunnels["t1"].state is TunnelState.UP
                )
            )
            assert daemon.names() == ["interface_deleted", "tunnel_up"]
            assert "10.1.2.1/24" in host.ip("addr", "show", "dev", "t1")

    inside(scenario())


def test_an_interface_may_live_in_another_namespace(host: Host, lab: Lab, inside: Inside) -> None:
    """Underlay here, overlay there: as with the kernel's tunnels."""
    other = lab.host("other")

    async def scenario() -> None:
        async with running(tunnel()) as daemon:
            host.ip("link", "set", "t1", "netns", other.namespace)
            host.ip("route", "add", "unreachable", REMOTE)
            await daemon.reaches(TunnelState.NO_ROUTE)
            host.ip("route", "del", REMOTE)
            await daemon.reaches(TunnelState.UP)
            assert "interface_deleted" not in daemon.names()
            assert "t1" in interfaces(other)

    inside(scenario())
    assert "t1" not in interfaces(other)


@pytest.mark.parametrize("kind", ["bridge", "tun"])
def test_a_taken_name_is_waited_for_and_the_other_interface_stays(
    host: Host, inside: Inside, kind: str
) -> None:
    if kind == "tun":
        host.ip("tuntap", "add", "dev", "t2", "mode", "tun")
    else:
        host.ip("link", "add", "t2", "type", "bridge")
    before = interfaces(host)

    async def scenario() -> None:
        async with running(tunnel("t1"), tunnel("t2", remote=OTHER_REMOTE)) as daemon:
            assert daemon.status() == "2 tunnels: 1 down, 1 up"
            assert "the name is taken" in daemon.tunnels["t2"].detail
            assert interfaces(host) == before | {"t1"}
            host.ip("link", "del", "t2")
            await daemon.reaches(TunnelState.UP, "t2")
            assert daemon.names() == ["tunnel_down", "tunnel_up", "tunnel_up"]

    inside(scenario())
    assert interfaces(host) == before - {"t2"}


def test_a_route_that_another_has_is_waited_for(host: Host, inside: Inside) -> None:
    before = interfaces(host)
    host.ip("route", "add", "20.1.3.0/24", "dev", UNDERLAY)

    async def scenario() -> None:
        other = tunnel("t2", remote=OTHER_REMOTE, routes=["20.1.3.0/24"])
        async with running(tunnel("t1"), other) as daemon:
            assert daemon.status() == "2 tunnels: 1 down, 1 up"
            assert "cannot add route 20.1.3.0/24" in daemon.tunnels["t2"].detail
            assert interfaces(host) == before | {"t1"}
            host.ip("route", "del", "20.1.3.0/24")
            await daemon.reaches(TunnelState.UP, "t2")

    inside(scenario())
    assert interfaces(host) == before


def test_a_thousand_interfaces_are_gone_before_the_first_descriptor_is_closed(
    host: Host, inside: Inside
) -> None:
    """Closing them one by one takes 20 ms each: a stop of 20 seconds."""
    before = interfaces(host)
    left_at_close: list[int] = []

    class Closing:
        """A device that looks around when it is closed."""

        def __init__(self, device: TunDevice) -> None:
            self._device = device

        def __getattr__(self, name: str) -> object:
            return getattr(self._device, name)

        def close(self) -> None:
            if not left_at_close:
                left_at_close.append(len(interfaces(host) - before))
            self._device.close()

    def open_device(name: str, *, offload: bool, mode: DeviceMode, namespace: str | None) -> Device:
        return Closing(TunDevice.open(name, offload=offload, mode=mode))  # type: ignore[return-value]  # __getattr__ has the rest

    tunnels = [
        tunnel(
            f"t{number}",
            remote=str(ip_address("198.51.0.0") + number),
            addresses=[str(ip_interface(f"10.{number // 250}.{number % 250}.1/30"))],
        )
        for number in range(1000)
    ]

    async def scenario() -> None:
        host.ip("route", "add", "198.51.0.0/16", "via", REMOTE)
        parts = Parts(kernel=Netlink(), open_device=open_device)
        async with running(*tunnels, parts=parts) as daemon:
            assert daemon.status() == "1000 tunnels: 1000 up"
            assert len(interfaces(host) - before) == 1000

    inside(scenario())
    assert left_at_close == [0]
    assert interfaces(host) == before


CHILD = """
import asyncio, sys
from gred.control.daemon import Daemon
from gred.control.errors import SetupError
from tests.control.fakes import configuration, tunnel

async def main():
    config = configuration(tunnel("t1", addresses=["10.1.2.1/24"], routes=["20.1.3.0/24"]))
    daemon = Daemon(config, asyncio.get_running_loop(), listener=lambda event: None)
    try:
        await daemon.start()
    except SetupError as error:
        print(error, flush=True)
        sys.exit(error.exit_code)
    print("up", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_start_after_kill_9_works(lab: Lab, host: Host) -> None:
    before = interfaces(host)
    for _ in range(2):
        child = host.start([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
        assert child.stdout is not None
        with child.stdout:
            assert child.stdout.readline() == b"up\n"
        assert interfaces(host) == before | {"t1"}
        lab.stop(child, signal.SIGKILL)
        assert interfaces(host) == before


@pytest.mark.parametrize("capability", ["net_admin", "net_raw"])
def test_a_missing_capability_is_named(host: Host, capability: str) -> None:
    require.program("setpriv", package="util-linux")
    before = interfaces(host)
    child = host.start(
        ["setpriv", f"--bounding-set=-{capability}", sys.executable, "-c", CHILD],
        stdout=subprocess.PIPE,
    )
    said, _ = child.communicate(timeout=60)
    assert f"gred needs CAP_{capability.upper()}" in said.decode()
    assert child.returncode == ExitCode.NO_PERMISSION
    assert interfaces(host) == before
