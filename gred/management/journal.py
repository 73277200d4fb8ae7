"""The journal's native protocol: one datagram per log line, one field per line of it.

Nothing here chooses what is logged. A journal that cannot be reached is an OSError for the caller.
"""

import os
import socket
from collections.abc import Mapping

SOCKET = "/run/systemd/journal/socket"
PRIORITY = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}  # syslog(3)
_BUFFER = 8 << 20  # one decoded packet with its hex fits easily


def listens_on(descriptor: int, environ: Mapping[str, str]) -> bool:
    """Return whether *descriptor* is the stream that the journal gave to this service.

    JOURNAL_STREAM alone does not tell: it is inherited by a child whose output goes elsewhere.
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def encode(fields: Mapping[str, str]) -> bytes:
    """Return the datagram for *fields*.

    A value with a newline cannot be a ``NAME=value`` line; it follows its name as a 64-bit
    little-endian length and its bytes.
    """
    parts: list[bytes] = []
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", len(data).to_bytes(8, "little"), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


def field_name(key: str) -> str:
    """Return the journal field for a log key: ``GRED_`` and the key, capitals, digits and ``_``."""
    return "GRED_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in key).upper()


class Journal:
    """A line to the journal at *path*. Opening it never fails; sending may."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._socket.setblocking(False)

    def send(self, fields: Mapping[str, str]) -> None:
        """Send one entry. Raises OSError (absent, full, too large): it is then not logged."""
        # Addressed each time: a journal that was restarted is found again.
        self._socket.sendto(encode(fields), self._path)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
