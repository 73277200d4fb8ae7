"""A kernel, devices, a data plane and a monitor that live in memory and remember what was asked."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING
from zlib import crc32

from gred.config.model import Config, DaemonConfig, IPAddress, IPInterface, Location, TunnelConfig
from gred.control.daemon import Daemon, Parts, Reporter, Trace
from gred.control.events import Event
from gred.control.kernel.changes import Change, SetMtu
from gred.control.kernel.namespaces import NamespaceError
from gred.control.kernel.parts import Actual, Device, DeviceMode, InterfaceSettings, Refusals
from gred.control.kernel.routes import (
    Delivery,
    Drop,
    Hop,
    MtuRoute,
    NoRoute,
    Route,
    RouteInfo,
    RouteQuery,
)
from gred.control.kernel.xfrm import Policy, Tables
from gred.control.parts import Attachment
from gred.control.store import Store
from gred.dataplane.punt import Punted
from gred.dataplane.receivers import Taken
from gred.dataplane.trace import Tap
from gred.dataplane.traffic import LastError, Traffic
from gred.dataplane.tunnels import Counters, TunnelParameters
from gred.wire.drop import DropReason
from tests.control.model import Interface
from tests.waiting import until

if TYPE_CHECKING:
    from gred.control.errors import SetupError

WIRE = 2  # the index of the interface that leads to the remotes
LOCAL, REMOTE, OTHER_REMOTE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def tunnel(
    name: str = "t1",
    *,
    local: str | None = LOCAL,
    remote: str | None = REMOTE,
    addresses: Sequence[str] = (),
    routes: Sequence[str] = (),
    output_key: int | None = None,
    output_checksum: bool = False,
    output_sequence: bool = False,
    mtu: int | None = None,
) -> TunnelConfig:
    """Return a tunnel. All but t1 have an input key of their own: no packet is for two of them."""
    return TunnelConfig(
        name=name,
        location=Location("gred.conf", 7),
        local=None if local is None else ip_address(local),
        remote=None if remote is None else ip_address(remote),
        addresses=tuple(map(ip_interface, addresses)),
        routes=tuple(map(ip_network, routes)),
        input_key=None if name == "t1" else crc32(name.encode()),
        output_key=output_key,
        output_checksum=output_checksum,
        output_sequence=output_sequence,
        mtu=mtu,
    )


def configuration(*tunnels: TunnelConfig) -> Config:
    return Config(daemon=DaemonConfig(), tunnels=tunnels)


class FakeDevice:
    offload = "none (fake)"
    adopted = False
    was_running = False

    def __init__(
        self,
        kernel: "FakeKernel",
        name: str,
        index: int,
        mode: DeviceMode = "tun",
        namespace: str | None = None,
    ) -> None:
        self.name = name
        self.mode = mode
        self.namespace = namespace
        self.index = index
        self.closed = False
        self.carrier = True
        self._kernel = kernel

    def fileno(self) -> int:
        return 1000 + self.index

    def set_carrier(self, up: bool) -> None:
        self.carrier = up

    def close(self) -> None:
        assert not self.closed, "one closer, once"
        self.closed = True
        for interfaces in (self._kernel.interfaces, *self._kernel.namespaces.values()):
            interfaces.pop(self.index, None)


class FakeKernel:
    """Interfaces, routes and addresses. Routes are looked up by destination alone."""

    def __init__(self) -> None:
        self.interfaces = {1: "lo", WIRE: "eth0"}
        self.elsewhere: set[int] = set()
        self.namespaces: dict[str, dict[int, str]] = {}
        self.given: dict[int, list[IPAddress]] = {}
        self.in_vrf: dict[int, set[IPAddress]] = {}
        self.states = {WIRE: Interface(up=True)}
        self.addresses = {ip_address(LOCAL)}
        self.inner = set[IPAddress]()
        """What is delivered to this host itself."""
        self.routes: dict[IPAddress, Route] = {}
        self.with_mtu: list[MtuRoute] = []
        self.drops: dict[int, Drop] = {}
        self.hops: dict[IPAddress, Hop] = {}  # destination -> whom packets are handed to
        self.route_mtu: dict[IPAddress, int] = {}
        self.listed = 0
        self.looked_up: list[RouteQuery] = []
        self.gre_rules: set[int] = set()
        self.transmit_drops_of: dict[int, int] = {}
        self.filters: dict[int, str] = {}
        self.mtu_lifetime = 600.0
        self.tables = Tables()
        self.told: dict[IPAddress, int | OSError] = {}
        self.shields: dict[IPAddress, int] = {}
        self.settings: dict[int, InterfaceSettings] = {}
        self.devices: list[FakeDevice] = []
        self.managers: dict[str, str] = {}
        self.looked_at: list[str | None] = []
        self.refuses_settings: dict[str, SetupError] = {}
        self.refuses_mtus: dict[str, SetupError] = {}
        self.failures: dict[str, list[OSError]] = {}
        """What the next calls of a method raise, the last first."""
        self.on_link: dict[str, list[IPInterface]] = {}
        self.after_configuration: Callable[[], None] = lambda: None
        self.open_errors: dict[str, int] = {}
        self.asked: list[list[RouteQuery]] = []
        self.deletions: list[list[str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.holding = threading.Event()

    def open(
        self,
        name: str,
        *,
        offload: bool,
        mode: DeviceMode = "tun",
        namespace: str | None = None,
    ) -> FakeDevice:
        if name in self.open_errors:
            raise OSError(self.open_errors[name], os.strerror(self.open_errors[name]))
        if namespace is not None and namespace not in self.namespaces:
            raise NamespaceError(FileNotFoundError(errno.ENOENT, "No such file"), namespace)
        if name in (self.interfaces if namespace is None else self.namespaces[namespace]).values():
            raise OSError(errno.EBUSY, "Device or resource busy")
        self.holding.set()
        assert self.hold.wait(10)
        index = 10 + len(self.devices)
        device = FakeDevice(self, name, index, mode, namespace)
        self.devices.append(device)
        (self.interfaces if namespace is None else self.namespaces[namespace])[index] = name
        self.states[index] = Interface()
        return device

    def state(self, name: str) -> Interface:
        """Return the latest interface *name*."""
        return self.states[max(device.index for device in self.devices if device.name == name)]

    def route_into(self, destination: str, name: str) -> None:
        index = next(index for index, known in self.interfaces.items() if known == name)
        self.routes[ip_address(destination)] = RouteInfo(index, self.states[index].mtu)

    def route_outside(self, destination: str, mtu: int = 1500) -> None:
        self.routes[ip_address(destination)] = RouteInfo(WIRE, mtu)

    def no_route(self, destination: str) -> None:
        self.routes[ip_address(destination)] = NoRoute("Network is unreachable")

    # What control calls.

    def _fail(self, method: str) -> None:
        if self.failures.get(method):
            raise self.failures[method].pop()

    def links(self, namespace: str | None = None) -> dict[int, str]:
        self._fail("links")
        if namespace is None:
            return dict(self.interfaces)
        if namespace not in self.namespaces:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return dict(self.namespaces[namespace])

    def attached(self, device: Device) -> str | None:
        self._fail("attached")
        return device.name if device.index in self.elsewhere else None

    def local_addresses(self, addresses: Iterable[IPAddress], device: int = 0) -> set[IPAddress]:
        self._fail("local_addresses")
        known = self.in_vrf.get(device, set()) if device else self.addresses
        return known & set(addresses)

    def interface_addresses(self) -> dict[int, list[IPAddress]]:
        self._fail("interface_addresses")
        return self.given

    def networks(self, namespace: str | None = None) -> dict[str, list[IPInterface]]:
        return self.on_link

    def routes_to(
        self, queries: Sequence[RouteQuery | tuple[IPAddress, IPAddress | None]]
    ) -> list[Route]:
        self.asked.append([RouteQuery(*query) for query in queries])
        self._fail("routes_to")
        default = RouteInfo(WIRE, self.states[WIRE].mtu)
        return [self.routes.get(destination, default) for destination, *_rest in queries]

    def hop(self, query: RouteQuery) -> Hop | None:
        return self.hops.get(query.destination)

    def delivery(
        self, index: int, source: IPAddress, destination: IPAddress, namespace: str | None
    ) -> Delivery:
        drop = self.drops.get(index, "")
        return Delivery(drop, here=not drop and destination in self.inner)

    def mtu_routes(self, version: int) -> list[MtuRoute]:
        self.listed += 1
        self._fail("mtu_routes")
        return [route for route in self.with_mtu if len(route.network) == (4, 16)[version == 6]]

    def route_mtus(self, queries: Sequence[RouteQuery]) -> list[int | None]:
        self.looked_up += queries
        self._fail("route_mtus")
        return [self.route_mtu.get(query.destination) for query in queries]

    def versions_with_gre_rules(self) -> set[int]:
        self._fail("versions_with_gre_rules")
        return set(self.gre_rules)

    def filtered(self) -> dict[int, str]:
        self._fail("filtered")
        return dict(self.filters)

    def ipsec(self) -> Tables:
        self._fail("ipsec")
        own = [
            Policy(
                outbound=outbound,
                priority=0x67720000 | owner,
                source=ip_network(str(remote)) if not outbound else ip_network("0.0.0.0/0"),
                destination=ip_network(str(remote)) if outbound else ip_network("0.0.0.0/0"),
                protocol=47,
                device=0,
                blocks=True,
            )
            for remote, owner in self.shields.items()
            for outbound in (True, False)
        ]
        return replace(self.tables, policies=(*self.tables.policies, *own))

    def told_mtu(self, query: RouteQuery) -> int | OSError:
        return self.told.get(query.destination, PermissionError(errno.EPERM, "no"))

    def shield(self, remotes: Collection[IPAddress], owner: int) -> dict[IPAddress, OSError]:
        self._fail("shield")
        self.shields |= dict.fromkeys(remotes, owner & 0xFFFF)
        return {}

    def unshield(self, remotes: Collection[IPAddress]) -> dict[IPAddress, OSError]:
        for remote in remotes:
            del self.shields[remote]
        return {}

    def path_mtu_lifetime(self, _version: int) -> float:
        return self.mtu_lifetime

    def transmit_drops(self, _namespace: str | None = None) -> dict[int, int]:
        return dict(self.transmit_drops_of)

    def change(
        self, work: Sequence[tuple[InterfaceSettings, Sequence[Change]]], /
    ) -> list[Refusals]:
        found: list[Refusals] = []
        for settings, changes in work:
            self.settings[settings.index] = settings
            found.append(self._change(settings, changes))
        self.after_configuration()
        return found

    def _change(self, settings: InterfaceSettings, changes: Sequence[Change]) -> Refusals:
        refusals: dict[Change, SetupError] = {}
        for change in changes:
            if settings.name in self.refuses_settings:
                refused: SetupError | None = self.refuses_settings[settings.name]
            elif isinstance(change, SetMtu) and settings.name in self.refuses_mtus:
                refused = self.refuses_mtus[settings.name]
            else:
                refused = self.states[settings.index].change(settings.place, change)
            if refused is not None:
                refusals[change] = refused
        return refusals

    def actual(
        self, wanted: Sequence[InterfaceSettings], namespace: str | None
    ) -> dict[int, Actual]:
        self._fail("actual")
        self.looked_at.append(namespace)
        if namespace is not None and namespace not in self.namespaces:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        here = self.interfaces if namespace is None else self.namespaces[namespace]
        return {
            settings.index: self.states[settings.index].actual()
            for settings in wanted
            if settings.index in here
        }

    def manager(self, settings: InterfaceSettings) -> str:
        return self.managers.get(settings.name, "")

    def delete(self, devices: Sequence[Device]) -> None:
        self.deletions.append([device.name for device in devices])
        self._fail("delete")
        for device in devices:
            self.interfaces.pop(device.index, None)


@dataclass
class FakeAttachment:
    device: FakeDevice
    parameters: TunnelParameters
    blocked: DropReason | None = None
    removed: bool = False
    moved: Traffic = field(default_factory=Traffic)
    counted: Counters = field(default_factory=lambda: Counters(1, 2, 3, 4, {}, {}))
    last_error: LastError = field(default_factory=LastError)
    no_packet_socket: str = ""
    plane: "FakePlane | None" = None
    paths: dict[IPAddress, tuple[int | None, bool]] = field(default_factory=dict)
    awaited: AbstractSet[bytes] = frozenset()
    injected: list[tuple[int | None, bytes, IPAddress]] = field(default_factory=list)
    """Protocol type, or None for what was sent as it stood; the bytes; where to."""
    learned: list[IPAddress] = field(default_factory=list)
    resumed: tuple[int, list[int] | None] | None = None

    def learn(self, inner: IPAddress, remote: IPAddress, second: int, /) -> None:
        self.learned.append(remote)

    def sequence(self) -> tuple[int, list[int]]:
        return 0, []

    def resume(self, sequence: tuple[int, list[int] | None], /) -> None:
        self.resumed = sequence

    def limit_path(self, remote: IPAddress, path_mtu: int | None, *, fragmentable: bool) -> None:
        assert not self.removed
        self.paths[remote] = path_mtu, fragmentable

    def remotes(self) -> list[bytes]:
        peers = [remote for _network, remote in self.parameters.peers]
        return [remote.packed for remote in dict.fromkeys((*peers, *self.learned))]

    def learned_peers(self) -> Iterator[tuple[IPAddress, IPAddress, int]]:
        for number, remote in enumerate(self.learned, 1):
            yield ip_address(f"10.9.0.{number}"), remote, 0

    def update(self, parameters: TunnelParameters) -> None:
        assert not self.removed
        if self.plane is not None and self.device.name in self.plane.refuses_updates:
            raise self.plane.refuses_updates[self.device.name]
        self.parameters = parameters

    def block(self, reason: DropReason | None) -> None:
        self.blocked = reason

    def counters(self) -> Counters:
        return self.counted

    def traffic(self) -> Traffic:
        return self.moved


class FakeInject:
    def datagram(self, attachment: Attachment, data: bytes, /, *, remote: IPAddress) -> bool:
        assert isinstance(attachment, FakeAttachment)
        assert not attachment.removed
        attachment.injected.append((None, data, remote))
        return True

    def payload(
        self,
        attachment: Attachment,
        protocol_type: int,
        payload: bytes,
        /,
        *,
        remote: IPAddress,
        whole: bool = False,
    ) -> bool:
        assert isinstance(attachment, FakeAttachment)
        assert not attachment.removed
        attachment.injected.append((protocol_type, payload, remote))
        return True


class FakePunts:
    def __init__(self) -> None:
        self.takers: dict[DropReason, Callable[[Punted], None]] = {}

    def subscribe(self, reasons: Collection[DropReason], take: Callable[[Punted], None]) -> None:
        self.takers |= dict.fromkeys(reasons, take)


class FakePlane:
    def __init__(self, report: Reporter) -> None:
        self.attachments: list[FakeAttachment] = []
        self.inject = FakeInject()
        self.punts = FakePunts()
        self.tap = Tap()
        self.report = report
        self.others = False
        self.samples: list[tuple[Attachment, Callable[[bytes], None]]] = []
        self.others_take: list[Taken] = []
        self.closed = False
        self.store: Store | None = None
        self.receives = False
        self.refuses: dict[str, OSError | OverflowError] = {}
        self.refuses_updates: dict[str, OSError] = {}

    def use_store(self, store: Store, /) -> None:
        self.store = store

    def receive(self) -> None:
        self.receives = True

    def add_tunnel(self, device: Device, parameters: TunnelParameters) -> FakeAttachment:
        if device.name in self.refuses:
            raise self.refuses[device.name]
        assert isinstance(device, FakeDevice)
        attachment = FakeAttachment(device, parameters, plane=self)
        self.attachments.append(attachment)
        return attachment

    def remove_tunnel(self, attachment: Attachment) -> None:
        assert isinstance(attachment, FakeAttachment)
        assert not attachment.device.closed, "stop reading before closing"
        assert not attachment.removed
        attachment.removed = True

    def sample(self, attachment: Attachment, take: Callable[[bytes], None], /) -> None:
        self.samples.append((attachment, take))

    def others_receive(self, present: bool, what: Iterable[Taken], /) -> None:
        self.others, self.others_take = present, list(what)

    def unclaimed(self) -> Counters:
        return Counters(0, 0, 0, 0, {}, {DropReason.NO_TUNNEL: 5})

    def features(self) -> dict[str, str]:
        return {"codec": "fake"}

    def close(self) -> None:
        assert not self.closed
        self.closed = True

    def attachment(self, name: str) -> FakeAttachment:
        """Return the latest attachment of *name*."""
        return next(
            attachment
            for attachment in reversed(self.attachments)
            if attachment.device.name == name
        )


@dataclass
class FakeMonitor:
    fire: Callable[[], None]
    opened: bool = False
    everywhere: bool = False
    closed: bool = False

    def open(self) -> None:
        self.opened = True

    def listen_everywhere(self) -> None:
        self.everywhere = True

    def close(self) -> None:
        self.closed = True


class FakeResolver:
    """Answers of the moment. *held*: a question that nobody answers until it is set."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str] | OSError] = {}
        self.asked: list[tuple[str, int]] = []
        self.held: asyncio.Event | None = None

    async def resolve(self, host: str, version: int) -> list[IPAddress]:
        self.asked.append((host, version))
        if self.held is not None:
            await self.held.wait()
        answer = self.answers.get(host, [])
        if isinstance(answer, OSError):
            raise answer
        found = map(ip_address, answer)
        return [address for address in found if version in {0, address.version}]


