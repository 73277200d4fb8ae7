"""What a line looks like, and where it goes."""

import io
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import structlog

from gred.config.model import LogFormat
from gred.management import journal, logs
from gred.wire.drop import DropReason


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def log_to(
    stream: io.StringIO,
    wanted: LogFormat,
    *,
    verbosity: int = 0,
    environ: Mapping[str, str] | None = None,
) -> Any:
    logs.configure(wanted, verbosity=verbosity, stream=stream, environ=environ or {})
    return structlog.get_logger()


@pytest.mark.parametrize(
    ("stream", "foreground", "output"),
    [
        (Terminal(), False, "console"),
        (io.StringIO(), True, "console"),
        (io.StringIO(), False, "logfmt"),
    ],
)
def test_auto_is_for_people_on_a_terminal_and_in_the_foreground(
    stream: io.StringIO, foreground: bool, output: str
) -> None:
    assert logs.choose("auto", foreground=foreground, stream=stream, environ={}) == output


def test_auto_is_the_journal_when_the_journal_reads_stderr(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        chosen = logs.choose("auto", foreground=False, stream=stream, environ=environ)
        assert chosen == "journal"
        assert logs.choose("json", foreground=False, stream=stream, environ=environ) == "json"


def test_a_console_line_has_time_level_event_and_keys() -> None:
    stream = io.StringIO()
    log_to(stream, "console").info(
        "tunnel_up", tunnel="Tunnel-1", local=ip_address("192.0.2.1"), key=None, offload="off (no)"
    )
    words = stream.getvalue().split(" ", 1)
    assert len(words[0]) == len("00:00:00")
    assert words[1] == 'info    tunnel_up tunnel=Tunnel-1 local=192.0.2.1 offload="off (no)"\n'


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    stream: io.StringIO, environ: Mapping[str, str], coloured: bool
) -> None:
    """An empty NO_COLOR counts as unset (no-color.org)."""
    log_to(stream, "console", environ=environ).warning("tunnel_down")
    assert ("\x1b[" in stream.getvalue()) is coloured


def test_a_value_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    log_to(stream, "console").info("x", detail="a\x1b[2J\nb")
    assert stream.getvalue().endswith(' x detail="a\\x1b[2J\\nb"\n')


def test_a_packet_line_is_its_text_alone() -> None:
    stream = io.StringIO()
    log_to(stream, "console", verbosity=2).debug("packet", text="rx T 1 > 2", tunnel="T")
    assert stream.getvalue().endswith(" debug   rx T 1 > 2\n")
    assert "." in stream.getvalue().split(" ", 1)[0], "microseconds tell packets apart"


def test_hex_follows_a_packet_line_in_rows() -> None:
    stream = io.StringIO()
    log_to(stream, "console", verbosity=3).debug("packet", text="rx", hex=(b"AB\x00" * 6).hex())
    assert stream.getvalue().split("\n")[1:] == [
        "    0000  4142 0041 4200 4142 0041 4200 4142 0041  AB.AB.AB.AB.AB.A",
        "    0010  4200                                     B.",
        "",
    ]


def test_debug_lines_need_v() -> None:
    quiet, chatty = io.StringIO(), io.StringIO()
    log_to(quiet, "console").debug("route_changed")
    log_to(chatty, "console", verbosity=1).debug("route_changed")
    assert quiet.getvalue() == ""
    assert "route_changed" in chatty.getvalue()


def test_logfmt_begins_with_time_level_event() -> None:
    stream = io.StringIO()
    log_to(stream, "logfmt").warning("drops", tunnel="Tunnel-1", rx_csum_err=3)
    line = stream.getvalue()
    assert line.startswith("timestamp=")
    assert line.endswith(" level=warning event=drops tunnel=Tunnel-1 rx_csum_err=3\n")


def test_json_is_one_object_per_line() -> None:
    stream = io.StringIO()
    log_to(stream, "json").info(
        "packet_refused", reason=DropReason.KEY_MISMATCH, source=ip_address("::1"), names=("a", "b")
    )
    line = json.loads(stream.getvalue())
    del line["timestamp"]
    assert line == {
        "event": "packet_refused",
        "level": "info",
        "reason": "key_mismatch",
        "source": "::1",
        "names": "a,b",
    }


@pytest.mark.parametrize("wanted", ["console", "logfmt", "json"])
def test_a_bug_keeps_its_traceback(wanted: LogFormat) -> None:
    stream = io.StringIO()
    log_to(stream, wanted).error("bug", exc_info=ZeroDivisionError("told"))
    assert "ZeroDivisionError: told" in stream.getvalue()


def test_what_libraries_log_becomes_lines() -> None:
    stream = io.StringIO()
    log_to(stream, "console")
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("not for gred's log")
    assert stream.getvalue().endswith(' library library=asyncio message="slow callback"\n')
    assert stream.getvalue().count("\n") == 1


def test_a_reader_that_is_gone_stops_nothing() -> None:
    stream = io.StringIO()
    log = log_to(stream, "console")
    stream.close()
    log.info("started")


@pytest.fixture
def journal_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, Any]]:
    """A journal, and a log whose stderr is the journal's."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(path))
        line.settimeout(5)
        stderr = (tmp_path / "stderr").open("w+")
        sender = journal.Journal(str(path))
        monkeypatch.setattr(journal, "Journal", lambda: sender)
        found = os.fstat(stderr.fileno())
        with stderr:
            environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
            assert logs.configure("auto", stream=stderr, environ=environ) == "journal"
            yield line, stderr
        sender.close()


def test_a_journal_entry_has_message_priority_and_fields(
    journal_socket: tuple[socket.socket, Any],
) -> None:
    line, _ = journal_socket
    structlog.get_logger().warning("drops", tunnel="Tunnel-1", rx_csum_err=3)
    assert line.recv(4096).decode().splitlines() == [
        "MESSAGE=drops tunnel=Tunnel-1 rx_csum_err=3",
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=gred",
        "GRED_EVENT=drops",
        "GRED_TUNNEL=Tunnel-1",
        "GRED_RX_CSUM_ERR=3",
    ]


def test_a_traceback_goes_to_the_journal_in_one_entry(
    journal_socket: tuple[socket.socket, Any],
) -> None:
    line, _ = journal_socket
    structlog.get_logger().error("bug", exc_info=ZeroDivisionError("told"))
    entry = line.recv(4096)
    assert entry.startswith(b"MESSAGE\n")
    assert b"\nZeroDivisionError: told\nPRIORITY=3\n" in entry


def test_without_its_socket_the_journal_gets_lines_with_priorities(
    journal_socket: tuple[socket.socket, Any],
) -> None:
    line, stderr = journal_socket
    Path(line.getsockname()).unlink()
    structlog.get_logger().error("bug", detail="x")
    stderr.seek(0)
    assert stderr.read() == "<3>bug detail=x\n"


def test_every_line_of_a_text_gets_its_priority() -> None:
    assert logs.with_priority("a\nb", "3") == "<3>a\n<3>b"


def test_an_expected_failure_is_one_plain_line() -> None:
    stream = io.StringIO()
    logs.complain("gred.conf:3: no", stream=stream, environ={})
    assert stream.getvalue() == "gred.conf:3: no\n"
