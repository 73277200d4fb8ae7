"""Two hosts on a plain wire."""

from collections.abc import Iterator

import pytest

from gred.lab.hosts import Host, Lab
from tests import require


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Host, Host]]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab("traffic") as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.wire(left, right)
        for host, number in ((left, 1), (right, 2)):
            host.address(f"10.0.0.{number}/24")
            host.address(f"fd00::{number}/64")
        yield left, right
