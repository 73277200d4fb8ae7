"""Writes the table of what passed against a Linux kernel into docs/interop.md.

    python -m tests.interop.report

Runs the whole matrix. Everything in the file outside of the two marks stays as it is.
"""

import sys
from pathlib import Path

import tests
from tests.interop import linux, machine
from tests.interop.matrix import CELLS, CHECKS, FORMS, SCENARIOS, Cell, Tunnel

DOCUMENT = Path(tests.__file__).parents[1] / "docs/interop.md"
BEGIN = "<!-- written by python -m tests.interop.report: begin -->"
END = "<!-- written by python -m tests.interop.report: end -->"
_PATHS = {
    "wire": "",
    "unfinished": "checksums left to the receiver",
    "rough": "netem",
    "narrow": "narrow path",
}


def table(run: linux.Run) -> str:
    """Return both tables as Markdown."""
    lines = [
        f"Linux {run.release}, every tunnel with IPv4 and IPv6 inside, each check both ways.",
        "",
        f"| tunnel | `ip link add type ...` | gred.conf | {' | '.join(CHECKS.values())} |",
        f"|---|---|---|{'---|' * len(CHECKS)}",
    ]
    for form in FORMS:
        cells = (_word(run, Cell(f"{form.name}:{check}")) for check in CHECKS)
        lines.append(f"| {row(form)} | {' | '.join(cells)} |")
    lines += ["", "| scenario | result |", "|---|---|"]
    for name, sentence in SCENARIOS.items():
        lines.append(f"| {sentence} | {_word(run, Cell(name))} |")
    return "\n".join(lines)


def row(form: Tunnel) -> str:
    """Return the first columns of a form's row."""
    where = f", {_PATHS[form.path]}" if _PATHS[form.path] else ""
    linux_options = f"`{f'{form.kind} {form.linux}'.strip()}`"
    gred_options = f"`{form.gred}`" if form.gred else ""
    return f"{form.name}{where} | {linux_options} | {gred_options}"


def insert(document: str, text: str) -> str:
    """Return *document* with *text* between the marks. Raises ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no place for the table")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def _word(run: linux.Run, cell: Cell) -> str:
    result = run.results.get(cell.name)
    if result is None:
        return "not tried"
    return "passed" if result.passed else "**failed**"


def main() -> int:
    """Run, write, and tell what failed."""
    lack = machine.missing()
    if lack is not None:
        sys.exit(lack)
    run = linux.run(CELLS)
    DOCUMENT.write_text(insert(DOCUMENT.read_text(), table(run)))
    bad = [cell for cell in CELLS if _word(run, cell) != "passed"]
    for cell in bad:
        result = run.results.get(cell.name)
        print(f"{cell.name}: {result.detail if result else 'not tried'}")  # noqa: T201 - a command
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
