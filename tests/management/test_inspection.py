"""What `gred peers` and `gred drops` print of what a daemon told."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gred.management import inspection
from gred.management.control.client import RefusedError
from gred.management.meanings import MEANINGS
from gred.wire.drop import DropReason

PATH = Path("/run/gred/control")
PEER = {"tunnel": "t1", "inner": None, "remote": "192.0.2.2", "origin": "configured", "heard": 2.0}
LEARNED = {"tunnel": "hub", "inner": "10.9.0.1", "remote": "192.0.2.9", "origin": "learned"}
SENDER = {
    "source": "192.0.2.7",
    "destination": "192.0.2.1",
    "key": None,
    "protocol": 0x0800,
    "reason": "no_tunnel",
    "count": 3,
    "first_seen": 9.0,
    "last_seen": 1.0,
    "detail": "flags 0x0000 protocol 0x0800",
    "nearest": "t1",
    "differs": "it comes from 192.0.2.7, Remote=192.0.2.2",
}
DONE: dict[str, Any] = {"done": {}}

Answer = Callable[..., None]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    def answer(*lines: dict[str, Any] | Exception) -> None:
        def ask(_path: Path, _command: str, **_more: Any) -> Iterator[dict[str, Any]]:
            for one in lines:
                if isinstance(one, Exception):
                    raise one
                yield one

        monkeypatch.setattr(inspection, "ask", ask)

    return answer


def test_remotes_and_who_else_sends(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"peer": PEER}, {"peer": {**LEARNED, "heard": None}}, {"unknown_sender": SENDER}, DONE)
    assert inspection.peers(PATH, [], as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "t1   192.0.2.2  -         configured  heard 2 s ago",
        "hub  192.0.2.9  10.9.0.1  learned",
        "",
        "no tunnel takes what these send:",
        "  192.0.2.7 -> 192.0.2.1, no key, protocol 0x0800: no_tunnel, seen 3 times, last 1 s ago",
        "    nearest is t1: it comes from 192.0.2.7, Remote=192.0.2.2",
    ]


def test_a_sender_that_is_near_to_nothing(
    answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer({"unknown_sender": {**SENDER, "nearest": None, "key": 5, "protocol": None}}, DONE)
    assert inspection.peers(PATH, [], as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no remotes"
    assert lines[-2].startswith("  192.0.2.7 -> 192.0.2.1, key 5: no_tunnel")
    assert lines[-1] == "    flags 0x0000 protocol 0x0800"


def test_drops_with_what_they_mean(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    drop = {"tunnel": "t1", "direction": "rx", "reason": "csum_err", "count": 12}
    answer({"drop": drop}, {"drop": {**drop, "tunnel": None, "reason": "of_a_later_gred"}}, DONE)
    assert inspection.drops(PATH, [], as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "t1           rx  12  csum_err         the GRE checksum is wrong: damaged on the way",
        "(no tunnel)  rx  12  of_a_later_gred",
    ]
    answer(DONE)
    assert inspection.drops(PATH, [], as_json=False) == 0
    assert capsys.readouterr().out == "nothing was dropped\n"


def test_machines_get_what_was_told(answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    answer({"peer": PEER}, {"unknown_sender": SENDER}, DONE)
    assert inspection.peers(PATH, [], as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"peers": [PEER], "unknown_senders": [SENDER]}
    answer(DONE)
    assert inspection.drops(PATH, [], as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"drops": []}


@pytest.mark.parametrize("command", [inspection.peers, inspection.drops])
def test_a_refusal_is_one_line(
    command: Callable[..., int], answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(RefusedError("no_such_tunnel", "there is no tunnel t9"))
    assert command(PATH, ["t9"], as_json=False) == 1
    assert capsys.readouterr().err == "gred: there is no tunnel t9\n"


def test_each_reason_has_a_meaning_here_and_in_the_readme() -> None:
    names = {reason.name.lower() for reason in DropReason if reason is not DropReason.NONE}
    assert set(MEANINGS) == names
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = readme[readme.index("## Drop counters") : readme.index("## States")]
    assert names <= set(re.findall(r"`([a-z_]+)`", table))
