"""gred as README installs it, in a system with systemd as its first process. One boot for all.

The functions behind the cells: ``tests/systemd/guest``.
"""

from collections.abc import Iterable

import pytest

from tests import require
from tests.interop import machine
from tests.systemd import debian
from tests.systemd.matrix import CELLS, LAST_WORDS

# The first test waits for the whole run.
pytestmark = pytest.mark.timeout(machine.TIMEOUT + 120)


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest) -> debian.Run:
    """Try the cells that pytest was asked for, all in one boot."""
    require.root()
    if lack := debian.missing():
        require.lacks(lack)
    return debian.run(_selected(request.session.items))


def _selected(items: Iterable[pytest.Item]) -> list[str]:
    chosen = {
        item.callspec.params["cell"]
        for item in items
        if isinstance(item, pytest.Function) and item.function is test_cell
    }
    return [cell for cell in CELLS if cell in chosen]


@pytest.mark.parametrize("cell", [*CELLS, *LAST_WORDS])
def test_cell(run: debian.Run, cell: str) -> None:
    result = run.results.get(cell)
    assert result is not None, f"the machine said nothing about it:\n{run.console}"
    assert result.passed, f"{result.detail}\n{run.console}"
