"""A file -> sections and entries, each with its line. Nothing here knows which options there are.

The grammar, on top of iniconfig's:

* UTF-8, with or without a byte order mark; lines end with LF or CRLF; no other control characters.
* A comment is a line that begins with "#" or ";", or the end of a line from a "#" after a blank.
* "[NAME]" begins a section, "Option=value" is an entry. Either may be indented.
* Any other indented line goes on with the value of the entry above it.

iniconfig stops at the first error of a file, a repeated name among them, reads "Option: value" as
an entry, and takes a section header without its bracket for a continuation. So what it would stop
at or misread is found first and taken out or marked, line for line, and its line numbers stay true.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iniconfig import IniConfig, ParseError

from gred.config.model import Location
from gred.config.problems import Problem, display, quote

SIZE_MAX = 4 << 20  # bytes; ten thousand tunnels with every option written fit

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_SECTION = re.compile(r"\[([^\[\]#;]*)\]\s*(\s#.*)?")
_ENTRY = re.compile(r"[^\s=:][^=:]*=")
_INDENTED_ENTRY = re.compile(r"[A-Za-z][A-Za-z0-9]*\s*=")
_INLINE_COMMENT = re.compile(r"(^|\s)#.*")
_MARK = "\x00"  # makes a name unique; cannot be in a file, _CONTROL refuses it


@dataclass(frozen=True, slots=True)
class Entry:
    """One option as it was written. A value over several lines has them joined by LF."""

    name: str
    value: str
    location: Location


@dataclass(frozen=True, slots=True)
class Section:
    """One section as it was written. *repeats*: an earlier one in this file has the same name."""

    name: str
    location: Location
    entries: tuple[Entry, ...]
    repeats: bool = False


def read(path: Path) -> tuple[list[Section], list[Problem]]:
    """Return the sections of the file *path* that can be used, and what is wrong with the rest.

    A file that cannot be read is a problem like any other; nothing is raised.
    """
    file = display(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(SIZE_MAX + 1)
    except OSError as error:
        return [], [_whole_file(file, f"cannot be read: {error.strerror}")]
    except ValueError:
        return [], [_whole_file(file, "cannot be read: the name has a NUL in it")]
    if len(data) > SIZE_MAX:
        return [], [_whole_file(file, f"expected at most {SIZE_MAX >> 20} MiB, got more")]
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        finding = f"expected UTF-8 text, got the byte 0x{error.object[error.start]:02x}"
        if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            finding += " (it is UTF-16: save it as UTF-8)"
        return [], [Problem(Location(file, line), None, None, finding)]
    return parse(text, file)


def parse(text: str, file: str) -> tuple[list[Section], list[Problem]]:
    """Return the sections in *text* that can be used, and what is wrong with the rest."""
    text = text.replace("\r\n", "\n")
    if control := _CONTROL.search(text):
        line = text.count("\n", 0, control.start()) + 1
        finding = f"expected text, got the control character U+{ord(control[0]):04X}"
        if control[0] == "\r":
            finding += " (lines end with LF or CRLF)"
        return [], [Problem(Location(file, line), None, None, finding)]
    lines, problems = _screen(text.split("\n"), file)
    try:
        ini = IniConfig(file, data="\n".join(lines))
    except ParseError as error:  # nothing that is known; a later iniconfig may be stricter
        location = Location(file, error.lineno + 1)
        return [], [*problems, Problem(location, None, None, f"expected INI text: {error.msg}")]
    return _sections(ini, file), problems


def _whole_file(file: str, finding: str) -> Problem:
    return Problem(None, None, None, f"{file}: {finding}")


def _screen(lines: list[str], file: str) -> tuple[list[str], list[Problem]]:
    """Return as many *lines*, to none of which iniconfig will object, and what was wrong.

    A line with a problem becomes empty, and so do the lines that continue it. A section header
    that cannot be read becomes an unnamed section, so that its entries do not fall to the section
    above; nobody looks at them. A name that is there already gets a mark.
    """
    screened: list[str] = []
    problems: list[Problem] = []
    above: Literal["nothing", "section", "entry", "refused"] = "nothing"
    orphaned = False
    sections: set[str] = set()
    entries: set[str] = set()

    def once(name: str, names: set[str]) -> str:
        unique = f"{name}{_MARK}{len(screened)}" if name in names else name
        names.add(unique)
        return unique

    def refuse(expected: str, line: str) -> None:
        location = Location(file, len(screened) + 1)
        got = quote(line.strip())
        problems.append(Problem(location, None, None, f"expected {expected}, got {got}"))

    for line in lines:
        bare, indented, keep = line.strip(), line[:1].isspace(), ""
        header = _SECTION.fullmatch(bare)
        if not bare or bare[0] in "#;":
            pass
        elif header and header[1].strip():
            keep, above = f"[{once(' '.join(header[1].split()), sections)}]", "section"
            entries.clear()
        elif header or (bare[0] == "[" and not indented):
            refuse('a section such as "[Tunnel NAME]"', line)
            keep, above = f"[{_MARK}{len(screened)}]", "section"
            entries.clear()
        elif above == "nothing":
            if not orphaned:
                refuse('a section such as "[Tunnel NAME]" before the first option', line)
            orphaned = True
        elif _INDENTED_ENTRY.match(bare) or (_ENTRY.match(bare) and not indented):
            name, _, value = bare.partition("=")
            keep, above = f"{once(name.rstrip(), entries)}={value}", "entry"
        elif not indented or above == "section":
            refuse('"Option=value"', line)
            above = "refused"
        elif above == "entry":
            keep = line
        screened.append(keep)
    return screened, problems


def _sections(ini: IniConfig, file: str) -> list[Section]:
    found = []
    for section in ini:
        name, mark, _ = section.name.partition(_MARK)
        if not name:
            continue
        entries = tuple(
            Entry(
                key.partition(_MARK)[0],
                _without_comments(value),
                Location(file, ini.lineof(section.name, key) or 0),
            )
            for key, value in section.items()
        )
        location = Location(file, ini.lineof(section.name) or 0)
        found.append(Section(name, location, entries, repeats=bool(mark)))
    return found


def _without_comments(value: str) -> str:
    kept = (_INLINE_COMMENT.sub("", line).strip() for line in value.split("\n"))
    return "\n".join(line for line in kept if line)
