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
LEAST_SOURCE_PORT = 49152  # of those that are chosen by flow, RFC 8086 §3.2.1

# Source, flags, key, and port; flags are None where no more than a UDP header was quoted.
_Look = tuple[bytes | None, int | None, int | None, int]
_Place = tuple[_Look, bytes]  # and the destination


class HasParameters(Protocol):
    """What must be known of a tunnel to tell whether a packet is one of its own."""

    parameters: TunnelParameters


Attached = TypeVar("Attached", bound=HasParameters)


def sent_flags(parameters: TunnelParameters) -> int:
    """Return the first 16 bits of the GRE headers that a tunnel with *parameters* sends."""
    return (
        (gre.CHECKSUM_PRESENT if parameters.output_checksum else 0)
        | (gre.KEY_PRESENT if parameters.output_key is not None else 0)
        | (gre.SEQUENCE_PRESENT if parameters.output_sequence else 0)
    )


def could_have_sent(parameters: TunnelParameters, quote: Quote) -> bool:
    """Whether a tunnel with *parameters* sends packets like the one quoted, as far as it is seen.

    With many remotes the destination is not looked at: the index knows them.
    ICMP is easily forged: who does not know addresses, flags and key of a tunnel cannot harm it.
    """
    if parameters.local is not None and parameters.local.packed != quote.source:
        return False
    if not parameters.has_many_remotes and (
        parameters.remote is None or parameters.remote.packed != quote.destination
    ):
        return False
    if _port(quote) != parameters.destination_port or not _could_come_from(parameters, quote):
        return False
    if quote.flags is None:
        return quote.ports is not None
    if quote.flags != sent_flags(parameters):
        return False
    return quote.key is None or quote.key == parameters.output_key


def _could_come_from(parameters: TunnelParameters, quote: Quote) -> bool:
    if quote.ports is None:
        return True
    source = quote.ports[0]
    if parameters.source_port is None:
        return source >= LEAST_SOURCE_PORT
    return source == parameters.source_port


def _port(quote: Quote) -> int:
    """Return the UDP port that a packet went to; 0: it was protocol 47."""
    return 0 if quote.ports is None else quote.ports[1]


class SenderIndex(Generic[Attached]):
    """Attachments by what their packets look like."""

    def __init__(self) -> None:
        self._by_look: dict[_Place, dict[Attached, None]] = {}
        self._looks: dict[Attached, tuple[_Look, ...]] = {}
        self._remotes: dict[Attached, dict[bytes, None]] = {}

    def put(self, attachment: Attached) -> None:
        """Note what *attachment* sends, for the first time or anew.

        Many remotes are told one by one.
        """
        parameters = attachment.parameters
        looks, known = _looks(parameters), self._remotes.get(attachment, {})
        remotes = known if parameters.has_many_remotes else {}
        if parameters.remote is not None:
            remotes = {parameters.remote.packed: None}
        if self._looks.get(attachment) == looks and known == remotes:
            return
        self.remove(attachment)
        self._looks[attachment] = looks
        for remote in remotes:
            self.add_remote(attachment, remote)

    def add_remote(self, attachment: Attached, remote: bytes) -> None:
        """Note that *attachment* sends to *remote* (packed), too."""
        looks = self._looks.setdefault(attachment, _looks(attachment.parameters))
        self._remotes.setdefault(attachment, {})[remote] = None
        for look in looks:
            self._by_look.setdefault((look, remote), {})[attachment] = None

    def remove_remote(self, attachment: Attached, remote: bytes) -> None:
        """Note that it does not any more. Harmless when it is not known."""
        if remote not in self._remotes.get(attachment, {}):
            return
        del self._remotes[attachment][remote]
        self._drop(attachment, remote)

    def remove(self, attachment: Attached) -> None:
        """Forget *attachment* and all its remotes. Harmless when it is not known."""
        for remote in self._remotes.pop(attachment, {}):
            self._drop(attachment, remote)
        self._looks.pop(attachment, None)

    def _drop(self, attachment: Attached, remote: bytes) -> None:
        for look in self._looks[attachment]:
            attachments = self._by_look[look, remote]
            del attachments[attachment]
            if not attachments:
                del self._by_look[look, remote]

    def find(self, quote: Quote) -> list[Attached]:
        """Return the attachments that could have sent the packet quoted.

        One more than ``FITS_AT_MOST`` where it fits too many.
        """
        flags, port = quote.flags, _port(quote)
        if flags is None and not port:
            return []
        found: list[Attached] = []
        for source in (quote.source, None):
            for attachment in self._by_look.get(
                ((source, flags, quote.key, port), quote.destination), ()
            ):
                if could_have_sent(attachment.parameters, quote):
                    found.append(attachment)
                    if len(found) > FITS_AT_MOST:
                        return found
        return found


def _looks(parameters: TunnelParameters) -> tuple[_Look, ...]:
    """Return where a tunnel is looked for: by a quote with its key, and by one that is cut."""
    source = None if parameters.local is None else parameters.local.packed
    keys, port = dict.fromkeys((parameters.output_key, None)), parameters.destination_port
    looks: list[_Look] = [(source, sent_flags(parameters), key, port) for key in keys]
    if port:
        looks.append((source, None, None, port))
    return tuple(looks)
