"""The parts of the daemon's process put together, and packets as they reach a person."""

import asyncio
import builtins
import sys
from typing import Any

import pytest

from gred.management import run
from tests.management.doubles import Packet, RememberingLog


def test_the_fast_loop_is_taken_where_it_is() -> None:
    log = RememberingLog()
    name, factory = run.choose_loop(log.logger)
    factory().close()
    assert (name, log.lines) == ("uvloop", [])


def test_without_uvloop_the_standard_loop_serves_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    log = RememberingLog()
    assert run.choose_loop(log.logger) == ("asyncio", asyncio.new_event_loop)
    assert log.only("loop_is_slow").level == "warning"


@pytest.mark.parametrize("verbosity", [0, 1])
def test_nothing_is_traced_and_scapy_not_loaded_below_vv(
    verbosity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def refusing(name: str, *rest: Any) -> Any:
        assert not name.startswith("scapy")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refusing)
    assert run.make_tracer(RememberingLog().logger, verbosity) is None


@pytest.mark.parametrize(("verbosity", "hexdump"), [(2, False), (3, True)])
def test_packets_are_decoded_from_vv_on_and_vvv_adds_hex(verbosity: int, hexdump: bool) -> None:
    log = RememberingLog()
    trace: Any = run.make_tracer(log.logger, verbosity)
    trace(Packet(b"\x45" + bytes(40)))
    assert ("hex" in log.only("packet").fields) is hexdump
