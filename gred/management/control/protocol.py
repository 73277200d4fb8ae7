"""Requests and answers of the control socket, as lines of JSON. Pure.

    {"version": 1, "command": "status", "tunnels": ["t1"]}
    {"version": 1, "tunnel": {...}}         as many lines as there is to say
    {"version": 1, "done": {...}}           the last one, or
    {"version": 1, "error": {"code": "no_such_tunnel", "message": "..."}}

Members may be added in the same version; whoever reads ignores what is not known. Nothing here
opens or reads a socket.
"""

import json
from collections.abc import Mapping
from typing import Any

VERSION = 1
REQUEST_MAX = 64 * 1024  # bytes of one line
ANSWER_MAX = 16 * 1024 * 1024  # bytes of one line that a client reads


class ProtocolError(Exception):
    """A line that is no request or no answer. *code* is a constant, the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def encode(members: Mapping[str, Any]) -> bytes:
    """Return *members* as one line; what JSON does not know becomes text."""
    text = json.dumps({"version": VERSION, **members}, default=str, separators=(",", ":"))
    return text.encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """Return the members of a line. Raises ProtocolError."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("bad_request", f"not a line of JSON: {error}") from error
    if not isinstance(found, dict):
        raise ProtocolError("bad_request", "expected a JSON object")
    version = found.get("version")
    if version != VERSION:
        raise ProtocolError(
            "bad_version", f"this is version {VERSION} of the protocol, got {version!r}"
        )
    return found
