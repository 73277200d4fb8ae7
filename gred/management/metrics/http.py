"""HTTP as far as metrics need it: one request a connection, a few at a time, each bounded.

Nothing here knows what is answered, nor a tunnel.
"""

import asyncio
import contextlib
import gzip
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from gred.management.ratelimit import TokenBucket

CLIENTS = 16
HEAD_MAX = 8192  # bytes of a request
PATIENCE = 5.0  # seconds for a request, and for reading the answer
RATE, BURST = 50.0, 50  # requests: a second, at once; who asks faster waits
_WORTH_IT = 1024  # bytes from which on an answer is compressed


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. *path*: without the query. *accept*: the header, or empty."""

    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What is answered."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = "text/plain; charset=utf-8"


Answer = Callable[[Request], Awaitable[Response]]


class BadRequestError(Exception):
    """No request that is answered; *status* says why."""

    def __init__(self, status: HTTPStatus) -> None:
        self.status = status
        super().__init__(status.phrase)


class HttpServer:
    """Serves clients with *answer*; ``accept`` is what asyncio.start_server calls."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._clients: set[asyncio.Task[None]] = set()
        self._bucket = TokenBucket(rate=RATE, burst=BURST, clock=time.monotonic)
        self._turn = asyncio.Lock()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client, and let it go."""
        task = asyncio.current_task()
        if task is None or len(self._clients) >= CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # it is gone, too slow, or we are
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def close(self) -> None:
        """Let all clients go."""
        for client in self._clients:
            client.cancel()
        if self._clients:
            await asyncio.wait(self._clients)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_body, encoding = True, ""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            method, request, encodings = parse(head)
            has_body = method != "HEAD"
            async with self._turn:
                if not self._bucket.take():
                    await asyncio.sleep(1 / RATE)
            response = await self._answer(request)
            if "gzip" in encodings and len(response.body) >= _WORTH_IT:
                encoding = "gzip"
        except asyncio.LimitOverrunError:
            response = refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except BadRequestError as error:
            response = refusal(error.status)
        body = gzip.compress(response.body, 1) if encoding else response.body
        lines = [
            f"HTTP/1.1 {response.status.value} {response.status.phrase}",
            f"Content-Type: {response.content_type}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        lines += [f"Content-Encoding: {encoding}", "Vary: Accept-Encoding"] if encoding else []
        lines += ["Allow: GET, HEAD"] if response.status is HTTPStatus.METHOD_NOT_ALLOWED else []
        writer.write("\r\n".join((*lines, "", "")).encode() + (body if has_body else b""))
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def parse(head: bytes) -> tuple[str, Request, str]:
    """Return method, request, and the encodings that are accepted. Raises BadRequestError."""
    first, *rest = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequestError(HTTPStatus.BAD_REQUEST)
    method, target, _version = words
    if method not in {"GET", "HEAD"}:
        raise BadRequestError(HTTPStatus.METHOD_NOT_ALLOWED)
    headers = {}
    for line in rest:
        name, _colon, value = line.partition(":")
        headers[name.lower()] = value.strip()
    try:
        path = urlsplit(target).path
    except ValueError:
        raise BadRequestError(HTTPStatus.BAD_REQUEST) from None
    request = Request(path or "/", headers.get("accept", ""))
    return method, request, headers.get("accept-encoding", "")


def refusal(status: HTTPStatus) -> Response:
    """Return an answer that says *status* alone."""
    return Response(f"{status.phrase}\n".encode(), status)
