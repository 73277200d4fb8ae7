"""Quoted packets: which tunnels could have sent the one that an ICMP error is about.

An index that the plane keeps as tunnels come, change and go: to ask it costs the same with one
tunnel and with thousands. Nothing here listens, tells or believes.
"""

from typing import Generic, Protocol, TypeVar

from gred.dataplane.tunnels import TunnelParameters
from gred.wire import gre
from gred.wire.icmp import Quote

# A quote that is cut off before the key fits all tunnels between two addresses, and says nothing of
# any one of them.
FITS_AT_MOST = 1

_Place = tuple[bytes | None, bytes, int, int | None]


class HasParameters(Protocol):
    """What must be known of a tunnel to tell whether a packet is one of its own."""

    parameters: TunnelParameters


PortT = TypeVar("PortT", bound=HasParameters)


def sent_flags(parameters: TunnelParameters) -> int:
    """Return the first 16 bits of the GRE headers that a tunnel with *parameters* sends."""
    return (
        (gre.CHECKSUM_PRESENT if parameters.output_checksum else 0)
        | (gre.KEY_PRESENT if parameters.output_key is not None else 0)
        | (gre.SEQUENCE_PRESENT if parameters.output_sequence else 0)
    )


def could_have_sent(parameters: TunnelParameters, quote: Quote) -> bool:
    """Whether a tunnel with *parameters* sends packets like the one quoted, as far as it is seen.

    ICMP is easily forged: who does not know addresses, flags and key of a tunnel cannot harm it.
    """
    if parameters.local is not None and parameters.local.packed != quote.source:
        return False
    if parameters.remote is None or parameters.remote.packed != quote.destination:
        return False
    if quote.flags != sent_flags(parameters):
        return False
    return quote.key is None or quote.key == parameters.output_key


class SenderIndex(Generic[PortT]):
    """Ports by what their packets look like."""

    def __init__(self) -> None:
        self._by_look: dict[_Place, dict[PortT, None]] = {}
        self._places: dict[PortT, tuple[_Place, ...]] = {}

    def put(self, port: PortT) -> None:
        """Note what *port* sends, for the first time or anew."""
        wanted = _places(port.parameters)
        if self._places.get(port) == wanted:
            return
        self.remove(port)
        self._places[port] = wanted
        for place in wanted:
            self._by_look.setdefault(place, {})[port] = None

    def remove(self, port: PortT) -> None:
        """Forget *port*. Harmless when it is not known."""
        for place in self._places.pop(port, ()):
            ports = self._by_look[place]
            del ports[port]
            if not ports:
                del self._by_look[place]

    def find(self, quote: Quote) -> list[PortT]:
        """Return the ports that could have sent the packet quoted.

        One more than ``FITS_AT_MOST`` where it fits too many.
        """
        flags = quote.flags
        if flags is None:
            return []
        found: list[PortT] = []
        for source in (quote.source, None):
            for port in self._by_look.get((source, quote.destination, flags, quote.key), ()):
                if could_have_sent(port.parameters, quote):
                    found.append(port)
                    if len(found) > FITS_AT_MOST:
                        return found
        return found


def _places(parameters: TunnelParameters) -> tuple[_Place, ...]:
    """Return where a tunnel is looked for: by a quote with its key, and by one that is cut."""
    if parameters.remote is None:
        return ()
    source = None if parameters.local is None else parameters.local.packed
    destination, flags = parameters.remote.packed, sent_flags(parameters)
    keys = dict.fromkeys((parameters.output_key, None))
    return tuple((source, destination, flags, key) for key in keys)
