"""Main file and drop-ins -> Config, or every problem at once.

A value is read here and nowhere else; what takes more than one value to judge is in verify.py.
The network and the kernel are not asked.
"""

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gred.config import hints, text, verify
from gred.config.model import Config, DaemonConfig, Location, TunnelConfig
from gred.config.options import SECTIONS, Option
from gred.config.problems import ConfigurationError, Problem, display, escape, quote, suggest
from gred.config.values import BadValueError, refuse_interface_name


def load(path: Path) -> Config:
    """Return the configuration in the file *path* and in the drop-in files beside it.

    The drop-ins of ``gred.conf`` are ``gred.conf.d/*.conf``, in the order of their names. They
    add sections and daemon options; they do not override any. Raise ConfigurationError with all
    that is wrong in all files, in the order of files and lines.
    """
    drop_ins, problems = _drop_ins(path)
    files = [path, *drop_ins]
    gathering = _Gathering(problems)
    for file in files:
        sections, syntax = text.read(file)
        problems += syntax
        for section in sections:
            gathering.add(section)
    config = gathering.finish(display(path))
    if problems:
        raise ConfigurationError(_sorted(problems, files))
    return config


def _drop_ins(path: Path) -> tuple[list[Path], list[Problem]]:
    """Return the drop-in files of *path*; hidden ones (an editor's) do not count."""
    directory = path.parent / f"{path.stem}.conf.d"
    try:
        found = sorted(directory.iterdir())
    except (FileNotFoundError, ValueError):  # ValueError: a NUL in the name; reading *path* tells
        return [], []
    except OSError as error:
        if error.errno == errno.ENOTDIR and not directory.exists():
            return [], []
        finding = f"{display(directory)}: cannot be read: {error.strerror}"
        return [], [Problem(None, None, None, finding)]
    return [f for f in found if f.name.endswith(".conf") and not f.name.startswith(".")], []


def _sorted(problems: Iterable[Problem], files: Iterable[Path]) -> list[Problem]:
    """Return *problems* in reading order: those of no line first, then by file and line."""
    order = {display(file): rank for rank, file in enumerate(files)}

    def key(problem: Problem) -> tuple[int, int]:
        place = problem.location
        return (order.get(place.file, 0), place.line) if place else (-1, 0)

    return sorted(problems, key=key)


class _Gathering:
    """What was read so far: sections become values, problems go to the list that was given."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._daemon: dict[str, Any] = {}
        self._daemon_places: dict[str, Location] = {}
        self._names: list[tuple[str, Location]] = []
        self._seen: set[str] = set()
        self._tunnels: list[TunnelConfig] = []
        self._notes: list[str] = []

    def add(self, section: text.Section) -> None:
        """Take one section of one file."""
        kind, _, name = section.name.partition(" ")
        before = len(self._problems)
        if kind not in SECTIONS:
            known = suggest(kind, SECTIONS)
            self._refuse(section, None, f"unknown section; {_expected_section(known, name, kind)}")
            kind = known
        elif (kind == "Tunnel") != bool(name):
            self._refuse(section, None, f"unknown section; {_expected_section(kind, name)}")
        if kind == "Daemon":
            self._add_daemon(section)
        elif kind == "Tunnel":
            if name and (reason := refuse_interface_name(name)):
                self._refuse(section, None, reason)
            repeated = name in self._seen
            self._seen.add(name)
            self._names.append((name, section.location))
            places: dict[str, Location] = {}
            self._notes = []
            values = self._read(section, SECTIONS["Tunnel"], places)
            if len(self._problems) == before and not repeated:
                self._tunnels.append(
                    TunnelConfig(
                        name=name,
                        location=section.location,
                        places=places,
                        notes=tuple(self._notes),
                        **values,
                    )
                )

    def finish(self, file: str) -> Config:
        """Return the whole, after a look at it; not to be used when there are problems."""
        self._problems += verify.repeated_names(self._names)
        config = Config(
            daemon=DaemonConfig(**self._daemon), tunnels=tuple(self._tunnels), file=file
        )
        self._problems += verify.verify(config)
        return config

    def _add_daemon(self, section: text.Section) -> None:
        if section.repeats:
            self._refuse(section, None, "expected this section once in a file, got it again")
        self._daemon |= self._read(section, SECTIONS["Daemon"], self._daemon_places)

    def _read(
        self, section: text.Section, options: Mapping[str, Option], places: dict[str, Location]
    ) -> dict[str, Any]:
        """Return the fields that *section* sets; note in *places* where each option stands."""
        values: dict[str, Any] = {}
        setters = {f: other for other in places for f in options[other].fields}
        for entry in section.entries:
            option = options.get(entry.name)
            if option is None:
                self._refuse(section, entry, f"unknown option; {_expected_option(entry, options)}")
                continue
            if option.name in places:
                first = places[option.name]
                self._refuse(section, entry, f"expected once, got it again; first at {first}")
                continue
            clash = next((setters[f] for f in option.fields if f in setters), None)
            if clash is not None:
                self._refuse(
                    section,
                    entry,
                    f"expected this or {clash}=, got both; {clash}= is at {places[clash]}",
                )
            places[option.name] = entry.location
            setters |= dict.fromkeys(option.fields, option.name)
            values |= self._read_value(section, entry, option)
        return values

    def _read_value(
        self, section: text.Section, entry: text.Entry, option: Option
    ) -> dict[str, Any]:
        expected = option.kind.expected
        if not entry.value:
            self._refuse(section, entry, f"expected {expected}, got nothing")
            return {}
        try:
            values = option.read(entry.value)
        except BadValueError as error:
            for finding in error.findings:
                got = quote(finding.got) + (f" ({finding.hint})" if finding.hint else "")
                self._refuse(section, entry, f"expected {expected}, got {got}")
            return {}
        if note := option.kind.note(entry.value):
            self._notes.append(str(Problem(entry.location, section.name, entry.name, note)))
        return values

    def _refuse(self, section: text.Section, entry: text.Entry | None, message: str) -> None:
        place = entry.location if entry else section.location
        name = entry.name if entry else None
        self._problems.append(Problem(place, section.name, name, message))


def _expected_section(kind: str, name: str, written: str = "") -> str:
    if owner := hints.section(written):
        return f"it is {owner}'s; expected [Daemon] or [Tunnel NAME]"
    if not kind and not name and not refuse_interface_name(written):
        return f"expected [Tunnel {escape(written)}], or [Daemon]"
    match kind:
        case "Daemon":
            return "expected [Daemon]"
        case "Tunnel":
            return f"expected [Tunnel {escape(name) if name else 'NAME'}]"
        case _:
            return "expected [Daemon] or [Tunnel NAME]"


def _expected_option(entry: text.Entry, options: Mapping[str, Option]) -> str:
    """Return the likely option, the section where it belongs, or all there are."""
    for section, others in SECTIONS.items():
        if entry.name in others:
            return f"it belongs to [{section}{' NAME' if section == 'Tunnel' else ''}]"
    if known := hints.option(entry.name):
        return known
    synonyms = {option.ip_word: name for name, option in options.items() if option.ip_word}
    if likely := suggest(entry.name, options, synonyms):
        return f"did you mean {likely}?"
    return f"expected one of {', '.join(options)}"
