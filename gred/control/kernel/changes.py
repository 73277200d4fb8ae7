"""What can be changed about an interface, one thing at a time. Values only.

Which changes are due is decided in `gred.control.interfaces`; how each is ordered of the kernel,
and what a refusal means, is in orders.py. Nothing here knows either.
"""

from dataclasses import dataclass

from gred.config.model import IPInterface, IPNetwork


@dataclass(frozen=True, slots=True)
class SetMtu:
    """Set the MTU, in bytes."""

    mtu: int


@dataclass(frozen=True, slots=True)
class SetMacAddress:
    """Set the Ethernet address, xx:xx:xx:xx:xx:xx."""

    mac_address: str


@dataclass(frozen=True, slots=True)
class SetQueue:
    """Let so many packets wait until the loop reads them."""

    length: int


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Say for people what the interface is (IFLA_IFALIAS, SNMP's ifAlias)."""

    alias: str


@dataclass(frozen=True, slots=True)
class LeaveGroups:
    """Leave all IPv6 groups but all nodes, and join none; the interface is down.

    The MTU is another one afterwards.
    """


@dataclass(frozen=True, slots=True)
class NoLinkLocal:
    """Let the kernel make no IPv6 link-local address by itself."""


@dataclass(frozen=True, slots=True)
class FollowCarrier:
    """Let the IPv4 routes through it be dead while it has no carrier; else the kernel uses them."""


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address of the interface's own."""

    address: IPInterface


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Remove an address."""

    address: IPInterface


@dataclass(frozen=True, slots=True)
class SetUp:
    """Set the interface up. *multicast*: and say that it carries multicast, see LeaveGroups."""

    multicast: bool = False


@dataclass(frozen=True, slots=True)
class AddRoute:
    """Route a network into the interface."""

    network: IPNetwork


@dataclass(frozen=True, slots=True)
class AddConnected:
    """Add the route to the network of an address, as the kernel did when it got the address."""

    address: IPInterface

    @property
    def network(self) -> IPNetwork:
        """Where it leads."""
        return self.address.network


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """Remove a route that AddRoute has added."""

    network: IPNetwork


Change = (
    SetMtu
    | SetMacAddress
    | SetQueue
    | SetAlias
    | LeaveGroups
    | NoLinkLocal
    | FollowCarrier
    | AddAddress
    | RemoveAddress
    | SetUp
    | AddRoute
    | AddConnected
    | RemoveRoute
)

# Not every kernel and sandbox can, and a tunnel works without.
OPTIONAL = (SetQueue, SetAlias, LeaveGroups, NoLinkLocal, FollowCarrier)
