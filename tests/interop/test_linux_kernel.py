"""gred against the GRE of a Linux kernel: one boot tries every cell, each is a test here.

Figures and the table: ``python -m tests.interop.report``. The functions behind the cells:
``tests/interop/guest``.
"""

from collections.abc import Iterable

import pytest

from tests import require
from tests.interop import linux, machine
from tests.interop.matrix import CELLS, Cell

# The first test waits for the whole run.
pytestmark = pytest.mark.timeout(machine.TIMEOUT + 60)


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> linux.Run:
    """Try the cells that pytest was asked for, all in one boot."""
    require.root()
    if lack := machine.missing():
        require.lacks(lack)
    return linux.run(_selected(request.session.items))


def _selected(items: Iterable[pytest.Item]) -> list[Cell]:
    chosen = {
        item.callspec.params["cell"]
        for item in items
        if isinstance(item, pytest.Function) and item.function is test_cell
    }
    return [cell for cell in CELLS if cell in chosen]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_cell(run: linux.Run, cell: Cell) -> None:
    result = run.results.get(cell.name)
    assert result is not None, f"the machine said nothing about it:\n{run.console}"
    assert result.passed, f"{result.detail}\n{run.console}"
