"""Rates between two looks, and how they are shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.management import top
from gred.management.control.client import NoAnswerError
from gred.management.top import HISTORY, Rates, sparkline, table
from gred.management.units import bit_rate
from tests.management.test_status import told

PATH = Path("/run/gred/control")


def counted(name: str, received: int, *, packets: int = 0, drops: int = 0) -> dict[str, Any]:
    return told(name, rx_bytes=received, rx_packets=packets, rx_drops={"csum_err": drops})


def test_a_rate_is_what_came_between_two_looks() -> None:
    rates = Rates()
    (first,) = rates.look([counted("a", 1000)], 10.0)
    assert first.bits == 0
    (second,) = rates.look([counted("a", 3000, packets=8, drops=6)], 12.0)
    assert (second.rx_bits, second.tx_bits, second.rx_packets, second.drops) == (8000, 0, 4, 3)
    assert second.rtt == 0.002
    assert list(second.history) == [0, 8000]


def test_one_that_was_made_anew_or_is_gone() -> None:
    rates = Rates()
    rates.look([counted("a", 5000), counted("b", 0)], 1.0)
    (anew,) = rates.look([counted("a", 100)], 2.0)
    assert (anew.name, anew.bits) == ("a", 0)


def test_the_busiest_comes_first() -> None:
    rates = Rates()
    rates.look([counted(name, 0) for name in "abc"], 1.0)
    found = rates.look([counted("a", 10), counted("b", 999), counted("c", 10)], 2.0)
    assert [one.name for one in found] == ["b", "a", "c"]


def test_a_table_fits_the_terminal() -> None:
    rates = Rates()
    rates.look([counted("a", 0), counted("tunnel-to-paris", 0)], 1.0)
    found = rates.look([counted("a", 125_000), counted("tunnel-to-paris", 0)], 2.0)
    head, first, second = table(found, 120)
    assert head.split()[:4] == ["tunnel", "state", "received", "sent"]
    assert first.split()[:6] == ["a", "up", "1.0", "Mbit/s", "0", "bit/s"]
    assert first.endswith("█")
    assert second.split()[0] == "tunnel-to-paris"
    assert all(len(line) <= 20 for line in table(found, 20))


@given(st.lists(st.floats(0, 1e12), max_size=HISTORY))
def test_a_sparkline_has_a_bar_for_each_look(history: list[float]) -> None:
    bars = sparkline(history)
    assert len(bars) == (len(history) if any(history) else 0)
    assert not bars or bars[history.index(max(history))] == "█"


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0, "0 bit/s"),
        (999, "999 bit/s"),
        (1500, "1.5 kbit/s"),
        (2.5e6, "2.5 Mbit/s"),
        (3.456e9, "3.46 Gbit/s"),
        (4e12, "4000.00 Gbit/s"),
    ],
)
def test_rates_in_words(bits: float, text: str) -> None:
    assert bit_rate(bits) == text


def test_it_is_shown_as_often_as_was_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_path: Path, command: str, **more: Any) -> Iterator[dict[str, Any]]:
        assert (command, more) == ("status", {"tunnels": ["a"]})
        yield {"tunnel": counted("a", 0)}
        yield {"done": {}}

    monkeypatch.setattr(top, "ask", ask)
    monkeypatch.setattr(top, "INTERVAL", 0.0)
    assert top.top(PATH, ["a"], count=2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["tunnel", "a", "tunnel", "a"]


def test_without_a_daemon_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_path: Path, _command: str, **_more: Any) -> Iterator[dict[str, Any]]:
        raise NoAnswerError("start it")

    monkeypatch.setattr(top, "ask", ask)
    assert top.top(PATH, [], count=None) == 1
    assert capsys.readouterr().err == "gred: start it\n"
