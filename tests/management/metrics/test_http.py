"""One request a connection, however odd: it is answered or let go, and nothing else happens."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.management.metrics import http
from gred.management.metrics.http import (
    BadRequestError,
    HttpServer,
    Request,
    Response,
    parse,
    refusal,
)

BODY = b"gred_tunnel_up 1\n" * 200


async def answer(request: Request) -> Response:
    if request.path == "/metrics":
        return Response(BODY, content_type=request.accept or "text/plain")
    return refusal(HTTPStatus.NOT_FOUND)


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve at a port of loopback."""
    clients = HttpServer(answer)
    server = await asyncio.start_server(clients.accept, "127.0.0.1", 0, limit=http.HEAD_MAX)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await clients.close()
        await server.wait_closed()


def ask(request: bytes) -> bytes:
    """Return all that is answered to *request*."""

    async def run() -> bytes:
        async with serving() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            try:
                return await asyncio.wait_for(reader.read(), 10)
            finally:
                writer.close()

    return asyncio.run(run())


def test_a_get_is_answered() -> None:
    head, _blank, body = ask(b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\n\r\n").partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"HTTP/1.1 200 OK"
    assert f"Content-Length: {len(BODY)}".encode() in head.splitlines()
    assert body == BODY


def test_it_is_compressed_for_who_can() -> None:
    head, _blank, body = ask(
        b"GET /metrics HTTP/1.1\r\nAccept: a/b\r\nAccept-Encoding: gzip, br\r\n\r\n"
    ).partition(b"\r\n\r\n")
    assert b"Content-Encoding: gzip" in head.splitlines()
    assert b"Content-Type: a/b" in head.splitlines()
    assert gzip.decompress(body) == BODY


def test_a_head_has_no_body() -> None:
    head, _blank, body = ask(b"HEAD /metrics HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(BODY)}".encode() in head.splitlines()
    assert body == b""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /else HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/2\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"\xff\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * http.HEAD_MAX, 431),
    ],
)
def test_what_is_no_request_is_told_so(request_bytes: bytes, status: int) -> None:
    assert ask(request_bytes).startswith(f"HTTP/1.1 {status} ".encode())


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(head: bytes) -> None:
    with contextlib.suppress(BadRequestError):
        parse(head + b"\r\n\r\n")


def test_who_asks_too_often_waits_and_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "RATE", 1000.0)
    monkeypatch.setattr(http, "BURST", 1)

    async def run() -> None:
        async with serving() as port:

            async def one() -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
                told = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                return told

            told = await asyncio.gather(*(one() for _number in range(http.CLIENTS)))
            assert all(answer.endswith(BODY) for answer in told)

    asyncio.run(run())


def test_who_says_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    assert ask(b"GET /metrics HTTP/1.1\r\n") == b""


def test_there_are_no_more_clients_than_can_be_served() -> None:
    async def run() -> None:
        async with serving() as port:
            many = [
                await asyncio.open_connection("127.0.0.1", port) for _number in range(http.CLIENTS)
            ]
            for _reader, writer in many:
                writer.write(b"GET /metrics HTTP/1.1\r\n")  # and the rest later
            late, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(late.read(), 10) == b""
            writer.close()
            for reader, writer in many:
                writer.write(b"\r\n")
                assert (await asyncio.wait_for(reader.read(), 10)).endswith(BODY)
                writer.close()

    asyncio.run(run())
