"""README's commands and files, as who follows it would type and write them. Runs nothing.

What is indented by four blanks is typed, section by section; of a block that begins with the name
of a file, what follows is written to it, until a line ``# as root``.
"""

from dataclasses import dataclass
from pathlib import Path

import tests

_README = Path(tests.__file__).parents[1] / "README.md"
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Block:
    """What is indented together: a file to write, where there is one, and commands."""

    file: Path | None
    text: str
    commands: tuple[str, ...]


def sections() -> dict[str, list[Block]]:
    """Return the blocks of each section that has any, by its title."""
    found: dict[str, list[Block]] = {}
    title, lines = "", list[str]()
    for line in [*_README.read_text(encoding="utf-8").splitlines(), "end"]:
        if line.startswith(_INDENT) or (lines and not line):
            lines.append(line.removeprefix(_INDENT))
            continue
        if lines:
            found.setdefault(title, []).append(_block(lines))
            lines = []
        if line.startswith("## "):
            title = line.removeprefix("## ")
    return found


def commands(title: str) -> list[str]:
    """Return all commands of one section."""
    return [command for block in sections()[title] for command in block.commands]


def _block(lines: list[str]) -> Block:
    while not lines[-1]:
        lines.pop()
    file, text = None, list[str]()
    if lines[0].startswith("# /"):
        split = lines.index("# as root")
        file, text, lines = Path(lines[0].removeprefix("# ")), lines[1:split], lines[split + 1 :]
    return Block(file, "".join(f"{line}\n" for line in text), tuple(lines))
