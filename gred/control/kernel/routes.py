"""A question for a route, and what the kernel answers. Values only."""

from dataclasses import dataclass
from typing import NamedTuple

from gred.config.model import IPAddress


class RouteQuery(NamedTuple):
    """A question for a route: 0 and None stand for what does not matter.

    *device*: index of the interface to leave through, or of a VRF to look in. *mark*: what routing
    rules may select by.
    """

    destination: IPAddress
    source: IPAddress | None = None
    device: int = 0
    mark: int = 0


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """The route the kernel takes to an address: interface index, MTU in bytes, source, gateway.

    What the kernel has learned of the path's MTU is no part of it.
    """

    oif: int
    mtu: int
    prefsrc: IPAddress | None = None
    gateway: IPAddress | None = None


@dataclass(frozen=True, slots=True)
class NoRoute:
    """The kernel has no route to an address; *reason* in its words."""

    reason: str


Route = RouteInfo | NoRoute
