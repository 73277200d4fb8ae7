"""Plants every fault of faults.py and writes what gred said of each into docs/diagnosis.md.

    python -m tests.netns.diagnosis_document        as root, on a machine with nothing else to do

Everything in the file outside of the two marks stays as it is.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import tests
from tests.netns.diagnosis import Row
from tests.netns.faults import FAULTS, plant

DOCUMENT = Path(tests.__file__).parents[1] / "docs/diagnosis.md"
BEGIN = "<!-- written by python -m tests.netns.diagnosis_document: begin -->"
END = "<!-- written by python -m tests.netns.diagnosis_document: end -->"
GROUPS = {
    "peer": "The other end's settings",
    "path": "The path",
    "host": "This host",
    "inside": "Inside the tunnel",
    "well": "Nothing is wrong, though it may look so",
}
_QUIET = "says nothing, rightly"
_BAD = {"silent": "**says nothing**", "vague": "**vague:**", "wrong": "**wrong:**"}


def table(rows: Iterable[Row]) -> str:
    """Return a table for each group as Markdown, and how many ends were right."""
    rows = list(rows)
    good = sum(row.good for row in rows)
    bad = len(rows) - good
    lines = [f"{len(FAULTS)} faults, {len(rows)} ends: {good} are right, {bad} (marked) are not."]
    for group, title in GROUPS.items():
        lines += ["", f"### {title}", "", "| what | seen from | state or event | sentence |"]
        lines += ["|---|---|---|---|"]
        lines += [_line(row) for row in rows if row.name.startswith(f"{group}-")]
    return "\n".join(lines)


def _line(row: Row) -> str:
    sentence = row.sentence.replace("|", "\\|").strip()
    said = _QUIET if row.verdict == "quiet" else f"{_BAD.get(row.verdict, '')} {sentence}".strip()
    return f"| {FAULTS[row.name].what} | {row.end} | `{row.state}` | {said} |"


def insert(document: str, text: str) -> str:
    """Return *document* with *text* between the marks. Raises ValueError without them."""
    before, begin, rest = document.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} has no place for the table")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def main() -> int:
    """Plant, write, and tell whether every end was right."""
    if os.geteuid() != 0:
        sys.exit("needs root: it makes network namespaces")
    rows = plant(FAULTS)
    DOCUMENT.write_text(insert(DOCUMENT.read_text(), table(rows)))
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
