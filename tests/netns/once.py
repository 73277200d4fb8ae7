"""For tests that look at control alone: with this fixture a module runs once, not for each twin.

from tests.netns.once import implementation  # noqa: F401 - control alone
"""

import pytest

from tests import require


@pytest.fixture(scope="module")
def implementation() -> str:
    """The half of each twin that moves packets in the shipped service."""
    require.extension()
    return "c"