@dataclass
class House:
    """A daemon among fakes. Made on a running loop."""

    tunnels: tuple[TunnelConfig, ...] = ()
    kernel: FakeKernel = field(default_factory=FakeKernel)
    events: list[Event] = field(default_factory=list)
    resolver: FakeResolver = field(default_factory=FakeResolver)

    def __post_init__(self) -> None:
        self.daemon = Daemon(
            configuration(*self.tunnels),
            asyncio.get_running_loop(),
            listener=self.events.append,
            parts=Parts(
                kernel=self.kernel,
                open_device=self.kernel.open,
                make_plane=self._make_plane,
                make_monitor=self._make_monitor,
                resolve=self.resolver.resolve,
            ),
        )

    def _make_plane(
        self, loop: asyncio.AbstractEventLoop, trace: Trace | None, report: Reporter
    ) -> FakePlane:
        self.plane = FakePlane(report)
        return self.plane

    def _make_monitor(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
    ) -> FakeMonitor:
        self.monitor = FakeMonitor(changed)
        return self.monitor

    def names(self) -> list[str]:
        """Return the names of all events since the last time, in order."""
        names = [event.name for event in self.events]
        self.events.clear()
        return names

    def only_these_are_left(self, names: set[str]) -> bool:
        """Whether the interfaces, open devices and attachments are those of *names*, one each."""
        interfaces = [self.kernel.interfaces, *self.kernel.namespaces.values()]
        found = [name for names in interfaces for name in names.values()]
        devices = [device.name for device in self.kernel.devices if not device.closed]
        attachments = [
            attachment.device.name
            for attachment in self.plane.attachments
            if not attachment.removed
        ]
        return sorted(found) == sorted(["lo", "eth0", *names]) and sorted(devices) == sorted(
            attachments
        ) == sorted(names)

    def nothing_is_left(self) -> bool:
        return (
            self.kernel.interfaces == {1: "lo", WIRE: "eth0"}
            and all(device.closed for device in self.kernel.devices)
            and all(attachment.removed for attachment in self.plane.attachments)
            and not self.daemon.tunnels
        )

    async def change(self) -> None:
        """Let the monitor fire, and wait until the daemon has looked."""
        before = len(self.kernel.asked)
        self.monitor.fire()
        await until(lambda: len(self.kernel.asked) > before)
        await until(lambda: not self.daemon._lock.locked())
