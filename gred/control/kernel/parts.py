"""What is asked of the kernel and ordered of it: the shapes of kernel, device and interface.

Shapes only. The real ones are `gred.dataplane.tun.TunDevice` and
`gred.control.kernel.netlink.Netlink`; tests put others in their place, and need no root.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Interface
from typing import Literal, NamedTuple, Protocol

from gred.config.model import IPAddress, IPInterface, IPNetwork
from gred.control.errors import SetupError
from gred.control.kernel.changes import Change
from gred.control.kernel.linux import (
    RT_SCOPE_LINK,
)
from gred.control.kernel.routes import Delivery, Hop, MtuRoute, Route, RouteQuery
from gred.control.kernel.xfrm import Tables

# As the data plane's TunDevice: IP packets, Ethernet frames, or packets of any protocol type.
DeviceMode = Literal["tun", "tap", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSettings:
    """What an interface is to be.

    *place* opens every error message. *link_local*: the IPv6 address that it gets beside
    *addresses*; the kernel makes none of its own. *ipv6*: whether it carries IPv6. *mac_address*:
    of an Ethernet interface; None leaves the kernel's. *namespace*: where it is.
    *follows_carrier*: whether routes through it are dead while it has no carrier. *alias*: what is
    said of it to people; afterwards it is the administrator's.
    """

    place: str
    index: int
    name: str
    mtu: int
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[IPNetwork, ...] = ()
    link_local: IPv6Interface | None = None
    ipv6: bool = False
    mac_address: str | None = None
    namespace: str | None = None
    follows_carrier: bool = False
    alias: str = ""

    @property
    def all_addresses(self) -> tuple[IPInterface, ...]:
        """All addresses that the interface gets."""
        own = () if self.link_local is None else (self.link_local,)
        return (*self.addresses, *own)

    @property
    def own_routes(self) -> list[IPNetwork]:
        """The routes that gred adds; the others the kernel makes with the addresses."""
        connected = {address.network for address in self.addresses}
        return [route for route in self.routes if route not in connected]

    @property
    def connected(self) -> dict[IPNetwork, IPInterface]:
        """The networks that the kernel routes into it by itself, each for the first address in it.

        A route to one address alone is none: packets reach that by the table of local addresses.
        """
        found: dict[IPNetwork, IPInterface] = {}
        for own in self.all_addresses:
            if own.network.prefixlen < own.max_prefixlen:
                found.setdefault(own.network, own)
        return found


Prefix = tuple[bytes, int]
"""A network in network order and the length of its prefix, as the kernel lists it."""


class Held(NamedTuple):
    """An address as the kernel lists it: in network order, with the length of its prefix.

    *scope*: of an IPv4 address (RT_SCOPE_*, linux/rtnetlink.h); that of IPv6 follows from it.
    """

    address: bytes
    length: int
    scope: int = 0

    @property
    def network(self) -> Prefix:
        """Its network."""
        bits = 8 * len(self.address)
        mask = (1 << bits) - (1 << bits - self.length)
        return (int.from_bytes(self.address) & mask).to_bytes(bits // 8), self.length


_IPV4_LINK_LOCAL = IPv4Network("169.254.0.0/16")  # RFC 3927 §2.1


def prefix(network: IPNetwork) -> Prefix:
    """Return a network as the kernel lists it."""
    return network.network_address.packed, network.prefixlen


def held(own: IPInterface) -> Held:
    """Return an address as the kernel lists it where gred has added it."""
    scope = RT_SCOPE_LINK if own.ip in _IPV4_LINK_LOCAL else 0
    return Held(own.packed, own.network.prefixlen, scope)


@dataclass(frozen=True, slots=True)
class Actual:
    """What an interface is.

    *mtu* in bytes; *routes*: where the main table leads into it; *queue*: how many packets may
    wait. Of *addresses*, *made* are those of IPv6 that the kernel made by itself, and *secondary*
    those of IPv4 that came after another of their network. *in_vrf*: its routes stand in another
    table. *router*: IPv6 is forwarded to and from new interfaces.
    """

    up: bool
    mtu: int
    addresses: frozenset[Held] = frozenset()
    routes: frozenset[Prefix] = frozenset()
    mac_address: bytes = b""
    queue: int = 0
    made: frozenset[Held] = frozenset()
    secondary: frozenset[Held] = frozenset()
    in_vrf: bool = False
    router: bool = False


Refusals = Mapping[Change, SetupError]
"""What was refused of the changes to one interface, and why."""


class Device(Protocol):
    """An open TUN device. Whoever opened it closes it."""

    @property
    def name(self) -> str:
        """The interface's name when it was made."""
        ...

    @property
    def index(self) -> int:
        """The interface's index."""
        ...

    @property
    def namespace(self) -> str | None:
        """The network namespace that gred moved it to, where *index* counts; None: our own."""
        ...

    @property
    def offload(self) -> str:
        """What the kernel hands over in large segments, or why nothing."""
        ...

    @property
    def adopted(self) -> bool:
        """Whether its interface was there before this process."""
        ...

    @property
    def was_running(self) -> bool:
        """Whether it was up then, and had a carrier."""
        ...

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def set_carrier(self, up: bool) -> None:
        """Give the interface a carrier or take it away. Raises OSError."""

    def close(self) -> None:
        """Close the descriptor: deletes the interface unless that is done."""


