"""What is put back when, and what is said of it: one interface, in made-up time."""

from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from gred.control.contest import AT_MOST, MANY, WINDOW
from gred.control.kernel.parts import InterfaceSettings
from gred.control.upkeep import Upkeep
from tests.control.model import Interface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gred.control.errors import SetupError
    from gred.control.kernel.changes import Change

ADDRESS, ROUTE = "10.9.1.1/24", "10.99.1.0/24"
WANTED = InterfaceSettings(
    place="gred.conf:7: [Tunnel t]",
    index=10,
    name="t",
    mtu=1476,
    addresses=(ip_interface(ADDRESS),),
    routes=(ip_network(ROUTE),),
)
CONTESTED = (
    f"route {ROUTE} is missing: removed 5 times in 1 s: is another network manager configuring t?"
    " (Repair=no leaves it alone)"
)


class Kept:
    """An interface and its upkeep, as the keeper has them."""

    def __init__(self, *, repair: bool = True) -> None:
        self.interface = Interface()
        self.upkeep = Upkeep(repair=repair)
        self.wanted = WANTED
        self.now = 1000.0
        assert self.look() == ""
        assert self.look() == ""
        assert not self.last

    def look(self) -> str:
        """Look once; return what was put back."""
        self.last: Sequence[Change] = self.upkeep.plan(
            self.wanted, self.interface.actual(), self.now
        )
        refused: dict[Change, SetupError] = {}
        for change in self.last:
            if error := self.interface.change(WANTED.place, change):
                refused[change] = error
        return self.upkeep.take(self.wanted, self.last, refused, self.now)

    def due(self) -> float:
        seconds = self.upkeep.due(self.now)
        assert seconds is not None
        return seconds

    def contest(self) -> None:
        """Remove the route until it is not put back at once."""
        for _ in range(MANY):
            self.interface.take(ROUTE)
            self.look()


def test_what_is_removed_is_put_back_at_once_and_told_once() -> None:
    kept = Kept()
    kept.interface.take(ADDRESS)
    assert kept.look() == (f"address {ADDRESS} was missing, route {ROUTE} was missing: put back")
    assert kept.upkeep.sentence == ""
    assert kept.look() == ""
    assert not kept.last
    assert kept.upkeep.due(kept.now) is None


def test_with_repair_switched_off_only_what_gred_itself_changes_is_changed() -> None:
    kept = Kept(repair=False)
    kept.interface.take(ROUTE)
    kept.interface.set_mtu(1300)
    assert kept.look() == ""
    assert not kept.last
    assert kept.upkeep.sentence == f"route {ROUTE} is missing, the MTU is 1300, not 1476"
    assert kept.upkeep.due(kept.now) is None
    kept.wanted = replace(WANTED, mtu=1400, addresses=(ip_interface("10.8.0.1/24"),))
    kept.look()
    assert kept.interface.mtu == 1400
    assert [str(change) for change in kept.last][1:] == [
        "AddAddress(address=IPv4Interface('10.8.0.1/24'))",
        "RemoveAddress(address=IPv4Interface('10.9.1.1/24'))",
    ]
    assert kept.upkeep.sentence == f"route {ROUTE} is missing"


def test_another_configuration_is_no_repair() -> None:
    kept = Kept()
    kept.wanted = replace(WANTED, mtu=1400, routes=(ip_network("10.98.0.0/16"),))
    for _ in range(2 * MANY):
        assert kept.look() == ""
        kept.wanted = replace(kept.wanted, mtu=kept.wanted.mtu - 1)
    assert kept.upkeep.sentence == ""
    assert not kept.upkeep.is_contested


def test_while_it_is_down_nothing_is_ordered_and_what_is_lost_is_no_contest() -> None:
    kept = Kept()
    for _ in range(2 * MANY):
        kept.interface.set_down()
        assert kept.look() == ""
        assert not kept.last
        assert kept.upkeep.is_down
        kept.interface.set_up()
        assert kept.look() == f"route {ROUTE} was missing: put back"
        assert not kept.upkeep.is_down
    assert kept.upkeep.sentence == ""


def test_who_removes_again_and_again_has_to_wait_and_is_asked_about() -> None:
    kept = Kept()
    kept.contest()
    assert not kept.last
    assert kept.upkeep.sentence == CONTESTED
    assert kept.due() == 1.0
    kept.now += 0.5
    assert kept.look() == ""
    assert not kept.last
    kept.now += 0.5
    assert kept.look() == f"route {ROUTE} was missing: put back"
    assert kept.upkeep.sentence == CONTESTED, "it is not believed at once"
    kept.now += kept.due()
    kept.look()
    assert kept.upkeep.sentence == ""


def test_a_suspect_is_named() -> None:
    kept = Kept()
    kept.upkeep.suspect = "systemd-networkd (/etc/systemd/network/a.network)"
    kept.contest()
    assert "is systemd-networkd (/etc/systemd/network/a.network) configuring t?" in (
        kept.upkeep.sentence
    )


def test_what_the_kernel_refuses_is_said_and_tried_again_and_not_in_a_hurry() -> None:
    kept = Kept()
    kept.interface.take(ROUTE)
    kept.interface.refuses[ROUTE] = "File exists"
    assert kept.look() == ""
    assert kept.upkeep.sentence.startswith(f"route {ROUTE} is missing: cannot do AddRoute")
    assert WANTED.place not in kept.upkeep.sentence
    waits = []
    for _ in range(8):
        waits.append(kept.due())
        assert kept.look() == ""
        assert not kept.last, "nothing is tried before it is due"
        kept.now += waits[-1]
        kept.look()
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    kept.interface.refuses.clear()
    kept.now += 8.0
    kept.upkeep.hasten(kept.now)
    assert kept.look() == f"route {ROUTE} was missing: put back"
    assert kept.upkeep.sentence == ""


def test_of_what_is_refused_in_part_the_rest_is_put_back() -> None:
    kept = Kept()
    kept.interface.take(ADDRESS)
    kept.interface.refuses[ROUTE] = "File exists"
    assert kept.look() == f"address {ADDRESS} was missing: put back"
    assert kept.upkeep.sentence.startswith(f"route {ROUTE} is missing: cannot")


def test_what_cannot_be_ordered_is_waited_for_without_a_timer() -> None:
    kept = Kept()
    kept.interface.in_vrf = True
    kept.interface.take(ROUTE)
    kept.look()
    assert kept.upkeep.sentence == f"route {ROUTE} is missing"
    assert kept.upkeep.due(kept.now) is None


@given(st.lists(st.sampled_from(["remove", "look", "wait", "refuse", "allow"]), max_size=300))
def test_nothing_makes_it_busy(steps: list[str]) -> None:
    """However often it is looked at and whatever is done: orders are few."""
    kept = Kept()
    began, ordered = kept.now, 0
    for step in steps:
        match step:
            case "remove" if kept.interface.actual().routes:
                kept.interface.routes.clear()
            case "wait":
                kept.now += 1.0
            case "refuse":
                kept.interface.refuses[ROUTE] = "no"
            case "allow":
                kept.interface.refuses.clear()
            case _:
                kept.upkeep.hasten(kept.now)
        kept.look()
        ordered += bool(kept.last)
    spent = kept.now - began
    # MANY at once in each WINDOW; what is refused once a second at first.
    assert ordered <= (MANY + 8) * (1 + spent / WINDOW) + spent / 2
    assert (kept.upkeep.due(kept.now) or 0.0) <= AT_MOST
