"""What is asked of the kernel and ordered of it: the shapes of kernel, device and interface.

Shapes only. The real ones are `gred.dataplane.tun.TunDevice` and
`gred.control.kernel.netlink.Netlink`; tests put others in their place, and need no root.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Interface, IPv6Network
from typing import Literal, Protocol

from gred.config.model import IPAddress, IPInterface, IPNetwork
from gred.control.errors import SetupError
from gred.control.kernel.routes import Route, RouteQuery

# As the data plane's TunDevice: IP packets, Ethernet frames, or packets of any protocol type.
DeviceMode = Literal["tun", "tap", "any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InterfaceSettings:
    """What an interface gets before it carries packets.

    *place* opens every error message. *link_local*: the IPv6 address that it gets beside
    *addresses*; the kernel makes none of its own. *ipv6*: whether it carries IPv6. *mac_address*:
    of an Ethernet interface; None leaves the kernel's. *namespace*: where it is.
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


Prefix = tuple[bytes, int]
"""An address in network order and the length of its prefix, as the kernel lists it."""


def prefix(item: IPInterface | IPNetwork) -> Prefix:
    """Return an interface's address, or a network, as the kernel lists it."""
    if isinstance(item, IPv4Network | IPv6Network):
        return item.network_address.packed, item.prefixlen
    return item.packed, item.network.prefixlen


@dataclass(frozen=True, slots=True)
class Actual:
    """What an interface is: *mtu* in bytes; *routes*: what the main table leads into it."""

    up: bool
    mtu: int
    addresses: frozenset[Prefix] = frozenset()
    routes: frozenset[Prefix] = frozenset()


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

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def close(self) -> None:
        """Close the descriptor: deletes the interface unless that is done."""


class OpenDevice(Protocol):
    """How a device is opened."""

    def __call__(
        self, name: str, *, offload: bool, mode: DeviceMode, namespace: str | None
    ) -> Device:
        """Make the interface *name* in *namespace*, or here. Raises OSError."""
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

    def versions_with_gre_rules(self) -> set[int]:
        """Return the IP versions in which some routing rule selects GRE by protocol."""
        ...

    def filtered(self) -> Mapping[int, str]:
        """Return the IP versions whose outgoing packets netfilter may look at, and why."""
        ...

    def path_mtu_lifetime(self, version: int) -> float:
        """Return for how many seconds this host believes in what it has learned of a path.

        Does not block.
        """
        ...

    def transmit_drops(self, namespace: str | None = None) -> Mapping[int, int]:
        """Return what the interfaces of a namespace could not queue: index -> packets."""
        ...

    def configure(self, interfaces: Sequence[InterfaceSettings]) -> list[SetupError | None]:
        """Give each interface what it needs and set it up; return what was refused of each."""
        ...

    def actual(
        self, wanted: Sequence[InterfaceSettings], namespace: str | None
    ) -> dict[int, Actual]:
        """Return what interfaces in one namespace are, by index. Raises OSError.

        Of *routes* in it only those that are *wanted* are sure to be listed.
        """
        ...

    def set_mtus(
        self, mtus: Mapping[int, int], namespace: str | None = None
    ) -> dict[int, SetupError]:
        """Set MTUs in one namespace: index -> bytes; return what was refused, by index."""
        ...

    def delete(self, devices: Sequence[Device]) -> None:
        """Delete the interfaces of *devices* all at once. Raises OSError."""
