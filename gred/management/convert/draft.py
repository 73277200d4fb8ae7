"""Drafts of tunnels and remarks on what cannot be said: what every dialect reads its text into.

A draft holds values that the option table has read, and nothing else, so that what is printed of it
reads back. What an option does not take becomes a remark. Nothing here knows a dialect, and nothing
raises but what a dialect raises itself: ConversionError.
"""

from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from gred.config.model import IPNetwork, Location, TunnelConfig
from gred.config.options import SECTIONS
from gred.config.problems import escape
from gred.config.values import INTERFACE_NAME_MAX, BadValueError, refuse_interface_name

_OPTIONS = SECTIONS["Tunnel"]
_DEFAULT_NETWORKS = {4: "0.0.0.0/0", 6: "::/0"}


class ConversionError(Exception):
    """Text that cannot be read at all. One line: where, what was found, what was expected."""


@dataclass(frozen=True, slots=True)
class Remark:
    """Something in the input that the configuration does not say, or says otherwise.

    *line* is counted from 1; 0 where the input has no lines to speak of.
    """

    text: str
    line: int = 0

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(slots=True)
class Draft:
    """A tunnel as far as it was read; *values* are by field of TunnelConfig."""

    name: str
    line: int
    values: dict[str, Any] = field(default_factory=dict)
    remarks: list[Remark] = field(default_factory=list)
    refused: bool = False

    def put(self, option: str, text: str, line: int = 0, said: str = "") -> bool:
        """Set *option* to what *text* says, or remark on it; *said* is how the input has it."""
        reader = _OPTIONS[option]
        if " #" not in text and text.isprintable():  # what would not read back is refused
            try:
                self.values |= reader.read(text)
            except BadValueError:
                pass
            else:
                return True
        self.remark(f"{escape(said or text)}: {option}= takes {reader.kind.expected}", line)
        return False

    def append(self, option: str, text: str, line: int = 0, said: str = "") -> bool:
        """Add what *text* says to the list *option*, or remark on it."""
        (name,) = _OPTIONS[option].fields
        before = self.values.get(name, ())
        if not self.put(option, text, line, said):
            return False
        self.values[name] = (*before, *(new for new in self.values[name] if new not in before))
        return True

    def route(self, text: str, line: int = 0, *, version: int = 4, said: str = "") -> bool:
        """Add a route to the network *text*, which may be "default" or have no prefix."""
        if text == "default":
            text = _DEFAULT_NETWORKS[version]
        elif "/" not in text:
            text = str(host) if (host := _host(text)) else text
        return self.append("Route", text, line, said)

    def remark(self, text: str, line: int = 0) -> None:
        """Say something beside the tunnel."""
        self.remarks.append(Remark(text, line))

    def no_equivalent(self, said: str, line: int = 0, why: str = "") -> None:
        """Say that gred has nothing for *said*; *why* explains or tells what to do."""
        tail = f": {why}" if why else ""
        self.remark(f"no equivalent: {escape(said)}{tail}", line)

    def refuse(self, said: str, line: int = 0, why: str = "") -> None:
        """Say that without *said* it would be another tunnel: what is printed is a comment."""
        self.no_equivalent(said, line, why)
        self.refused = True

    @property
    def has_remote(self) -> bool:
        """Whether it has one other end, an address or a name."""
        return bool(self.values.get("remote") or self.values.get("remote_name"))

    def tunnel(self, source: str) -> TunnelConfig:
        """Return the tunnel; *source* is the name of the input."""
        return TunnelConfig(name=self.name, location=Location(source, self.line), **self.values)


@dataclass(slots=True)
class Drafts:
    """What was read of one input, in its order: drafts, and remarks that belong to none."""

    items: list[Draft | Remark] = field(default_factory=list)
    _by_name: dict[str, Draft] = field(default_factory=dict)

    def begin(self, name: str, line: int = 0) -> Draft:
        """Begin a tunnel that the input calls *name*; with a name that exists it goes on."""
        if (known := self._by_name.get(name)) is not None:
            return known
        draft = Draft(_interface_name(name, {one.name for one in self._by_name.values()}), line)
        if draft.name != name:
            draft.remark(f"called {escape(name)} there, which no interface can be called", line)
        self._by_name[name] = draft
        self.items.append(draft)
        return draft

    def find(self, name: str) -> Draft | None:
        """Return the tunnel that the input calls *name*."""
        return self._by_name.get(name)

    def each(self) -> list[Draft]:
        """Return the tunnels, in the order of the input."""
        return list(self._by_name.values())

    def remark(self, text: str, line: int = 0) -> None:
        """Say something that belongs to no tunnel, once."""
        if (said := Remark(text, line)) not in self.items:
            self.items.append(said)

    def no_equivalent(self, said: str, line: int = 0, why: str = "") -> None:
        """Say that gred has nothing for *said*."""
        tail = f": {why}" if why else ""
        self.remark(f"no equivalent: {escape(said)}{tail}", line)


def _host(text: str) -> IPNetwork | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _interface_name(name: str, taken: set[str]) -> str:
    """Return *name*, or the nearest that an interface may have and none of *taken* is."""
    if not refuse_interface_name(name) and name not in taken:
        return name
    kept = "".join(c if "!" <= c <= "~" and c not in "/:%#;[]\"'" else "-" for c in name)
    kept = kept.strip("-.")[:INTERFACE_NAME_MAX] or "tunnel"
    if refuse_interface_name(kept):
        kept = f"gre-{kept}"[:INTERFACE_NAME_MAX]
    number, unique = 1, kept
    while unique in taken:
        number += 1
        unique = f"{kept[: INTERFACE_NAME_MAX - len(str(number)) - 1]}-{number}"
    return unique
