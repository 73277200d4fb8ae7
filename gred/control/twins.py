"""Tunnels that one received packet would fit equally well: which of them has it. Pure.

A configuration that says so outright is refused; addresses that are found at run time may come to
the same later. The first in the configuration's order stays, the others are held down: a second
receiver of the same packets would not get one of them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from gred.config.model import IPAddress, Transport, TunnelConfig

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a tunnel receives: the packets to *local*, from *remote*, with *key*. None: any, none.

    Checksums and sequence numbers do not tell tunnels apart, as in the kernel (ip_tunnel_find).
    """

    family: int
    local: IPAddress | None
    remote: IPAddress | None
    key: int | None
    transport: Transport = "ip"

    def __str__(self) -> str:
        """Return it in words."""
        near, far = ("any" if end is None else end for end in (self.local, self.remote))
        return (
            f"local {near}, remote {far}, "
            + ("no key" if self.key is None else f"key {self.key}")
            + (", in UDP" if self.transport == "udp" else "")
        )


def claim(config: TunnelConfig, local: IPAddress | None) -> Claim:
    """Return what a tunnel receives whose local address is *local* now."""
    return Claim(config.family, local, config.remote, config.input_key, config.transport)


class Takers(Generic[T]):
    """What receivers that know nothing of ours take -> *T*: each gets a copy of its packets."""

    def __init__(self) -> None:
        self._by_claim: dict[Claim, T] = {}
        self._by_remote: dict[Claim, T] = {}

    def add(self, theirs: Claim, holder: T) -> None:
        """Take note of a claim; the first holder of it counts."""
        self._by_claim.setdefault(theirs, holder)
        self._by_remote.setdefault(replace(theirs, local=None), holder)

    def takes(self, ours: Claim) -> T | None:
        """Return who gets all that *ours* gets, too: with the same ends, or with any of them.

        A tunnel with any local address hears its remote at one of them: whoever has that address
        and that remote takes the same.
        """
        for one in wider(ours):
            if (holder := self._by_claim.get(one)) is not None:
                return holder
        if ours.local is None and ours.remote is not None:
            return self._by_remote.get(ours)
        return None


def wider(ours: Claim) -> Iterator[Claim]:
    """Yield the claims that have all the packets of *ours*, itself first."""
    yield ours
    yield replace(ours, local=None)
    yield replace(ours, remote=None)
    yield replace(ours, local=None, remote=None)


def later_ones(claims: Iterable[tuple[str, Claim]]) -> dict[str, str]:
    """Return each tunnel whose claim an earlier one has -> the name of that one.

    *claims*: name and claim of each tunnel that has a local address, or needs none, in the order
    of precedence.
    """
    first: dict[Claim, str] = {}
    return {
        name: holder
        for name, wanted in claims
        if (holder := first.setdefault(wanted, name)) != name
    }
