"""Answers clients of the control socket: a few at a time, each bounded in memory and time.

Reading is for members of the socket's group and for root, changing for root and the daemon's own
user (SO_PEERCRED). What is asked is answered in slices of the loop: packets come first. Nothing
here knows what a command does.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gred.management.control.protocol import REQUEST_MAX, ProtocolError, decode, encode
from gred.management.ratelimit import TokenBucket

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CLIENTS = 32
BACKLOG = 256 * 1024  # bytes that a client may leave unread
PATIENCE = 10.0  # seconds that a client may take to read on
IDLE = 60.0  # seconds without a request
RATE, BURST = 50.0, 50  # requests of one client: a second, at once
MODE = 0o660

Answers = AsyncGenerator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """*answer* is called with the request, and yields what is told of it.

    *changes*: only root and the daemon's own user may.
    """

    answer: Callable[[Mapping[str, Any]], Answers]
    changes: bool = False


class ControlError(Exception):
    """The socket cannot be had; the message says why and what to do."""


class Server:
    """Listens at *path*. Used on a running loop; ``open`` first."""

    def __init__(
        self, path: Path, commands: Mapping[str, Command], log: "FilteringBoundLogger"
    ) -> None:
        self.path = path
        self._commands = commands
        self._log = log
        self._server: asyncio.AbstractServer | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._inode: int | None = None

    async def open(self) -> None:
        """Begin to listen. Raises ControlError."""
        listening = _listen(self.path)
        self._inode = self.path.stat().st_ino
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listening, limit=REQUEST_MAX
        )

    async def close(self) -> None:
        """Listen no more, and let all clients go. Harmless twice."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:  # else it is another daemon's by now
                self.path.unlink()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= CLIENTS:
            writer.write(encode(_error("busy", f"{CLIENTS} clients are being served: try again")))
            writer.close()
            return
        self._clients.add(task)
        writer.transport.set_write_buffer_limits(high=BACKLOG)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # it is gone, does not read, or we are
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        may_change = _may_change(writer)
        loop = asyncio.get_running_loop()
        bucket = TokenBucket(rate=RATE, burst=BURST, clock=loop.time)
        while True:
            async with asyncio.timeout(IDLE):
                try:
                    line = await reader.readuntil()
                except asyncio.IncompleteReadError:
                    return
                except asyncio.LimitOverrunError:
                    message = f"a request is at most {REQUEST_MAX} bytes"
                    await _send(writer, _error("bad_request", message))
                    return
            if not bucket.take():
                await asyncio.sleep(1 / RATE)  # what it asks for is earned by then
            await self._answer(line, writer, may_change=may_change)

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter, *, may_change: bool) -> None:
        try:
            request = decode(line)
            command = self._command(request, may_change=may_change)
            async with contextlib.aclosing(command.answer(request)) as answers:
                async for members in answers:
                    await _send(writer, members)
        except ProtocolError as error:
            await _send(writer, _error(error.code, str(error)))

    def _command(self, request: Mapping[str, Any], *, may_change: bool) -> Command:
        """Return what is asked. Raises ProtocolError."""
        command = self._commands.get(str(request.get("command")))
        if command is None:
            known = ", ".join(self._commands)
            raise ProtocolError(
                "no_such_command", f"this daemon knows no such command; it knows {known}"
            )
        if command.changes and not may_change:
            raise ProtocolError("not_permitted", "only root and gred's own user may: use sudo")
        return command


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


async def _send(writer: asyncio.StreamWriter, members: Mapping[str, Any]) -> None:
    if writer.is_closing():  # uvloop raises RuntimeError then
        raise ConnectionResetError(errno.ECONNRESET, "the client is gone")
    writer.write(encode(members))
    async with asyncio.timeout(PATIENCE):
        await writer.drain()


def _may_change(writer: asyncio.StreamWriter) -> bool:
    """Whether the process at the other end is root's or our own user's."""
    peer = writer.get_extra_info("socket")
    credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _process, user, _group = struct.unpack("3i", credentials)
    return user in {0, os.geteuid()}


def _listen(path: Path) -> socket.socket:
    """Return a listening socket at *path*; one that a dead daemon left is replaced."""
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            _bind(listening, path)
            path.chmod(MODE)
            listening.listen(CLIENTS)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ControlError(
            f"no control socket at {path}: {reason} (RuntimeDirectory=gred in the unit makes its"
            " directory; ControlSocket= names another place, or none)"
        ) from error
    return listening


def _bind(listening: socket.socket, path: Path) -> None:
    try:
        listening.bind(os.fsencode(path))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not path.is_socket():
            raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.settimeout(1.0)
            answer = asking.connect_ex(os.fsencode(path))
        if answer != errno.ECONNREFUSED:
            raise ControlError(
                f"no control socket at {path}: a daemon with the same configuration runs already"
            ) from error
        path.unlink()
        listening.bind(os.fsencode(path))
