"""How a problem with a configuration is told: the place, what was found, what was expected.

Text that came from a file is shown escaped and cut short, so that it can neither forge a log line
nor fill a screen. No file is read here.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from gred.config.model import Location

_LONGEST_QUOTE = 60


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct. *section* is written without brackets: ``Tunnel nyc``."""

    location: Location | None
    section: str | None
    option: str | None
    message: str

    def __str__(self) -> str:
        """Return ``file:line: [section] option: message``, less what is not known."""
        subject = [f"[{escape(self.section)}]"] if self.section is not None else []
        subject += [escape(self.option)] if self.option is not None else []
        parts = [str(self.location)] if self.location is not None else []
        parts += [" ".join(subject)] if subject else []
        return ": ".join([*parts, self.message])


class ConfigurationError(Exception):
    """A configuration that cannot be used; ``problems`` has everything that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


def escape(text: str) -> str:
    """Return *text* on one line, printable and at most 60 characters long."""
    text = " ".join(text[: 2 * _LONGEST_QUOTE].split("\n"))
    if len(text) > _LONGEST_QUOTE:
        text = text[: _LONGEST_QUOTE - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quote(text: str) -> str:
    """Return *text* escaped and in quotes, as the finding of a message."""
    return f'"{escape(text)}"'


def display(path: str | os.PathLike[str]) -> str:
    """Return *path* as it may be printed on any terminal, whatever bytes its name has."""
    name = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def suggest(name: str, known: Iterable[str], synonyms: Mapping[str, str] | None = None) -> str:
    """Return the one of *known* that *name* was most likely meant to be, or an empty string.

    *synonyms* are words of other tools, in lower case, for a known name.
    """
    words = {word.lower(): word for word in known} | dict(synonyms or {})
    close = difflib.get_close_matches(name[:_LONGEST_QUOTE].lower(), words, n=1)
    return words[close[0]] if close else ""