class OpenDevice(Protocol):
    """How a device is opened."""

    def __call__(
        self, name: str, *, offload: bool, mode: DeviceMode, namespace: str | None
    ) -> Device:
        """Make the interface *name* in *namespace*, or here. Raises OSError."""
        ...


class AdoptDevice(Protocol):
    """How one is taken over that another process has opened."""

    def __call__(
        self, descriptor: int, *, offload: bool, mode: DeviceMode, namespace: str | None
    ) -> Device:
        """Go on with it. Raises OSError where it is not as it would be opened."""
        ...


class Kernel(Protocol):
    """Questions and orders to the kernel. Each blocks for a moment: for threads only."""

    def links(self, namespace: str | None = None) -> dict[int, str]:
        """Return the interfaces of a network namespace: index -> name. Raises OSError."""
        ...

    def attached(self, device: Device) -> str | None:
        """Return the present name of the interface behind *device*; None when it was deleted."""
        ...

    def local_addresses(self, addresses: Iterable[IPAddress], device: int = 0) -> set[IPAddress]:
        """Return those of *addresses* that are addresses of this host, or in the VRF *device*."""
        ...

    def interface_addresses(self) -> dict[int, list[IPAddress]]:
        """Return the addresses outer packets may come from: index -> best first."""
        ...

    def networks(self, namespace: str | None = None) -> dict[str, list[IPInterface]]:
        """Return the addresses of a network namespace: interface name -> with their prefixes."""
        ...

    def routes_to(
        self, queries: Sequence[RouteQuery | tuple[IPAddress, IPAddress | None]]
    ) -> list[Route]:
        """Return the route for each query, or (destination, source)."""
        ...

    def hop(self, query: RouteQuery) -> Hop | None:
        """Return whom packets are handed to, and whether it answers; None: nobody."""
        ...

    def delivery(
        self, index: int, source: IPAddress, destination: IPAddress, namespace: str | None
    ) -> Delivery:
        """Return what becomes of a packet that comes in by interface *index*."""
        ...

    def mtu_routes(self, version: int) -> list[MtuRoute]:
        """Return the routes of an IP version that were given an MTU. Raises OSError."""
        ...

    def route_mtus(self, queries: Sequence[RouteQuery]) -> list[int | None]:
        """Return the MTU that the route of each query was given; None: none, or no route."""
        ...

    def versions_with_gre_rules(self) -> set[int]:
        """Return the IP versions in which some routing rule selects GRE by protocol."""
        ...

    def filtered(self) -> Mapping[int, str]:
        """Return the IP versions whose outgoing packets netfilter may look at, and why."""
        ...

    def ipsec(self) -> Tables:
        """Return the IPsec policies and associations of this host. Raises OSError."""
        ...

    def told_mtu(self, query: RouteQuery) -> int | OSError:
        """Return the longest packet that a connected socket is told of, IPsec included.

        Where a policy wants IPsec and there is no association, an IKE daemon is asked for one.
        """
        ...

    def shield(self, remotes: Collection[IPAddress], owner: int) -> Mapping[IPAddress, OSError]:
        """Let no GRE pass in clear to and from *remotes*; return what was refused of it."""
        ...

    def unshield(self, remotes: Collection[IPAddress]) -> Mapping[IPAddress, OSError]:
        """Take that back."""
        ...

    def path_mtu_lifetime(self, version: int) -> float:
        """Return for how many seconds this host believes in what it has learned of a path.

        Does not block.
        """
        ...

    def transmit_drops(self, namespace: str | None = None) -> Mapping[int, int]:
        """Return what the interfaces of a namespace could not queue: index -> packets."""
        ...

    def actual(
        self, wanted: Sequence[InterfaceSettings], namespace: str | None
    ) -> dict[int, Actual]:
        """Return what interfaces in one namespace are, by index. Raises OSError.

        Of *routes* in it only those that are *wanted* are sure to be listed: where others were
        wanted before, both are to be given.
        """
        ...

    def change(
        self, work: Sequence[tuple[InterfaceSettings, Sequence[Change]]], /
    ) -> list[Refusals]:
        """Change interfaces, each in the order that is given; return what was refused of each.

        What can be done is done, whatever is refused before it.
        """
        ...

    def manager(self, settings: InterfaceSettings) -> str:
        """Return who else says that it configures an interface; empty: nobody does."""
        ...

    def delete(self, devices: Sequence[Device]) -> None:
        """Delete the interfaces of *devices* all at once. Raises OSError."""
