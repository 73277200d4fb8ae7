"""One suite for both twins: every test that takes ``codec`` or ``io`` runs on each."""

from collections.abc import Iterator
from typing import Any

import pytest

from gred.dataplane import pure_codec, pure_io
from tests import require


@pytest.fixture(params=["python", "c"])
def codec(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The codec: the pure-Python twin, then the extension."""
    if request.param == "python":
        yield pure_codec
        return
    require.extension()
    from gred.dataplane import _codec

    yield _codec


@pytest.fixture(params=["python", "c"])
def io(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The I/O: the pure-Python twin, then the extension."""
    if request.param == "python":
        yield pure_io
        return
    require.extension()
    from gred.dataplane import _io

    yield _io
