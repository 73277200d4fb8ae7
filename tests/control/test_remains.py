"""What outlives the process: there and back, and what does not fit."""

import json

import pytest

from gred.control import remains
from gred.control.liveness import Life, Liveness
from gred.control.path_mtu import Obstacle, PathMtu
from gred.control.remains import LEAP, Remains, UnfitError
from gred.control.store import NoStore
from gred.control.tunnel import Tunnel
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason
from tests.control.fakes import tunnel


class Memory(NoStore):
    """A store that remembers."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def recall(self) -> bytes:
        return self.data

    def remember(self, data: bytes, /) -> None:
        self.data = data

    async def ends_for_good(self) -> bool:
        return False


COUNTED = Counters(1, 2, 3, 4, {DropReason.DEAD_LOOP: 5}, {DropReason.CSUM_ERR: 6}, 7, 8, 9, 10)


def text(*, clean: bool = True, remote: str = "192.0.2.2") -> bytes:
    one = Tunnel(tunnel(remote=remote))
    one.path.tell(Obstacle(1400, 1500, is_proven=True), 50.0)
    known = {**remains.what_remains(one, COUNTED, (7, 3)), "sequence": (5, list(range(12)))}
    return remains.write([json.dumps(known)], clean=clean)


def made(data: bytes) -> Remains:
    return Remains(None, Memory(data), {}, None, None)  # type: ignore[arg-type]


def test_counters_come_back() -> None:
    left = made(text())
    assert left.unfit == ""
    assert left.counters() == {"t1": COUNTED}
    assert left.interface_drops() == {"t1": (7, 3)}


def test_a_tunnel_goes_on_where_it_ended() -> None:
    one = Tunnel(tunnel())
    made(text()).give(one)
    assert one.path.look(1500, 60.0)
    assert one.path.mtu == 1400
    assert one.remains["sequence"] == (5, list(range(12)))


def test_after_a_kill_no_number_is_sent_twice() -> None:
    one = Tunnel(tunnel())
    made(text(clean=False)).give(one)
    assert one.remains["sequence"] == (5 + LEAP, None)


def test_of_another_remote_nothing_holds() -> None:
    one = Tunnel(tunnel(remote="192.0.2.3"))
    left = made(text())
    left.give(one)
    assert one.remains == {}
    assert left.counters() == {}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"x", "unreadable"),
        (b"[]\n", "unreadable"),
        (b"{}\n", "unreadable"),
        (b'{"gred": 99, "clean": true, "crc32": 0}\n', "version"),
        (text()[:-5], "torn"),
        (remains.write(["[]"], clean=True), "unreadable"),
        (remains.write(['{"name": "t1"}'], clean=True), "unreadable"),
    ],
)
def test_what_does_not_fit_is_ignored_with_a_word(data: bytes, why: str) -> None:
    left = made(data)
    left.counters()
    one = Tunnel(tunnel())
    left.give(one)
    assert left.unfit == why
    assert one.remains == {}


def test_nothing_kept_is_no_trouble() -> None:
    assert made(b"").unfit == ""


def test_who_was_alive_stays_so_and_an_answer_under_way_counts() -> None:
    before = Liveness(1.0, 3, b"t1")
    assert before.heard(before.ask(10.0), 10.1)
    cookie = before.ask(11.0)
    after = Liveness(1.0, 3, b"t1")
    after.resume(json.loads(json.dumps(before.remains())), 11.5)
    assert after.life is Life.UP
    assert after.wakes() == 11.5, "it is asked at once"
    assert not after.heard(cookie, 11.6)
    assert after.ignored == 0
    assert after.figures(12.0) == before.figures(12.0) or after.figures(12.0).asked == 2
    assert not after.look(14.0), "nobody listened meanwhile"
    assert after.look(20.0)


def test_a_path_goes_on() -> None:
    before, after = PathMtu(4), PathMtu(4)
    before.tell(Obstacle(1300, 1500, is_proven=True), 10.0)
    before.probe(1280)
    after.resume(json.loads(json.dumps(before.remains())))
    for path in (before, after):
        path.look(1500, 20.0)
    assert (after.mtu, after.learned, after.due(20.0)) == (before.mtu, 1300, before.due(20.0))
    with pytest.raises(ValueError, match="not enough"):
        after.resume([])


def test_unreadable_counters_are_unfit() -> None:
    with pytest.raises(UnfitError):
        remains.counters({"counters": [1]})
