"""The monitor and a kernel that tells more than anybody reads."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
import uvloop

from gred.control.kernel.monitor import LinkMonitor, open_listeners
from gred.lab.hosts import Host, Lab
from tests import require

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def host() -> Iterator[Host]:
    require.root()
    require.program("ip", package="iproute2")
    with Lab("gredmon") as lab:
        yield lab.host("alone", ipv6=False)


@pytest.mark.parametrize("factory", LOOPS.values(), ids=LOOPS)
def test_a_change_after_lost_messages_is_noticed(
    host: Host, monkeypatch: pytest.MonkeyPatch, factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """An error that waits on a socket makes libuv stop watching it."""
    listeners = host.inside(open_listeners)
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    monkeypatch.setattr("gred.control.kernel.monitor.open_listeners", lambda: listeners)
    bugs: list[object] = []

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: bugs.append(context))
        noticed = asyncio.Event()
        monitor = LinkMonitor(loop, noticed.set, delay=0.0)
        monitor.open()
        for number in range(1, 50):  # nobody reads meanwhile: the buffer is full
            host.address(f"10.99.{number}.1/24", "lo")
        for number in range(50, 53):
            async with asyncio.timeout(10):
                await noticed.wait()
            await asyncio.sleep(0.05)  # what is under way has arrived
            noticed.clear()
            host.address(f"10.99.{number}.1/24", "lo")
        async with asyncio.timeout(10):
            await noticed.wait()
        monitor.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())
    assert not bugs
