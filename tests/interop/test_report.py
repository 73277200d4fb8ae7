"""docs/interop.md shows the matrix as it is."""

import pytest

from tests.interop import report
from tests.interop.linux import Run
from tests.interop.matrix import CELLS, CHECKS, FORMS, SCENARIOS, TUNNELS, Result


def test_the_document_has_a_row_for_every_form_and_scenario() -> None:
    """If not: python -m tests.interop.report."""
    lines = report.DOCUMENT.read_text().splitlines()
    for form in FORMS:
        assert any(line.startswith(f"| {report.row(form)} |") for line in lines), form.name
    for sentence in SCENARIOS.values():
        assert any(line.startswith(f"| {sentence} |") for line in lines), sentence


def test_no_cell_of_the_document_failed() -> None:
    text = report.DOCUMENT.read_text()
    assert "**failed**" not in text
    assert "not tried" not in text


def test_the_table_shows_what_failed_and_what_was_not_tried() -> None:
    results = {cell.name: Result(cell.name, passed=True, detail="", seconds=0) for cell in CELLS}
    results["plain:tcp6"] = Result("plain:tcp6", passed=False, detail="why", seconds=0)
    del results["loss"]
    table = report.table(Run(results, "", "6.1"))
    columns = ["passed"] * len(CHECKS)
    columns[list(CHECKS).index("tcp6")] = "**failed**"
    assert f"| {report.row(FORMS[0])} | {' | '.join(columns)} |" in table
    assert f"| {SCENARIOS['loss']} | not tried |" in table


def test_text_outside_the_marks_stays() -> None:
    document = f"before {report.BEGIN} old {report.END} after"
    assert report.insert(document, "new") == f"before {report.BEGIN}\n\nnew\n\n{report.END} after"
    with pytest.raises(ValueError, match="no place"):
        report.insert("no marks", "new")


def test_tunnels_have_names_of_their_own_that_fit() -> None:
    names = [tunnel.name for tunnel in TUNNELS]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 for name in names)
