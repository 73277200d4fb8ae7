"""The MTU of a path: told, believed as far as the evidence goes, forgotten."""

import pytest

from gred.control.path_mtu import (
    DOUBTFUL_LIFETIME,
    FIRST_STEP,
    LEAST,
    LIFETIME,
    Obstacle,
    PathMtu,
)

ROUTE = 1500
PROVEN = Obstacle(1300, 1500, is_proven=True)
DOUBTFUL = Obstacle(1300, 1500)


def test_what_is_proven_counts_for_ten_minutes() -> None:
    path = PathMtu(4)
    assert path.look(ROUTE, 0)
    assert not path.look(ROUTE, 0)
    assert path.tell(PROVEN, 0)
    assert path.look(ROUTE, 1)
    assert path.mtu == 1300
    assert path.due(1) == LIFETIME - 1
    assert not path.look(ROUTE, LIFETIME - 1)
    assert path.look(ROUTE, LIFETIME)
    assert path.due(LIFETIME) is None, "there is nothing to forget"


def test_what_anybody_could_say_counts_for_a_minute() -> None:
    path = PathMtu(4)
    assert path.tell(DOUBTFUL, 0)
    path.look(ROUTE, 1)
    assert path.mtu == 1300
    path.look(ROUTE, DOUBTFUL_LIFETIME)
    assert path.mtu is None


def test_to_repeat_it_meanwhile_makes_it_last_no_longer() -> None:
    path = PathMtu(4)
    for second in range(int(DOUBTFUL_LIFETIME)):
        path.tell(DOUBTFUL, second)
    path.look(ROUTE, DOUBTFUL_LIFETIME)
    assert path.mtu is None


def test_what_holds_again_and_again_lasts_longer_each_time() -> None:
    path, now, lifetimes = PathMtu(4), 0.0, []
    for _ in range(6):
        path.tell(DOUBTFUL, now)
        path.look(ROUTE, now)
        seconds = path.due(now)
        assert seconds is not None
        lifetimes.append(seconds)
        now += seconds
    assert lifetimes == [60, 120, 240, 480, 600, 600]


def test_it_never_lasts_longer_than_the_host_wants() -> None:
    for obstacle in (PROVEN, DOUBTFUL):
        path = PathMtu(4)
        path.tell(obstacle, 0, lifetime=2)
        path.look(ROUTE, 0)
        assert path.due(0) == 2


def test_a_larger_number_does_not_replace_a_smaller_one() -> None:
    path = PathMtu(4)
    path.tell(PROVEN, 0)
    path.tell(Obstacle(1400, 1500, is_proven=True), 1)
    path.tell(Obstacle(1400, 1500), 1)
    path.look(ROUTE, 2)
    assert path.mtu == 1300


@pytest.mark.parametrize("told", [1500, 9000])
def test_what_is_no_obstacle_changes_nothing(told: int) -> None:
    path = PathMtu(4)
    path.look(ROUTE, 0)
    path.tell(Obstacle(told, 9001, is_proven=True), 0)
    assert not path.look(ROUTE, 1)


def test_no_router_refuses_what_fits() -> None:
    path = PathMtu(4)
    assert not path.tell(Obstacle(1300, 1300), 0)
    assert not path.tell(Obstacle(1300, 100, is_proven=True), 0)


@pytest.mark.parametrize(("length", "mtu"), [(1500, 1492), (1492, 1006), (1280, 1006)])
def test_without_a_number_the_next_smaller_common_size_is_tried(length: int, mtu: int) -> None:
    """RFC 1191 section 5."""
    path = PathMtu(4)
    assert path.tell(Obstacle(0, length, is_proven=True), 0)
    path.look(ROUTE, 0)
    assert path.mtu == mtu
    assert not path.tell(Obstacle(0), 0)


@pytest.mark.parametrize(("version", "mtu", "fragmentable"), [(4, 552, True), (6, 1280, False)])
def test_there_is_a_least_number(version: int, mtu: int, *, fragmentable: bool) -> None:
    """A true one needs fragments."""
    path = PathMtu(version)
    path.tell(Obstacle(100, 1500, is_proven=True), 0)
    path.look(ROUTE, 1)
    assert (path.mtu, path.fragmentable) == (mtu, fragmentable)


