"""What the path to one remote carries. Pure: numbers and times in, numbers out.

The kernel learns path MTUs from ICMP by itself and forgets them after a while; a look at the route
shows both. Where it cannot learn for us (a routing rule or a mark leads our packets along another
route than the one it noted the MTU at) what the data plane was told counts, for as long.
"""

from gred.control.paths import RouteInfo

LIFETIME = 600.0  # seconds: ten minutes, RFC 1191 §6.3 and the kernel's default
LOOK_AGAIN = 60.0  # seconds between looks while the path carries less than the route's own MTU
AFTER_EXPIRY = 0.5  # seconds; the kernel counts in ticks

# Less is not believed: as the kernel does for IPv4 (min_pmtu), and RFC 8200 §5 for IPv6. A path
# that carries less still than 552 gets outer packets that may be fragmented.
LEAST = {4: 552, 6: 1280}


class PathMtu:
    """The path of one tunnel, outer packets of one IP *version*."""

    def __init__(self, version: int) -> None:
        self.mtu: int | None = None
        """The longest outer packet, while it is less than the route's own MTU."""
        self.fragmentable = False
        """Whether outer packets must do without Don't Fragment."""
        self._version = version
        self._told: int | None = None
        self._told_until = 0.0
        self._expires: float | None = None

    def tell(self, mtu: int, now: float) -> None:
        """Note that packets longer than *mtu* met an obstacle at *now*; 0: no number was told."""
        if mtu <= 0:
            return
        if self._told is None or now >= self._told_until or mtu <= self._told:
            self._told = mtu
            self._told_until = now + LIFETIME

    def look(self, route: RouteInfo, now: float) -> bool:
        """Take in what the kernel says of the *route* at *now*; return whether anything changed."""
        before = self.mtu, self.fragmentable
        learned = route.path_mtu
        self._expires = now + route.expires if learned is not None and route.expires else None
        self.mtu, self.fragmentable = learned, learned is not None and route.locked
        if self._told is not None:
            least = LEAST[self._version]
            told = max(self._told, least)
            if now >= self._told_until or told >= (learned or route.mtu):
                self._told = None  # over, or the kernel knows as much
            else:
                self.mtu = told
                self.fragmentable = self._version == 4 and self._told < least
                self._expires = self._told_until
        return (self.mtu, self.fragmentable) != before

    def due(self, now: float) -> float | None:
        """Return in how many seconds to look again; None: no need."""
        if self.mtu is None:
            return None
        if self._expires is None:
            return LOOK_AGAIN
        return min(LOOK_AGAIN, max(self._expires - now, 0.0) + AFTER_EXPIRY)
