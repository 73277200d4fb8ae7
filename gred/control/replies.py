"""Which keepalives of others are answered, and how. Pure: packets in, values out.

Nothing here sends. Who answers whatever asks sends packets for strangers: so an answer goes to
nobody but the end of the tunnel that the request came from, is a copy of ours, holds nothing
but an empty GRE header and a short trailer, and no more of them leave than a router would ask for.
"""

from collections.abc import Collection
from dataclasses import dataclass

from gred.config.model import IPAddress
from gred.dataplane.punt import Allowance
from gred.wire.keepalive import Request, forward

# A router asks every second at most, who probes the path some four times; so many at once after a
# standstill.
PER_TUNNEL = 20.0, 20.0  # a second, at once
PER_PROCESS = 200.0, 400.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send to the end of the tunnel that asked.

    *content* is what an outer packet of the tunnel carries, from its GRE header on, as it stands;
    or, when it is *tunnelled*, an inner packet.
    """

    content: bytes
    tunnelled: bool


class Replies:
    """Says what to answer to what arrives in one tunnel.

    *inner*: the addresses of its interface. *shared* bounds all tunnels together.
    """

    def __init__(self, inner: Collection[IPAddress], shared: Allowance) -> None:
        self.answered = 0
        self.refused = 0
        """Requests that asked for what is none of ours to send."""
        self.limited = 0
        """Requests above what is answered in a second."""
        self._inner = frozenset(inner)
        self._own = Allowance(*PER_TUNNEL)
        self._shared = shared

    def reply(
        self, request: Request, source: IPAddress, destination: IPAddress, now: float
    ) -> Reply | None:
        """Return the answer to *request*, which came from *source* to *destination* outside.

        Either of its addresses must be one of this tunnel: behind a NAT the other end knows itself
        by another one, and may know us by another. None: it is not answered.
        """
        tunnelled = request.source in self._inner
        if not (tunnelled or request.source == destination or request.destination == source):
            self.refused += 1
            return None
        if not (self._own.take(now) and self._shared.take(now)):
            self.limited += 1
            return None
        self.answered += 1
        return Reply(forward(request) if tunnelled else request.answer, tunnelled)
