"""Questions to a resolver that blocks, in threads of their own."""

import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from gred.config.model import IPAddress
from gred.control import resolver
from gred.control.resolver import AT_ONCE, Resolver
from tests.control.conftest import Run
from tests.waiting import until

OWN = [ip_address("192.0.2.2"), ip_address("2001:db8::2")]


def test_the_answer_comes_with_the_best_first(run: Run) -> None:
    async def scenario() -> None:
        asked: list[tuple[str, int]] = []

        def look_up(host: str, version: int) -> list[IPAddress]:
            asked.append((host, version))
            return OWN

        assert await Resolver(asyncio.get_running_loop(), look_up).resolve("a", 6) == OWN
        assert asked == [("a", 6)]

    run(scenario())


def test_a_refusal_is_raised(run: Run) -> None:
    async def scenario() -> None:
        def look_up(host: str, version: int) -> list[IPAddress]:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        with pytest.raises(OSError, match="Temporary failure"):
            await Resolver(asyncio.get_running_loop(), look_up).resolve("a", 0)

    run(scenario())


def test_what_nobody_answers_keeps_neither_the_loop_nor_its_threads_nor_the_end(run: Run) -> None:
    go, asked = threading.Event(), []

    def look_up(host: str, version: int) -> list[IPAddress]:
        asked.append(host)
        go.wait(60)
        return OWN

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        questions = Resolver(loop, look_up)
        tasks = [
            asyncio.ensure_future(questions.resolve(str(number), 0))
            for number in range(AT_ONCE + 1)
        ]
        await until(lambda: len(asked) == AT_ONCE)
        assert await loop.run_in_executor(None, lambda: 42) == 42
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run(scenario())
    left = [thread for thread in threading.enumerate() if thread.name == "resolve"]
    assert all(thread.daemon for thread in left)
    go.set()  # the loop is closed by now
    for thread in left:
        thread.join(10)


def test_an_address_is_its_own_name() -> None:
    assert resolver.look_up("192.0.2.2", 0) == [OWN[0]]
    assert resolver.look_up("2001:db8::2", 6) == [OWN[1]]
    with pytest.raises(socket.gaierror):
        resolver.look_up("2001:db8::2", 4)
    with pytest.raises(OSError, match="no name of a host"):
        resolver.look_up("x" * 70, 0)
