"""What gred trace and gred capture make of what a daemon tells."""

import json
import os
import signal
import subprocess
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gred.management import capture, cli
from gred.management.control.client import NoAnswerError, RefusedError
from gred.management.meanings import MEANINGS
from gred.management.parser import SNAP
from gred.wire.drop import DropReason
from tests import require

PATH = Path("/run/gred/control")
# 192.0.2.2 > 192.0.2.1, GRE with key 7, 10.0.0.2 > 10.0.0.1 UDP
PACKET = bytes.fromhex(
    "4500003800004000402fb68bc0000202c0000201"
    "2000080000000007"
    "4500001c000040004011a6cd0a0000020a000001"
    "0007000900080000"
)
NOW = 1_700_000_000_000_000_000


def told(tunnel: str | None = "t1", direction: str = "rx", **more: Any) -> dict[str, Any]:
    data = b64encode(PACKET).decode()
    packet = {"time": NOW, "direction": direction, "tunnel": tunnel, "length": len(PACKET)}
    return {**packet, "data": data, **more}


def line(*packets: dict[str, Any], **lost: int) -> dict[str, Any]:
    return {"version": 1, "packets": list(packets), "lost": lost}


BEGUN = line()
GONE = NoAnswerError("the daemon ended")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is answered next: lines, exceptions, or what is called."""
    answers: list[Any] = []

    def ask(_path: Path, command: str, **_more: Any) -> Iterator[dict[str, Any]]:
        assert command == "packets"
        for one in answers:
            if isinstance(one, Exception):
                raise one
            yield one() if callable(one) else one

    monkeypatch.setattr(capture, "ask", ask)
    return answers


def write(file: Path, count: int | None = None, snap: int = 1000) -> int:
    return capture.capture(PATH, [], write=str(file), snap=snap, count=count)


def tshark(file: Path, *fields: str) -> list[dict[str, list[str]]]:
    program = require.program("tshark", package="tshark")
    asked = [word for field in fields for word in ("-e", field)]
    command = [program, "-r", str(file), "-T", "json", *asked]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def test_a_capture_has_an_interface_for_each_tunnel_and_says_why(
    answers: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [
        BEGUN,
        line(told(), told("t2", "tx")),
        line(told(reason="csum_err"), told(None, reason="no_tunnel"), t3=4, t1=1),
        GONE,
    ]
    file = tmp_path / "file"
    assert write(file) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[1].startswith("gred: 4 packets captured, 5 lost: more passed than is copied")
    assert said[2] == "gred: the daemon ended"
    direction = "frame.packet_flags_direction"
    found = tshark(file, "frame.interface_name", direction, "frame.comment", "gre.key")
    assert [packet["frame.interface_name"] for packet in found] == [
        ["t1"],
        ["t2"],
        ["t1"],
        ["no tunnel"],
    ]
    assert [int(packet[direction][0], 0) for packet in found] == [1, 2, 1, 1]
    assert [packet.get("frame.comment") for packet in found] == [
        None,
        None,
        ["dropped: csum_err: the GRE checksum is wrong: damaged on the way"],
        ["dropped: no_tunnel: no tunnel between these outer addresses: see gred peers"],
    ]
    assert b"4 packets lost: more passed" in file.read_bytes()
    assert b"1 packet lost: more passed" in file.read_bytes()


def test_what_was_not_sent_is_at_an_interface_of_its_own(
    answers: list[Any], tmp_path: Path
) -> None:
    data = b64encode(PACKET[28:]).decode()
    inner = told(direction="tx", reason="no_remote", length=28, data=data, inside="ip")
    frame = bytes(12) + b"\x08\x00" + PACKET[28:]
    more = {"length": 42, "data": b64encode(frame).decode(), "inside": "ethernet"}
    answers += [BEGUN, line(told(), inner, inner | more, t1=2), GONE]
    file = tmp_path / "file"
    assert write(file) == 1
    assert [
        (packet["frame.interface_name"], packet["frame.interface_id"], packet["ip.dst"])
        for packet in tshark(file, "frame.interface_name", "frame.interface_id", "ip.dst")
    ] == [
        (["t1"], ["0"], ["192.0.2.1", "10.0.0.1"]),
        (["t1"], ["1"], ["10.0.0.1"]),
        (["t1"], ["2"], ["10.0.0.1"]),
    ]
    assert file.read_bytes().count(b"2 packets lost") == 1


def test_every_reason_has_its_words() -> None:
    for reason in DropReason:
        packet = capture.Packet(NOW, "rx", "t1", reason, 1, b"E")
        words = capture.comment(packet)
        assert bool(words) is bool(reason)
        if reason and reason is not DropReason.KEEPALIVE:
            assert words.endswith(MEANINGS[reason.name.lower()])


def test_it_ends_after_so_many(
    answers: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [BEGUN, line(told(), told(), told()), line(told()), GONE]
    file = tmp_path / "file"
    assert write(file, count=2) == 0
    assert "gred: 2 packets captured, none lost" in capsys.readouterr().err
    assert len(tshark(file, "frame.number")) == 2


@pytest.mark.parametrize("error", [GONE, RefusedError("no_such_tunnel", "there is no tunnel t9")])
def test_a_file_is_not_touched_when_nobody_answers(
    answers: list[Any], error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers.append(error)
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    assert write(file) == 1
    assert file.read_bytes() == b"kept"
    assert capsys.readouterr().err == f"gred: {error}\n"
    assert capture.trace(PATH, [], count=None) == 1


def test_a_file_that_cannot_be_written_is_one_line(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [BEGUN, line(told()), GONE]
    assert write(Path("/dev/null/file")) == 1
    assert capsys.readouterr().err == "gred: cannot write /dev/null/file: Not a directory\n"
    assert write(Path("/dev/full")) == 1
    assert "gred: cannot write /dev/full: No space left on device" in capsys.readouterr().err


def test_a_terminal_gets_no_capture(
    answers: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name in (None, "-"):
        assert capture.capture(PATH, [], write=name, snap=9, count=None) == 2
        said = capsys.readouterr().err
        assert said.startswith("gred: a capture is nothing for a terminal: -w FILE")
        assert said.count("\n") == 1


def test_an_interruption_ends_it_with_what_has_passed(
    answers: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted() -> dict[str, Any]:
        while signal.getsignal(signal.SIGINT) == handler:
            pass  # it takes its place in the main thread
        os.kill(os.getpid(), signal.SIGINT)
        while not stopping():
            pass
        return line(told(), told(time=1 << 62))

    def stopping() -> bool:
        return signal.getsignal(signal.SIGINT) == signal.SIG_DFL

    handler = signal.getsignal(signal.SIGINT)
    answers += [BEGUN, line(told()), interrupted, line(told()), GONE]
    file = tmp_path / "file"
    assert write(file) == 0
    assert "gred: 2 packets captured, none lost" in capsys.readouterr().err
    assert len(tshark(file, "frame.number")) == 2
    assert signal.getsignal(signal.SIGINT) == handler


def test_who_writes_slowly_loses_packets_and_is_told(
    answers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "LINES", 0)
    answers += [line(told()), line(told(), told(None)), line(t1=3), GONE]
    feed = capture.Feed(PATH, [])
    assert not feed.begin()
    assert feed.lost == Counter({"t1": 5, "": 1})
    assert feed.error is GONE


def test_a_trace_has_a_line_for_each(
    answers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [BEGUN, line(told(), told(None, "rx", reason="no_tunnel")), line(told()), GONE]
    assert capture.trace(PATH, ["t1"], count=2) == 0
    out, said = capsys.readouterr()
    first, second = (line.split(" ", 1)[1] for line in out.splitlines())
    assert first.startswith("rx t1 192.0.2.2 > 192.0.2.1 ttl 64: GRE key 7: IPv4 10.0.0.2 > ")
    assert second.startswith("rx - 192.0.2.2 > ")
    assert second.endswith(" DROP no_tunnel")
    assert said.splitlines() == [
        "gred: watching t1; ctrl-C ends it",
        "gred: 2 packets shown, none lost",
    ]


@pytest.mark.parametrize("wrong", ["0", "-1", "x", "1.5", "", "²"])
def test_a_count_is_a_number(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--count", "--snaplen"):
        with pytest.raises(SystemExit) as ended:
            cli.main(["capture", f"{option}={wrong}"])
        assert ended.value.code == 2
        assert "expected a number of 1 or more" in capsys.readouterr().err


def test_the_command_line_hands_on_what_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def remember(_path: Path, names: list[str], **how: Any) -> int:
        seen.append((names, how))
        return 0

    monkeypatch.setattr(capture, "capture", remember)
    monkeypatch.setattr(capture, "trace", remember)
    assert cli.main(["capture", "t1", "t2", "-w", "x", "-s", "9999999999", "-n", "5"]) == 0
    assert cli.main(["trace"]) == 0
    assert seen == [
        (["t1", "t2"], {"write": "x", "snap": SNAP, "count": 5}),
        ([], {"count": None}),
    ]
