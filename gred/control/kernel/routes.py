"""A question for a route, and what the kernel answers. Values only."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gred.config.model import IPAddress

# Why a packet that came in is dropped: reverse path filtering, forwarding is off, its source is an
# address of this host, there is no route. Or it is delivered, and an answer would leave elsewhere
# than by the interface that it came in by. Empty: it is delivered, or forwarded.
Drop = Literal["", "elsewhere", "filtered", "forwarding", "own", "route"]


class Delivery(NamedTuple):
    """What becomes of a packet that came in. *way*: by which interface an answer would leave.

    *here*: it is for this host itself, and an answer would leave the way that it came.
    """

    drop: Drop
    way: str = ""
    here: bool = False


class Hop(NamedTuple):
    """Whom packets are handed to: a gateway, or their destination where there is none.

    *answers*: to ARP or neighbour discovery. False: asked, and no answer yet; None: not asked now.
    """

    address: IPAddress
    answers: bool | None


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


class MtuRoute(NamedTuple):
    """A route that was given an MTU, of any table: what it leads to, and the MTU in bytes.

    *network*: its first address, packed; *length*: of its prefix in bits.
    """

    network: bytes
    length: int
    mtu: int


class Networks:
    """Networks of both IP versions, asked whether they have an address: by prefix length."""

    def __init__(self, networks: Iterable[tuple[bytes, int]]) -> None:
        self._by_length: dict[int, dict[int, set[int]]] = {}  # bytes of an address -> bits to drop
        for network, length in networks:
            drop = 8 * len(network) - length
            known = self._by_length.setdefault(len(network), {}).setdefault(drop, set())
            known.add(int.from_bytes(network) >> drop)

    def __bool__(self) -> bool:
        return bool(self._by_length)

    def have(self, address: bytes) -> bool:
        """Tell whether some network has *address* (packed)."""
        number = int.from_bytes(address)
        lengths = self._by_length.get(len(address), {})
        return any(number >> drop in known for drop, known in lengths.items())
