"""Asks a running daemon by its control socket. Blocks; for the command line.

Whatever keeps it from an answer becomes one line that names the remedy. Nothing here knows what is
asked.
"""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gred.control.errors import ExitCode
from gred.management.control.protocol import ANSWER_MAX, ProtocolError, decode, encode

PATIENCE = 10.0  # seconds for an answer to begin


class NoAnswerError(Exception):
    """There is no daemon, or it does not answer; the message says what to do."""


class RefusedError(Exception):
    """The daemon answers with an error. *code* is a constant, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def ask(
    path: Path, command: str, *, patience: float | None = PATIENCE, **more: Any
) -> Iterator[dict[str, Any]]:
    """Yield each line of the answer to *command*, the last one has ``done``.

    *patience*: seconds between two lines; None: for ever. Raises NoAnswerError and RefusedError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(patience)
        try:
            line.connect(os.fsencode(path))
            with contextlib.suppress(BrokenPipeError):  # it has said why before it let us go
                line.sendall(encode({"command": command, **more}))
            with line.makefile("rb") as answers:
                yield from _read(answers, path)
        except OSError as error:
            raise NoAnswerError(_reason(error, path)) from error


def _read(answers: Any, path: Path) -> Iterator[dict[str, Any]]:
    while data := answers.readline(ANSWER_MAX):
        try:
            found = decode(data)
        except ProtocolError as error:
            raise NoAnswerError(
                f"the daemon at {path} is of another version ({error}): restart it after an update"
            ) from error
        if "error" in found:
            said = found["error"]
            raise RefusedError(str(said.get("code")), str(said.get("message")))
        yield found
        if "done" in found:
            return
    raise NoAnswerError(f"the daemon at {path} ended before it had answered")


def _reason(error: OSError, path: Path) -> str:
    match error.errno:
        case errno.ENOENT:
            return (
                f"no daemon runs with this configuration: there is no {path} (systemctl start gred;"
                " -c FILE asks the daemon that was started with FILE)"
            )
        case errno.ECONNREFUSED:
            return f"the daemon that made {path} is gone: systemctl start gred"
        case errno.EACCES | errno.EPERM:
            return f"no permission for {path}: use sudo, or be a member of group gred"
    if isinstance(error, TimeoutError):
        return f"the daemon at {path} does not answer: systemctl status gred, journalctl -u gred"
    return f"cannot ask the daemon at {path}: {error.strerror or error}"


def complain(error: NoAnswerError | RefusedError) -> int:
    """Say on stderr why there is no answer; return the exit code."""
    print(f"gred: {error}", file=sys.stderr)
    refused = isinstance(error, RefusedError) and error.code == "not_permitted"
    if refused or isinstance(error.__cause__, PermissionError):
        return int(ExitCode.NO_PERMISSION)
    return int(ExitCode.FAILURE)
