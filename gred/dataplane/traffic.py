"""What a tunnel has sent and received, and what it was when an ICMP error about it came. Values."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Traffic(NamedTuple):
    """Packets of one tunnel so far: those the kernel took, those that came from the remote."""

    sent: int = 0
    received: int = 0


@dataclass(frozen=True, slots=True)
class LastError:
    """The last ICMP error about a tunnel, whether or not it was told: when, and after what."""

    at: float = float("-inf")
    traffic: Traffic = field(default_factory=Traffic)
