"""Kinds of tunnels between left and right, each with networks of its own inside."""

import itertools
from dataclasses import dataclass, field

from tests.netns.conftest import LEFT, RIGHT

_NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of tunnel: its options on both sides, or on each.

    *ends*: outer addresses of left and right. *underlay*: 0 is IPv4, 1 is IPv6. *overhead*: bytes
    of all headers. *number*: of its networks, 10.9.NUMBER.0/24 and fd09:NUMBER::/64.
    """

    name: str
    both: str = ""
    left: str = ""
    right: str = ""
    ends: tuple[tuple[str, str], tuple[str, str]] = (LEFT, RIGHT)
    underlay: int = 0
    overhead: int = 24
    number: int = field(default_factory=lambda: next(_NUMBERS))

    def section(self, host: str, *, ipv6: bool = True) -> str:
        """Return the tunnel's section on *host*: left, or right. *ipv6*: inside, too."""
        left, right = self.ends
        (local, remote), own = ((left, right), 1) if host == "left" else ((right, left), 2)
        mac = f"MACAddress={self.mac(own)}\n" if "Mode=gretap" in self.both else ""
        return (
            f"[Tunnel {self.name}]\n"
            f"Local={local[self.underlay]}\nRemote={remote[self.underlay]}\n"
            f"Address=10.9.{self.number}.{own}/24"
            f"{f', fd09:{self.number}::{own}/64' if ipv6 else ''}\n"
            f"{mac}{self.both}\n{self.left if host == 'left' else self.right}\n"
        )

    def mac(self, own: int) -> str:
        """Return the Ethernet address of left, 1, or right, 2."""
        return f"02:00:00:00:{self.number:02x}:{own:02x}"

    def addresses(self, version: int) -> tuple[str, str]:
        """Return the inner addresses of left and right."""
        if version == 4:
            return f"10.9.{self.number}.1", f"10.9.{self.number}.2"
        return f"fd09:{self.number}::1", f"fd09:{self.number}::2"
