"""How much a quoted packet proves. Pure.

ICMP is easily forged: addresses, flags and sizes are no secret.
"""

from collections.abc import Collection
from enum import Enum, auto

from gred.dataplane.tunnels import TunnelParameters
from gred.wire import gre
from gred.wire.icmp import Quote

# Numbers back from the next one that a packet may have which is still being complained about.
RECENT = 1 << 16


class Proof(Enum):
    """What the quote of a packet shows of who quotes it."""

    NOT_OURS = auto()  # the tunnel has sent no such packet
    GUESSABLE = auto()  # nothing that somebody far from the path could not have made up
    SECRET = auto()  # the key, or the sequence number of a packet that was sent lately


def carried(mode: str, parameters: TunnelParameters) -> frozenset[int]:
    """Return the protocol types that a tunnel with a device of *mode* sends."""
    if mode == "tap":
        return frozenset({gre.PROTOCOL_ETHERNET})
    more = {parameters.protocol} if mode == "any" and parameters.protocol is not None else set()
    return frozenset({gre.PROTOCOL_IPV4, gre.PROTOCOL_IPV6} | more)


def weigh(quote: Quote, carries: Collection[int], next_sequence: int) -> Proof:
    """Return what *quote* proves to a tunnel whose addresses, flags and key it fits.

    *carries*: the protocol types it sends. *next_sequence*: the number its next packet will have.
    """
    if quote.protocol_type is not None and quote.protocol_type not in carries:
        return Proof.NOT_OURS
    sequence = quote.sequence
    if sequence is not None:
        is_recent = 0 < (next_sequence - sequence) & 0xFFFFFFFF <= RECENT
        return Proof.SECRET if is_recent else Proof.NOT_OURS
    return Proof.GUESSABLE if quote.key is None else Proof.SECRET
