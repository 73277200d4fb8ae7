"""Numbered datagrams that pass all the while, over a plain wire."""

import pytest

from gred.lab.flow import Flow
from gred.lab.hosts import UNDERLAY, Host
from gred.lab.waiting import wait_for


@pytest.mark.parametrize("destination", ["10.0.0.2", "fd00::2"])
def test_all_arrive_once(hosts: tuple[Host, Host], destination: str) -> None:
    with Flow(*hosts, destination, rate=1000) as flow:
        wait_for(lambda: flow.sent() >= 100, "some datagrams")
    result = flow.result()
    assert result.sent >= 100
    assert (result.lost, result.doubled) == ((), 0)


def test_what_is_lost_is_known_by_number(hosts: tuple[Host, Host]) -> None:
    def passes(count: int) -> None:
        sent = flow.sent()
        wait_for(lambda: flow.sent() >= sent + count, "more datagrams")

    with Flow(*hosts, "10.0.0.2", rate=500) as flow:
        passes(20)
        hosts[1].ip("neigh", "flush", "dev", UNDERLAY)
        hosts[1].ip("address", "delete", "10.0.0.2/24", "dev", UNDERLAY)
        first = flow.sent()
        passes(20)
        last = flow.sent()
        hosts[1].address("10.0.0.2/24")
        passes(20)
    result = flow.result()
    assert result.lost
    assert set(result.lost) >= set(range(first, last - 1))
    assert 0 not in result.lost
    assert result.sent - 1 not in result.lost
    assert result.longest_gap > 0


def test_what_cannot_be_sent_is_lost(hosts: tuple[Host, Host]) -> None:
    left, right = hosts
    right.address("10.0.8.8/32", "lo")  # left has no route to it
    with Flow(left, right, "10.0.8.8", rate=1000) as flow:
        wait_for(lambda: flow.sent() >= 5, "some datagrams")
    result = flow.result()
    assert result.lost == tuple(range(result.sent))
