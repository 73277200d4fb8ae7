"""The MTU of a path: learned by the kernel or told, lowered, forgotten."""

from dataclasses import replace

import pytest

from gred.control.path_mtu import LIFETIME, LOOK_AGAIN, PathMtu
from gred.control.paths import RouteInfo

ROUTE = RouteInfo(2, 1500)
LEARNED = replace(ROUTE, path_mtu=1300, expires=590.0)


def test_what_the_kernel_learned_counts_until_it_forgets() -> None:
    path = PathMtu(4)
    assert not path.look(ROUTE, 0)
    assert path.look(LEARNED, 1)
    assert path.mtu == 1300
    assert not path.look(LEARNED, 2)
    assert path.look(ROUTE, 600)
    assert path.mtu is None


def test_it_looks_again_each_minute_and_after_the_expiry() -> None:
    path = PathMtu(4)
    path.look(ROUTE, 0)
    assert path.due(0) is None
    path.look(LEARNED, 0)
    assert path.due(0) == LOOK_AGAIN
    path.look(replace(LEARNED, expires=2.0), 0)
    assert path.due(0) == 2.5
    assert path.due(100) == 0.5


def test_what_was_told_counts_where_the_kernel_learns_nothing() -> None:
    path = PathMtu(4)
    path.tell(1400, 0)
    assert path.look(ROUTE, 1)
    assert path.mtu == 1400
    assert not path.look(ROUTE, LIFETIME - 1)
    assert path.look(ROUTE, LIFETIME)
    assert path.mtu is None


def test_what_was_told_is_forgotten_when_the_kernel_knows() -> None:
    """It forgets in its own time, and the tunnel with it."""
    path = PathMtu(4)
    path.tell(1300, 0)
    path.look(LEARNED, 1)
    path.look(ROUTE, 2)
    assert path.mtu is None


def test_a_larger_number_does_not_replace_a_smaller_one() -> None:
    path = PathMtu(4)
    path.tell(1300, 0)
    path.tell(1400, 1)
    path.look(ROUTE, 2)
    assert path.mtu == 1300


@pytest.mark.parametrize("told", [0, 1500, 9000])
def test_what_is_no_obstacle_changes_nothing(told: int) -> None:
    path = PathMtu(4)
    path.tell(told, 0)
    assert not path.look(ROUTE, 1)


@pytest.mark.parametrize(("version", "mtu", "fragmentable"), [(4, 552, True), (6, 1280, False)])
def test_there_is_a_least_number(version: int, mtu: int, *, fragmentable: bool) -> None:
    """A forged one cannot bring a tunnel to a halt; a true one needs fragments."""
    path = PathMtu(version)
    path.tell(100, 0)
    path.look(ROUTE, 1)
    assert (path.mtu, path.fragmentable) == (mtu, fragmentable)


def test_below_its_least_number_the_kernel_asks_for_fragments() -> None:
    path = PathMtu(4)
    path.look(replace(LEARNED, path_mtu=552, locked=True), 0)
    assert path.fragmentable
