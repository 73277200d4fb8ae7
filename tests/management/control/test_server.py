"""A server on a real socket, and clients of every kind."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gred.control.errors import ExitCode
from gred.management.control import server as module
from gred.management.control.client import NoAnswerError, RefusedError, ask, complain
from gred.management.control.protocol import REQUEST_MAX
from gred.management.control.server import Answers, Command, ControlError, Server
from tests.management.doubles import RememberingLog

Scenario = Callable[[], Coroutine[Any, Any, None]]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(scenario: Scenario) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(scenario())

    return run


async def echo(request: Mapping[str, Any]) -> Answers:
    for number in range(int(request.get("times", 1))):
        yield {"echo": request.get("text", ""), "number": number}
    yield {"done": {}}


COMMANDS = {"echo": Command(echo), "change": Command(echo, changes=True)}


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Server]:
    server = Server(path, COMMANDS, RememberingLog().logger)
    await server.open()
    try:
        yield server
    finally:
        await server.close()


async def asked(path: Path, command: str, **more: Any) -> list[dict[str, Any]]:
    return await asyncio.to_thread(lambda: list(ask(path, command, **more)))


def test_an_answer_comes_line_by_line(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        async with serving(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            found = await asked(path, "echo", text="a\nb", times=3)
            assert [one.get("number") for one in found] == [0, 1, 2, None]
            assert found[0]["echo"] == "a\nb"
            assert await asked(path, "change")
        assert not path.exists()

    run(scenario)


def test_who_may_not_change_is_told(
    run: Callable[[Scenario], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_may_change", lambda _writer: False)
    path = tmp_path / "control"

    async def scenario() -> None:
        async with serving(path):
            with pytest.raises(RefusedError, match="sudo") as caught:
                await asked(path, "change")
            assert caught.value.code == "not_permitted"
            assert await asked(path, "echo")
            with pytest.raises(RefusedError, match="it knows echo, change"):
                await asked(path, "nonsense")

    run(scenario)


def test_garbage_is_answered_and_the_next_line_too(
    run: Callable[[Scenario], None], tmp_path: Path
) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        async with serving(path):
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b"\xff\xfe\n{}\n" + b'{"version":1,"command":"echo"}\n')
            codes = [json.loads(await reader.readline()) for _ in range(4)]
            assert [one.get("error", {}).get("code") for one in codes] == [
                "bad_request",
                "bad_version",
                None,
                None,
            ]
            writer.write(b"x" * (2 * REQUEST_MAX))
            assert json.loads(await reader.readline())["error"]["code"] == "bad_request"
            assert await reader.read() == b""
            writer.close()

    run(scenario)


def test_a_client_that_does_not_read_is_let_go(
    run: Callable[[Scenario], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    path = tmp_path / "control"

    async def scenario() -> None:
        async with serving(path) as server:
            deaf = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            deaf.connect(str(path))
            text = "x" * 10_000
            deaf.sendall(
                json.dumps(
                    {"version": 1, "command": "echo", "text": text, "times": 100_000}
                ).encode()
                + b"\n"
            )
            async with asyncio.timeout(10):
                while not server._clients:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
                while server._clients:
                    assert await asked(path, "echo"), "others are served meanwhile"
            deaf.close()

    run(scenario)


def test_too_many_are_told_so(
    run: Callable[[Scenario], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLIENTS", 2)
    path = tmp_path / "control"

    async def scenario() -> None:
        async with serving(path) as server:
            pairs = [await asyncio.open_unix_connection(path) for _ in range(2)]
            async with asyncio.timeout(10):
                while len(server._clients) < 2:  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
            with pytest.raises(RefusedError, match="try again"):
                await asked(path, "echo")
            for _reader, writer in pairs:
                writer.close()
                await writer.wait_closed()
            async with asyncio.timeout(10):
                while server._clients:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.01)
            assert await asked(path, "echo")

    run(scenario)


def test_what_a_dead_daemon_left_is_replaced(
    run: Callable[[Scenario], None], tmp_path: Path
) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
        left.listen()

    async def scenario() -> None:
        with pytest.raises(NoAnswerError, match="is gone"):
            await asked(path, "echo")
        async with serving(path):
            assert await asked(path, "echo")
            second = Server(path, COMMANDS, RememberingLog().logger)
            with pytest.raises(ControlError, match="runs already"):
                await second.open()
            assert await asked(path, "echo"), "the first is not disturbed"

    run(scenario)


def test_a_place_that_cannot_be_is_said(run: Callable[[Scenario], None], tmp_path: Path) -> None:
    async def scenario() -> None:
        server = Server(tmp_path / "a" / "b" / "c", COMMANDS, RememberingLog().logger)
        with pytest.raises(ControlError, match="RuntimeDirectory="):
            await server.open()
        (tmp_path / "file").write_text("")
        server = Server(tmp_path / "file", COMMANDS, RememberingLog().logger)
        with pytest.raises(ControlError, match="in use"):
            await server.open()
        assert (tmp_path / "file").exists()

    run(scenario)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, "no daemon runs with this configuration"),
        (lambda path: path.write_text(""), "is gone"),
    ],
)
def test_no_daemon_is_said_with_a_remedy(
    tmp_path: Path, prepare: Callable[[Path], object], words: str
) -> None:
    path = tmp_path / "control"
    prepare(path)
    with pytest.raises(NoAnswerError, match=words):
        list(ask(path, "echo"))


def test_no_permission_is_said_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0)
        tmp_path.chmod(0o755)
        process = os.fork()
        if process == 0:
            code = 1
            try:
                os.setuid(65534)
                list(ask(path, "echo"))
            except NoAnswerError as error:
                code = complain(error) if "be a member of group gred" in str(error) else 2
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code == ExitCode.NO_PERMISSION
