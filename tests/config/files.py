"""Writes configurations and collects what gred says about them."""

import textwrap
from pathlib import Path

from gred.config import Config, ConfigurationError, load


def write(directory: Path, text: str, **drop_ins: str) -> Path:
    """Write ``gred.conf`` and ``gred.conf.d/NAME.conf``; return the path of the first."""
    path = directory / "gred.conf"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    for name, content in drop_ins.items():
        drop_in = directory / "gred.conf.d" / f"{name}.conf"
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(textwrap.dedent(content), encoding="utf-8")
    return path


def load_text(directory: Path, text: str, **drop_ins: str) -> Config:
    return load(write(directory, text, **drop_ins))


def problems_of(path: Path) -> list[str]:
    """Return the problems of a configuration, with file names relative to its directory."""
    try:
        load(path)
    except ConfigurationError as error:
        return [str(problem).replace(f"{path.parent}/", "") for problem in error.problems]
    return []


def problems(directory: Path, text: str, **drop_ins: str) -> list[str]:
    return problems_of(write(directory, text, **drop_ins))
