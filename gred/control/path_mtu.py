"""What the path to one remote carries. Pure: numbers and times in, numbers out.

The kernel's own knowledge of path MTUs is not used: it believes an ICMP error that quotes no more
than two addresses. What the data plane tells counts instead, and as far as its evidence goes. A
quote that shows a key or a current sequence number, or the kernel's own refusal, is believed for as
long as the kernel would. One that shows nothing an outsider could not guess is believed for a
minute, and twice as long each time it turns out to hold; and it lowers what is sent in steps, each
of which must meet packets of the size that is sent by then.
"""

from dataclasses import dataclass

LIFETIME = 600.0  # seconds: ten minutes, RFC 1191 §6.3 and the kernel's default
DOUBTFUL_LIFETIME = 60.0  # seconds, of what anybody could have said

# Less is not believed: as the kernel does for IPv4 (min_pmtu), and RFC 8200 §5 for IPv6. A path
# that carries less still than 552 gets outer packets that may be fragmented.
LEAST = {4: 552, 6: 1280}
FIRST_STEP = 1280  # the first that a doubtful word lowers to; few paths carry less

# RFC 1191 §7.1: sizes that paths have, for routers that tell none. The last is less than 552.
_PLATEAUS = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Packets longer than *mtu* do not pass; 0: no number was told.

    *length*: of the packet that met it, 0 where that is not known. *is_proven*: whether it was the
    kernel that refused the packet, or something was quoted of it that only those on its way know.
    """

    mtu: int
    length: int = 0
    is_proven: bool = False


class PathMtu:
    """The path of one tunnel, outer packets of one IP *version*."""

    def __init__(self, version: int) -> None:
        self.mtu: int | None = None
        """The longest outer packet, while it is less than the route's own MTU."""
        self.fragmentable = False
        """Whether outer packets must do without Don't Fragment."""
        self.route_mtu: int | None = None
        """Of the route, as administrators set it; None: not known."""
        self._version = version
        self._told: int | None = None
        self._until = 0.0
        self._doubtful_lifetime = DOUBTFUL_LIFETIME

    def tell(self, obstacle: Obstacle, now: float, lifetime: float = LIFETIME) -> bool:
        """Note an *obstacle* met at *now*; return whether it changes what is believed.

        *lifetime*: how long at most, in seconds.
        """
        mtu, length = obstacle.mtu, obstacle.length
        if mtu <= 0:
            mtu = next((size for size in _PLATEAUS if size < length), 0)
        if mtu <= 0 or 0 < length <= mtu:
            return False
        present = self._told if now < self._until else None
        if obstacle.is_proven:
            if present is not None and mtu > present:
                return False
            self._told, self._until = mtu, now + lifetime
            return mtu != present
        if present is not None and (length > present or mtu >= present):
            return False  # nothing of that length has left since, or nothing new
        if mtu < FIRST_STEP and (present is None or present > FIRST_STEP):
            mtu = FIRST_STEP
        if present is None:
            comes_back = self._told is not None and now - self._until < LIFETIME
            self._doubtful_lifetime = (
                2 * self._doubtful_lifetime if comes_back else DOUBTFUL_LIFETIME
            )
        self._told, self._until = mtu, now + min(self._doubtful_lifetime, lifetime)
        return True

    def look(self, route_mtu: int, now: float) -> bool:
        """Take in the *route_mtu* at *now*; return whether anything changed."""
        before = self.mtu, self.fragmentable, self.route_mtu
        self.mtu, self.fragmentable, self.route_mtu = None, False, route_mtu
        if self._told is not None and now < self._until:
            least = LEAST[self._version]
            told = max(self._told, least)
            if told < route_mtu:
                self.mtu = told
                self.fragmentable = self._version == 4 and self._told < least
        return (self.mtu, self.fragmentable, self.route_mtu) != before

    def due(self, now: float) -> float | None:
        """Return in how many seconds to look again; None: no need."""
        return None if self.mtu is None else max(self._until - now, 0.0)
