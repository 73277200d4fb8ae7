"""What people and machines are shown, of what a daemon told."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gred.management import status
from gred.management.control.client import NoAnswerError, RefusedError

PATH = Path("/run/gred/control")


def told(name: str, state: str = "up", detail: str = "", **more: Any) -> dict[str, Any]:
    mtu = {"interface": 1476, "configured": None, "overhead": 24, "route": 1500}
    return {
        "name": name,
        "state": state,
        "detail": detail,
        "since": 3700.0,
        "transitions": 1,
        "mode": "gre",
        "family": 4,
        "transport": "ip",
        "port": None,
        "remote_port": None,
        "local": "any",
        "source": "192.0.2.1",
        "remote": "192.0.2.2",
        "peers": 0,
        "input_key": 1,
        "output_key": 1,
        "mtu": {**mtu, "learned": None, "probed": 1400},
        "index": 7,
        "namespace": None,
        "addresses": ["10.0.0.1/24"],
        "routes": [],
        "carrier": True,
        "offload": "tso",
        "packet_socket": "yes",
        "ipsec": None,
        "last_received": 2.0,
        "tx_packets": 1,
        "tx_bytes": 100,
        "rx_packets": 2,
        "rx_bytes": 5 << 20,
        "rx_lost": 0,
        "rx_resyncs": 0,
        "tx_drops": {},
        "rx_drops": {"csum_err": 4},
        "keepalives": [
            {
                "remote": "192.0.2.2",
                "life": "up",
                "since": 61.0,
                "transitions": 1,
                "least": 0.001,
                "mean": 0.002,
                "greatest": 0.003,
                "asked": 10,
                "lost": 1,
            }
        ],
        **more,
    }


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is answered next: lines, or an exception."""
    answers: list[Any] = []

    def ask(_path: Path, _command: str, **_more: Any) -> Iterator[dict[str, Any]]:
        for one in answers:
            if isinstance(one, Exception):
                raise one
            yield one

    monkeypatch.setattr(status, "ask", ask)
    return answers


def show(names: list[str], *, as_json: bool = False) -> int:
    return status.status(PATH, names, as_json=as_json, watch=False)


def test_a_line_each_and_trouble_first(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [{"tunnel": told("a")}, {"tunnel": told("bb", "refused", "a firewall")}]
    answers += [{"done": {}}]
    assert show([]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == "bb  refused  a firewall"
    assert second == "a   up       any (192.0.2.1) -> 192.0.2.2"


def test_a_block_says_all_that_is_known(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [{"tunnel": told("a")}, {"done": {}}]
    assert show(["a"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("a: up for 1 h 1 min\n")
    for line in (
        "key: 1",
        "mtu: 1476 (auto, route 1500, probed 1400, overhead 24)",
        "last received: 2 s ago",
        "transfer: 5.0 MiB received (2 packets), 100 B sent (1)",
        "rx drops: csum_err 4",
        "keepalive 192.0.2.2: up for 1 min 1 s, rtt 1.00/2.00/3.00 ms, 1 of 10 lost",
    ):
        assert f"  {line}\n" in said
    assert "tx drops" not in said


def test_a_named_tunnel_that_is_not_up_is_in_the_exit_code(answers: list[Any]) -> None:
    answers += [{"tunnel": told("a", "mismatch", "key")}, {"done": {}}]
    assert show(["a"]) == status.NOT_UP
    assert show([]) == 0


def test_machines_get_it_whole(answers: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    answers += [{"tunnel": told("a")}, {"done": {"pid": 5}}]
    assert show([], as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"tunnels": [told("a")], "daemon": {"pid": 5}}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoAnswerError("start it"), 1),
        (RefusedError("no_such_tunnel", "no t9"), 1),
        (RefusedError("not_permitted", "use sudo"), 77),
    ],
)
def test_what_goes_wrong_is_one_line(
    answers: list[Any], capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    answers.append(error)
    calls: list[Callable[[], int]] = [
        lambda: show([]),
        lambda: status.events(PATH, [], follow=False, as_json=False),
        lambda: status.reload(PATH, dry_run=False, confirm=None),
    ]
    for call in calls:
        assert call() == code
        assert capsys.readouterr().err == f"gred: {error}\n"


def test_a_reload_that_is_refused_has_its_exit_code(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [{"done": {"problems": ["f:1: no"], "exit_code": 78, "detail": ""}}]
    assert status.reload(PATH, dry_run=False, confirm=None) == 78
    assert capsys.readouterr().err == "gred: f:1: no\ngred: nothing was changed\n"


def test_a_reload_that_waits_says_so(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [{"done": {"problems": [], "exit_code": 0, "detail": ""}}]
    assert status.reload(PATH, dry_run=False, confirm=60.0) == 0
    assert capsys.readouterr().out == "goes back in 1 min unless you type: gred confirm\n"
    answers[:] = [{"tunnel": told("t1")}, {"done": {"confirm_within": 42.0}}]
    assert show([]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "the last reload goes back in 42 s unless you type: gred confirm"
    )


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_confirmation(
    answers: list[Any], capsys: pytest.CaptureFixture[str], confirmed: bool
) -> None:
    answers += [{"done": {"confirmed": confirmed}}]
    assert status.confirm(PATH) == (0 if confirmed else 1)
    assert ("nothing waits" in capsys.readouterr().err) is not confirmed


def test_an_event_is_a_line(answers: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    event = {"time": 0.0, "event": "tunnel_up", "level": "info", "tunnel": "a", "mtu": 1476}
    answers += [{"event": event}, {"done": {}}]
    assert status.events(PATH, [], follow=False, as_json=False) == 0
    assert capsys.readouterr().out.endswith(" tunnel_up a mtu=1476\n")


def test_the_transport_is_told_where_it_is_another(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    udp: dict[str, Any] = {"transport": "udp", "port": 4754, "remote_port": 4754}
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "mode: gre over IPv4\n"),
        (udp, "mode: gre over IPv4 in UDP, port 4754\n"),
        (udp | {"remote_port": 5000}, "mode: gre over IPv4 in UDP, port 4754, to 5000\n"),
    ]
    for more, expected in cases:
        answers[:] = [{"tunnel": told("a", **more)}, {"done": {}}]
        assert show(["a"]) == 0
        assert expected in capsys.readouterr().out
