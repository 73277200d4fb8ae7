"""Where log lines go and how they look (structlog).

The only module that configures structlog. Nothing here decides what is worth a line: callers name
an event, a constant, and its keys. ``text``, where a line has one, is the whole line for people.
"""

import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Literal, TextIO

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter, plain_traceback
from structlog.typing import EventDict, Processor, WrappedLogger

from gred.config.model import LogFormat
from gred.management import journal

Output = Literal["console", "journal", "logfmt", "json"]

_RESET, _DIM, _BOLD = "\x1b[0m", "\x1b[2m", "\x1b[1m"
_LEVEL_COLOURS = {"debug": "\x1b[36m", "warning": "\x1b[33m", "error": "\x1b[31m"}
_LEVEL_COLOURS["critical"] = _LEVEL_COLOURS["error"]
_HEX_COLUMNS = 16


def choose(
    wanted: LogFormat, *, foreground: bool, stream: TextIO, environ: Mapping[str, str]
) -> Output:
    """Return the output for the configured format.

    ``auto`` is the console for people, the journal when *stream* is the journal's, else logfmt.
    """
    if wanted != "auto":
        return wanted
    if foreground or _is_terminal(stream):
        return "console"
    if journal.listens_on(_descriptor(stream), environ):
        return "journal"
    return "logfmt"


