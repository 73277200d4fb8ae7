"""What all forms of ``gred show`` have in common: lines, and notes that stand as comments. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, field

from gred.config.model import TunnelConfig
from gred.control import mtu


class NoFormError(Exception):
    """The other system has no such tunnel at all. One sentence."""


@dataclass(slots=True)
class Page:
    """Lines of a form; *notes* say what was guessed, or what the other system cannot do."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *lines: str) -> None:
        """Add lines."""
        self.lines += lines

    def lacks(self, option: str, remedy: str) -> None:
        """Say that the other system has nothing for *option*, and what to do at this end."""
        self.notes.append(f"no equivalent of {option}: {remedy}")

    def text(self, comment: str) -> str:
        """Return the page; *comment* begins a comment of this form."""
        lines = [*(f"{comment} {note}" for note in self.notes), *self.lines]
        return "".join(f"{line}\n" for line in lines)


Writer = Callable[[TunnelConfig, Page], None]


def size(tunnel: TunnelConfig) -> int:
    """Return the tunnel's MTU in bytes: the configured one, or where the path carries 1500."""
    return mtu.tunnel_mtu(tunnel, mtu.DEFAULT_ROUTE_MTU)


def lacks_directions(tunnel: TunnelConfig, page: Page, *, checksums: bool = True) -> None:
    """Say what a system lacks that has one setting for both directions, of all but keys.

    *checksums*: whether it has them at all.
    """
    asked = (tunnel.input_checksum == "require", tunnel.output_checksum)
    if not checksums and any(asked):
        page.lacks("Checksum=", "take it out at this end")
    elif asked[0] != asked[1]:
        page.lacks("InputChecksum= and OutputChecksum=", "Checksum=yes or no at both ends")
    if tunnel.input_sequence != tunnel.output_sequence:
        page.lacks("InputSequence= and OutputSequence=", "SerializeTunneledPackets= at both ends")
