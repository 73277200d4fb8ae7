"""The last descriptors are kept."""

import errno
import os
import resource
from collections.abc import Iterator

import pytest

from gred.dataplane.descriptors import RESERVE, raise_the_limit, refuse_the_last


@pytest.fixture
def limit() -> Iterator[int]:
    """What this process may open, as it is put back afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    yield before[1] - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_last_ones_are_refused_and_no_others(limit: int) -> None:
    refuse_the_last(limit - RESERVE - 1)
    refuse_the_last(limit - RESERVE, reserve=RESERVE - 1)
    with pytest.raises(OSError, match=os.strerror(errno.EMFILE)) as caught:
        refuse_the_last(limit - RESERVE)
    assert caught.value.errno == errno.EMFILE


def test_the_limit_is_raised_as_far_as_it_may_be(limit: int) -> None:
    raise_the_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit + 1, limit + 1)
