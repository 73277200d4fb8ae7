"""What devices are and do below IP. With devices of other kinds: tests/netns/test_doctor.py."""

import errno

import pytest

from gred.control.kernel.drivers import hears, offloads


def test_the_loopback_has_all_offloads_but_that_of_hardware() -> None:
    assert set(offloads("lo")) == {"tso", "gso", "gro", "lro"}
    assert offloads("lo")["lro"] is False


def test_nobody_else_is_heard_by_the_loopback() -> None:
    assert hears("lo") is False


def test_a_device_that_is_not_there_is_an_error() -> None:
    for ask in (offloads, hears):
        with pytest.raises(OSError, match="No such device") as refused:
            ask("gred-none")
        assert refused.value.errno == errno.ENODEV