def test_a_doubtful_small_number_is_reached_in_two_steps() -> None:
    """The second must be about packets that are sent after the first."""
    path = PathMtu(4)
    assert path.tell(Obstacle(600, 1500), 0)
    path.look(ROUTE, 0)
    assert path.mtu == FIRST_STEP
    assert not path.tell(Obstacle(600, 1500), 1), "nothing of that length was sent since"
    assert path.tell(Obstacle(600, FIRST_STEP), 1)
    path.look(ROUTE, 1)
    assert path.mtu == 600
    assert not path.fragmentable


def test_one_forged_message_cannot_bring_a_tunnel_to_its_least() -> None:
    for version, least in LEAST.items():
        path = PathMtu(version)
        for second in range(0, 3600, 30):
            path.tell(Obstacle(68, 1500), second)
            path.look(ROUTE, second)
            assert path.mtu is None or path.mtu >= FIRST_STEP >= least
            assert not path.fragmentable


def test_a_proven_number_needs_no_steps() -> None:
    path = PathMtu(4)
    path.tell(DOUBTFUL, 0)
    path.tell(Obstacle(600, 1500, is_proven=True), 0)
    path.look(ROUTE, 0)
    assert path.mtu == 600


def test_a_route_that_carries_less_is_an_end_of_it() -> None:
    path = PathMtu(4)
    path.tell(PROVEN, 0)
    path.look(1200, 1)
    assert path.mtu is None
    assert path.route_mtu == 1200


def known(path: PathMtu) -> tuple[int | None, int | None, int | None]:
    return path.mtu, path.learned, path.probed


class TestProbed:
    """What probes have found beside what was told."""

    def test_the_smaller_of_both_counts(self) -> None:
        path = PathMtu(4)
        assert path.probe(1400)
        assert not path.probe(1400)
        assert path.look(ROUTE, 0)
        assert known(path) == (1400, None, 1400)
        assert "1400 though nothing says so" in path.sentence
        path.tell(PROVEN, 0)
        path.look(ROUTE, 0)
        assert known(path) == (1300, 1300, 1400)
        assert path.sentence == ""
        path.probe(1280)
        path.look(ROUTE, 0)
        assert known(path) == (1280, 1300, 1280)
        assert "1280 though nothing says so" in path.sentence

    def test_what_was_told_once_is_no_secret_later(self) -> None:
        path = PathMtu(4)
        path.tell(PROVEN, 0)
        path.probe(1300)
        path.look(ROUTE, LIFETIME + 1)
        assert known(path) == (1300, None, 1300)
        assert path.sentence == "", "the routers do tell, when somebody asks them"

    def test_it_lasts_until_probes_say_otherwise(self) -> None:
        path = PathMtu(4)
        path.probe(1400)
        path.look(ROUTE, 0)
        assert path.due(0) is None
        assert not path.look(ROUTE, 1e6)
        path.probe(None)
        assert path.look(ROUTE, 1e6)
        assert path.mtu is None

    def test_less_than_is_believed_is_sent_in_fragments(self) -> None:
        path = PathMtu(4)
        path.probe(LEAST[4] - 1)
        path.look(ROUTE, 0)
        assert (path.mtu, path.fragmentable) == (LEAST[4], True)

    def test_a_packet_that_has_passed_refutes_what_was_told_before(self) -> None:
        path = PathMtu(4)
        path.tell(DOUBTFUL, 10)
        assert not path.passed(1500, 9), "it had left before"
        assert not path.passed(1300, 11), "it is no longer than that"
        assert path.passed(1301, 11)
        assert not path.passed(1301, 12)
        path.look(ROUTE, 12)
        assert path.mtu is None

    def test_probes_go_no_further_than_who_refuses_them(self) -> None:
        path, ceilings = PathMtu(4), []
        for obstacle in (None, DOUBTFUL, PROVEN):
            if obstacle is not None:
                path.tell(obstacle, 0)
            path.look(ROUTE, 0)
            ceilings.append(path.ceiling)
        assert ceilings == [ROUTE, ROUTE, 1300], "anybody can tell what proves nothing"
