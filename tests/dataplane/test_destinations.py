"""The rows of a tunnel with many remotes: what of them stays when others come, go and change."""

import ctypes
from typing import Any

import pytest

from gred.dataplane.destinations import Destinations
from gred.dataplane.layout import Destination

NEAR, FAR = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])
NOW = 77  # the interval that it is


def template(**fields: Any) -> Destination:
    return Destination(family=4, **fields)


@pytest.fixture
def places() -> Destinations:
    return Destinations(template())


def send(places: Destinations, row: int, **fields: int) -> None:
    """Let *row* be as the I/O leaves it."""
    size = ctypes.sizeof(Destination)
    assert (row + 1) * size <= len(places.memory)
    place = Destination.from_buffer(places.memory, row * size)
    for name, value in fields.items():
        setattr(place, name, value)


def test_each_remote_is_listed_once(places: Destinations) -> None:
    assert places.remotes() == []
    for remote in (FAR, FAR):
        places.take(remote)
    places.take_group([NEAR, FAR])
    assert places.remotes() == [FAR, NEAR]


def test_nothing_was_sent_to_whom_nobody_knows(places: Destinations) -> None:
    assert places.longest_sent(FAR, NOW) == 0
    places.take(FAR)
    assert places.longest_sent(FAR, NOW) == 0


@pytest.mark.parametrize(("now", "longest"), [(0, 1400), (1, 1000), (2, 0), (-1, 0)])
def test_what_was_sent_counts_for_two_intervals(
    places: Destinations, now: int, longest: int
) -> None:
    row = places.take(FAR)
    send(places, row, sent_interval=NOW, sent_longest=1000, sent_before=1400)
    assert places.longest_sent(FAR, NOW + now) == longest


def test_it_stays_whatever_else_changes(places: Destinations) -> None:
    row = places.take(FAR)
    send(places, row, sent_interval=NOW, sent_longest=1000, sent_before=1400)
    places.limit(FAR, 1300, fragmentable=False)
    places.move(template(interface=3))
    for number in range(9):  # so that the memory grows
        places.take(bytes([198, 51, 100, number]))
    assert places.longest_sent(FAR, NOW) == 1400
    assert places.longest_sent(NEAR, NOW) == 0


def test_a_row_that_another_remote_gets_begins_anew(places: Destinations) -> None:
    row = places.take(FAR)
    send(places, row, sent_interval=NOW, sent_longest=1400)
    places.leave(FAR)
    assert places.take(NEAR) == row
    assert places.longest_sent(NEAR, NOW) == 0


def test_copies_for_a_group_count_for_each_of_it(places: Destinations) -> None:
    row, group = places.take(FAR), places.take_group([NEAR, FAR])
    send(places, row, sent_interval=NOW, sent_longest=100)
    send(places, group + 1, sent_interval=NOW, sent_longest=1300)
    send(places, group + 2, sent_interval=NOW, sent_longest=1400)
    assert places.longest_sent(NEAR, NOW) == 1300
    assert places.longest_sent(FAR, NOW) == 1400
