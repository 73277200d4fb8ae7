"""Reads what C sources declare at file scope: structures and numbers. For tests that compare.

It reads as much of C as gred's own files use, and says so where it meets something else.
"""

import re
from collections.abc import Iterable
from pathlib import Path

Field = tuple[str, str, int]
"""Type, name, and how many there are of it."""

_ENUM = re.compile(r"^enum(?: \w+)? \{([^}]*)\};", re.MULTILINE)
_DEFINE = re.compile(r"^#define (\w+) +(\S.*)$", re.MULTILINE)
_STRUCT = re.compile(r"^struct (\w+) \{([^}]*)\};", re.MULTILINE)
_FIELD = re.compile(r"(\w+) (\w+)((?:\[\w+\])*)")
_NUMBER = re.compile(r"[0-9a-fA-Fx]+[uU]?[lL]*(?: << [0-9]+)?")


class UnreadableError(AssertionError):
    """C that is not understood here."""


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def value(text: str, known: dict[str, int]) -> int:
    """Return the number that an expression is: a literal, a shift, or a name."""
    text = text.strip()
    if text in known:
        return known[text]
    if text == "UINT32_MAX":
        return 0xFFFFFFFF
    if not _NUMBER.fullmatch(text):
        raise UnreadableError(f"what number is {text}?")
    number, _, shift = text.partition(" << ")
    return int(number.rstrip("uUlL"), 0) << int(shift or "0")


def numbers(text: str) -> dict[str, int]:
    """Return the constants of all enumerations and definitions."""
    text = without_comments(text)
    found: dict[str, int] = {}
    for match in _ENUM.finditer(text):
        following = 0
        for item in filter(None, map(str.strip, match[1].split(","))):
            name, equals, expression = (part.strip() for part in item.partition("="))
            found[name] = value(expression, found) if equals else following
            following = found[name] + 1
    for name, expression in _DEFINE.findall(text):
        found[name] = value(expression, found)
    return found


def structures(text: str, known: dict[str, int]) -> dict[str, list[Field]]:
    """Return the fields of all structures, in their order."""
    found: dict[str, list[Field]] = {}
    for match in _STRUCT.finditer(without_comments(text)):
        fields = []
        for declaration in filter(None, (" ".join(one.split()) for one in match[2].split(";"))):
            field = _FIELD.fullmatch(declaration)
            if field is None:
                raise UnreadableError(f"struct {match[1]}: {declaration}")
            count = 1
            for size in re.findall(r"\[(\w+)\]", field[3]):
                count *= value(size, known)
            fields.append((field[1], field[2], count))
        found[match[1]] = fields
    return found


def read(paths: Iterable[Path]) -> dict[str, dict[str, int]]:
    """Return the numbers of each file, by its name."""
    return {path.name: numbers(path.read_text(encoding="utf-8")) for path in paths}
