"""What the path to one remote carries. Pure: numbers and times in, numbers out.

The kernel's own knowledge of path MTUs is not used: it believes an ICMP error that quotes no more
than two addresses. What the data plane tells counts instead, and as far as its evidence goes: it
tells of no error but those that a packet sent lately may have met. A
quote that shows a key or a current sequence number, or the kernel's own refusal, is believed for as
long as the kernel would. One that shows nothing an outsider could not guess is believed for a
minute, and twice as long each time it turns out to hold; and it lowers what is sent in steps, each
of which must meet packets of the size that is sent by then.

Where nobody tells anything, probes do (probing.py): what they found is kept beside what was told,
and a probe that has passed refutes what was told before it was sent.
"""

from collections.abc import Sequence
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
        self.learned: int | None = None
        """What was told, as long as it is believed."""
        self.probed: int | None = None
        """The longest packet that probes saw pass, where longer ones did not; None: all did."""
        self._version = version
        self._told: int | None = None
        self._told_at = 0.0
        self._is_proven = False
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
            self._believe(mtu, now, lifetime, is_proven=True)
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
        self._believe(mtu, now, min(self._doubtful_lifetime, lifetime), is_proven=False)
        return True

    def probe(self, probed: int | None) -> bool:
        """Take in what probes found; return whether it changes what is believed."""
        before, self.probed = self.probed, probed
        return probed != before

    def passed(self, size: int, at: float) -> bool:
        """Take in that a packet of *size* bytes, sent *at*, has passed.

        Return whether that refutes what was told.
        """
        if self._told is None or size <= self._told or at <= self._told_at:
            return False
        self._told = None
        return True

    def look(self, route_mtu: int, now: float) -> bool:
        """Take in the *route_mtu* at *now*; return whether anything changed."""
        before = self.mtu, self.fragmentable, self.route_mtu
        self.mtu, self.fragmentable, self.route_mtu = None, False, route_mtu
        self.learned = self._told if now < self._until else None
        known = [size for size in (self.learned, self.probed) if size is not None]
        if known:
            least, carried = LEAST[self._version], min(known)
            if max(carried, least) < route_mtu:
                self.mtu = max(carried, least)
                self.fragmentable = self._version == 4 and carried < least
        return (self.mtu, self.fragmentable, self.route_mtu) != before

    def due(self, now: float) -> float | None:
        """Return in how many seconds to look again; None: no need."""
        if self.learned is None or self.mtu is None:
            return None
        return max(self._until - now, 0.0)

    @property
    def ceiling(self) -> int | None:
        """The longest packet that probes may try: what the kernel would send, and those on the way.

        None: not known. What anybody could have told is no bound: probes refute it.
        """
        if self.route_mtu is None or self.learned is None or not self._is_proven:
            return self.route_mtu
        return min(self.learned, self.route_mtu)

    @property
    def is_untold(self) -> bool:
        """Whether the path carries less than its route, and nothing but probes ever said so."""
        if self.mtu is None or self.probed is None:
            return False
        return self._told is None or self._told > self.probed

    @property
    def sentence(self) -> str:
        """What probes have found and nothing else says, in words; empty when there is no such."""
        if not self.is_untold:
            return ""
        return f"it carries {self.mtu} though nothing says so: ICMP is filtered on the way"

    def remains(self) -> list[float | None]:
        """Return what another process may go on with: numbers and times."""
        return [
            self._told,
            self._told_at,
            self._is_proven,
            self._until,
            self._doubtful_lifetime,
            self.probed,
        ]

    def resume(self, remains: Sequence[float | None]) -> None:
        """Go on with what another process left. Raises ValueError and TypeError where unfit."""
        told, told_at, is_proven, until, doubtful, probed = remains
        self._told = None if told is None else int(told)
        self._told_at, self._until = float(told_at or 0), float(until or 0)
        self._is_proven = bool(is_proven)
        self._doubtful_lifetime = float(doubtful or DOUBTFUL_LIFETIME)
        self.probed = None if probed is None else int(probed)

    def _believe(self, mtu: int, now: float, lifetime: float, *, is_proven: bool) -> None:
        self._told, self._told_at, self._until = mtu, now, now + lifetime
        self._is_proven = is_proven