def configure(
    wanted: LogFormat,
    *,
    verbosity: int = 0,
    foreground: bool = False,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Output:
    """Set structlog up and route the standard library's loggers into it; return what was chosen.

    *verbosity* counts the ``-v``: 0 shows what happened, from 1 on also states and decisions.
    *stream* is stderr unless given.
    """
    stream = sys.stderr if stream is None else stream
    output = choose(wanted, foreground=foreground, stream=stream, environ=environ)
    sink: WrappedLogger
    last: list[Processor]
    if output == "journal":
        sink = _JournalSink(stream)
        last = [_journal_fields]
    else:
        sink = _StreamSink(stream)
        last = _rendering(
            output,
            colours=_is_terminal(stream) and not environ.get("NO_COLOR"),
            microseconds=verbosity >= 2,
        )
    level = logging.DEBUG if verbosity else logging.INFO
    structlog.configure(
        processors=[structlog.processors.add_log_level, _plain_values, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    _adopt_standard_logging()
    return output


def _rendering(output: Output, *, colours: bool, microseconds: bool) -> list[Processor]:
    if output == "console":
        return [
            _clock("%H:%M:%S.%f" if microseconds else "%H:%M:%S"),
            structlog.processors.StackInfoRenderer(),
            _human_text,
            _console(colours=colours),
        ]
    stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
    if output == "json":
        return [
            stamp,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    return [
        stamp,
        structlog.processors.format_exc_info,
        structlog.processors.LogfmtRenderer(
            key_order=["timestamp", "level", "event"], bool_as_flag=False
        ),
    ]


def _console(*, colours: bool) -> ConsoleRenderer:
    reset, dim, bold = (_RESET, _DIM, _BOLD) if colours else ("", "", "")
    palette = _LEVEL_COLOURS if colours else {}

    def level(key: str, value: object) -> str:  # noqa: ARG001 - the protocol names it
        return f"{palette.get(str(value), '')}{value!s:<7}{reset}"

    def value(key_style: str | None, value_style: str) -> KeyValueColumnFormatter:
        return KeyValueColumnFormatter(
            key_style=key_style, value_style=value_style, reset_style=reset, value_repr=_quoted
        )

    def event(key: str, value: object) -> str:  # noqa: ARG001 - the protocol names it
        return f"{bold}{value}{reset}"

    return ConsoleRenderer(
        columns=[
            Column("timestamp", value(None, dim)),
            Column("level", level),
            Column("event", event),
            Column("", value(dim, "")),
        ],
        exception_formatter=plain_traceback,
        sort_keys=False,
    )


def _clock(form: str) -> Processor:
    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["timestamp"] = datetime.now().astimezone().strftime(form)
        return event

    return stamp


def _quoted(value: object) -> str:
    """Quote what would otherwise read as more than one value, and what would steer a terminal."""
    text = str(value)
    if text and text.isprintable() and not any(c in text for c in ' "='):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in escaped) + '"'


def _plain_values(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave text, numbers and booleans; a field that is ``None`` says nothing and goes."""
    plain: EventDict = {}
    for key, value in event.items():
        if value is None and key != "exc_info":
            continue
        if isinstance(value, Enum):
            plain[key] = value.name.lower()
        elif isinstance(value, str | bool | int | float) or key in {"exc_info", "stack_info"}:
            plain[key] = value
        elif isinstance(value, tuple | list | set | frozenset):
            plain[key] = ",".join(str(item) for item in value)
        else:
            plain[key] = str(value)
    return plain


def _human_text(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leave out the keys of a line that has its whole text."""
    text = event.get("text")
    if text is None:
        return event
    if "hex" in event:
        text = f"{text}\n{hex_dump(bytes.fromhex(event['hex']))}"
    kept = ("timestamp", "level", "exc_info", "exception", "stack")
    return {"event": text} | {key: event[key] for key in kept if key in event}


def hex_dump(data: bytes) -> str:
    """Return *data* as lines of offset, hex and printable ASCII."""
    lines = []
    for offset in range(0, len(data), _HEX_COLUMNS):
        row = data[offset : offset + _HEX_COLUMNS]
        shown = "".join(chr(b) if 0x20 <= b < 0x7F else "." for b in row)
        lines.append(f"    {offset:04x}  {row.hex(' ', -2):<39}  {shown}")
    return "\n".join(lines)


def _journal_fields(_logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Return the journal fields of one line: MESSAGE for people, GRED_* for ``journalctl``."""
    event = structlog.processors.format_exc_info(_logger, method, event)
    level = str(event.pop("level", "info"))
    name = str(event.pop("event"))
    exception = event.pop("exception", None)
    text = str(event["text"]) if "text" in event else name
    if "text" not in event:
        text += "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    elif "hex" in event:
        text += "\n" + hex_dump(bytes.fromhex(str(event["hex"])))
    if exception:
        text += f"\n{exception}"
    fields = {
        "MESSAGE": text,
        "PRIORITY": str(journal.PRIORITY.get(level, 6)),
        "SYSLOG_IDENTIFIER": "gred",
        "GRED_EVENT": name,
    }
    for key, value in event.items():
        if key not in {"text", "hex"}:
            fields[journal.field_name(key)] = str(value)
    return {"fields": fields}


class _StreamSink:
    """Writes lines. A reader that is gone is no reason to stop tunnels."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = _write


class _JournalSink:
    """Writes entries to the journal; what it cannot take goes to its stream with a priority."""

    def __init__(self, stream: TextIO) -> None:
        self._journal = journal.Journal()
        self._stream = _StreamSink(stream)

    def _write(self, *, fields: dict[str, str]) -> None:
        try:
            self._journal.send(fields)
        except OSError:
            self._stream.info(with_priority(fields["MESSAGE"], fields["PRIORITY"]))

    debug = info = warning = error = critical = _write


def with_priority(text: str, priority: str) -> str:
    """Return *text* with the ``<N>`` that the journal reads before each line (sd-daemon(3))."""
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines() or [""])


def complain(
    text: str, *, stream: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """Write an expected failure as one plain line, before there is a log to write it to."""
    stream = sys.stderr if stream is None else stream
    if journal.listens_on(_descriptor(stream), environ):
        text = with_priority(text, str(journal.PRIORITY["error"]))
    _StreamSink(stream).error(text)


class _Adopter(logging.Handler):
    """Hands what libraries log (asyncio, pyroute2, scapy) on as ``library`` lines."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno,
            "library",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info or None,
        )


def _adopt_standard_logging() -> None:
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Adopter):
            root.removeHandler(handler)
    root.addHandler(_Adopter())
    root.setLevel(logging.WARNING)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False


def _descriptor(stream: TextIO) -> int:
    """Return the descriptor of *stream*, or -1 when it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return -1
