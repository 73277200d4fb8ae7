"""Chains of outer routes that come back."""

from gred.control.paths import cycles


def test_no_route_into_a_tunnel_is_no_cycle() -> None:
    assert cycles({10: 2, 11: 2}) == {}


def test_a_route_into_itself_is_a_cycle() -> None:
    assert cycles({10: 10, 11: 2}) == {10: (10,)}


def test_a_tunnel_inside_a_tunnel_is_no_cycle() -> None:
    assert cycles({10: 11, 11: 12, 12: 2}) == {}


def test_two_tunnels_that_lead_into_each_other_are_both_on_it() -> None:
    assert cycles({10: 11, 11: 10}) == {10: (10, 11), 11: (11, 10)}


def test_a_tunnel_that_leads_into_a_cycle_is_not_on_it() -> None:
    assert cycles({9: 10, 10: 11, 11: 12, 12: 10}) == {
        10: (10, 11, 12),
        11: (11, 12, 10),
        12: (12, 10, 11),
    }


def test_the_order_of_tunnels_does_not_matter() -> None:
    assert cycles({11: 11, 10: 11}) == cycles({10: 11, 11: 11}) == {11: (11,)}


def test_an_unknown_next_device_ends_the_chain() -> None:
    assert cycles({10: 0}) == {}
    assert cycles({}) == {}
