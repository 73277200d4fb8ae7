"""Metrics begin, move and end as the configuration says; what cannot be had is told once."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from gred.config.model import DaemonConfig, ListenAddress
from gred.control.snapshot import Snapshot
from gred.dataplane.tunnels import Counters
from gred.management.metrics import exporter, following
from gred.management.metrics.following import Metrics
from gred.management.metrics.lag import LagMeter
from gred.management.metrics.moment import Moment, Taker
from gred.management.reloading import Reloads
from tests.management.doubles import RememberingLog
from tests.management.metrics.samples import snapshot
from tests.waiting import until


class FakeDaemon:
    def names(self) -> list[str]:
        return ["t1"]

    def snapshot(self, name: str) -> Snapshot:
        return snapshot(name)

    def counters(self) -> Iterator[tuple[str | None, Counters]]:
        yield None, Counters(0, 0, 0, 0, {}, {})


class FakeRenderer:
    def __init__(self) -> None:
        self.made = 0

    def http(self, moment: Moment, accept: str) -> tuple[bytes, str]:
        self.made += 1
        assert not gc.isenabled(), "packets would wait for it"
        return f"{moment.tunnels[0].name} {self.made} {accept}\n".encode(), "text/plain"

    def file(self, moment: Moment) -> bytes:
        return moment.tunnels[0].name.encode()


class Scene:
    """Metrics under test, and what they did."""

    def __init__(self) -> None:
        self.log = RememberingLog()
        self.renderer = FakeRenderer()
        self.ready = (True, "1 tunnel: 1 up")
        loop = asyncio.get_running_loop()
        meter = LagMeter(loop)
        taker = Taker(FakeDaemon(), {}, lambda: Reloads(successful=True, succeeded_at=0), meter)
        self.metrics = Metrics(
            taker, meter, lambda: self.ready, self.log.logger, make=lambda: self.renderer
        )

    async def get(self, where: Path | int, path: str = "/metrics", accept: str = "") -> str:
        """Return status and body."""
        connecting = (
            asyncio.open_unix_connection(where)
            if isinstance(where, Path)
            else asyncio.open_connection("127.0.0.1", where)
        )
        reader, writer = await connecting
        writer.write(f"GET {path} HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode())
        told = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return told.split()[1].decode() + " " + told.partition(b"\r\n\r\n")[2].decode()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    try:
        yield made
    finally:
        await made.metrics.close()
        await made.metrics.close()


def at(where: Path) -> DaemonConfig:
    return DaemonConfig(metrics_listen=ListenAddress(path=str(where)))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_it_follows_the_configuration(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene() as it:
            first, second = tmp_path / "first", tmp_path / "second"
            await it.metrics.follow(DaemonConfig())
            assert it.log.lines == []
            await it.metrics.follow(at(first))
            assert await it.get(first) == "200 t1 1 \n"
            assert gc.isenabled()
            assert first.stat().st_mode & 0o777 == exporter.SOCKET_MODE
            await it.metrics.follow(at(first))
            assert it.log.only("metrics").fields == {"listen": f"unix:{first}"}
            await it.metrics.follow(at(second))
            assert not first.exists()
            assert (await it.get(second)).startswith("200 ")
            await it.metrics.follow(DaemonConfig())
            assert not second.exists()

    asyncio.run(run())


def test_many_who_ask_cost_one_text_a_second(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene() as it:
            path = tmp_path / "metrics"
            await it.metrics.follow(at(path))
            told = await asyncio.gather(*(it.get(path) for _number in range(10)))
            assert set(told) == {"200 t1 1 \n"}
            assert await it.get(path, accept="b") == "200 t1 2 b\n"

    asyncio.run(run())


def test_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with scene() as it:
            path = tmp_path / "metrics"
            await it.metrics.follow(at(path))
            assert await it.get(path, "/healthz") == "200 ok\n"
            assert await it.get(path, "/ready") == "200 1 tunnel: 1 up\n"
            it.ready = (False, "1 tunnel: 1 down")
            assert await it.get(path, "/ready") == "503 1 tunnel: 1 down\n"
            assert await it.get(path, "/healthz") == "200 ok\n"
            assert "/metrics" in await it.get(path, "/")
            assert (await it.get(path, "/other")).startswith("404")
            monkeypatch.setattr(exporter, "PATIENCE", 0.0)
            assert (await it.get(path, "/healthz")).startswith("503 the event loop")
            assert (await it.get(path)).startswith("503")

    asyncio.run(run())


def test_an_address_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(following, "AGAIN", 0.01)
        async with scene() as it:
            port = free_port()
            where = ListenAddress(ip_address("127.0.0.1"), port)
            with socket.socket() as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(("127.0.0.1", port))
                taken.listen()
                await it.metrics.follow(DaemonConfig(metrics_listen=where))
                detail = it.log.only("metrics_failed").fields["detail"]
                assert detail == (
                    f"no metrics at 127.0.0.1:{port}: Address already in use"
                    f" (who has it: ss -ltnp sport = {port}; it is tried again)"
                )
            await until(lambda: "metrics" in it.log.events())
            assert (await it.get(port)).startswith("200")
            it.log.only("metrics_failed")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("where", "why"),
    [
        (ListenAddress(ip_address("203.0.113.9"), 9999), "no address of this host"),
        (ListenAddress(path="/nowhere/metrics"), "No such file"),
    ],
)
def test_where_nobody_can_listen(where: ListenAddress, why: str) -> None:
    with pytest.raises(exporter.ListenError, match=why):
        exporter.listen(where)


def test_a_dead_daemons_socket_is_replaced_and_a_living_ones_not(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    first = exporter.listen(ListenAddress(path=str(path)))
    with pytest.raises(exporter.ListenError, match="Address already in use"):
        exporter.listen(ListenAddress(path=str(path)))
    first.close()
    assert not path.exists()


def test_without_prometheus_client_it_says_what_to_do(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene() as it:

            def make() -> FakeRenderer:
                raise ImportError("No module named 'prometheus_client'")

            it.metrics._make = make
            await it.metrics.follow(at(tmp_path / "metrics"))
            assert it.log.only("metrics_failed").fields["detail"] == following.MISSING

    asyncio.run(run())


def test_a_file_is_written_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        monkeypatch.setattr(exporter, "WRITE_EVERY", 0.01)
        async with scene() as it:
            path = tmp_path / "later" / "gred.prom"
            await it.metrics.follow(DaemonConfig(metrics_textfile=str(path)))
            await until(lambda: "metrics_failed" in it.log.events())
            detail = it.log.only("metrics_failed").fields["detail"]
            assert detail.startswith(f"cannot write {path}: No such file or directory (")
            path.parent.mkdir()
            await until(path.exists)
            assert path.read_text() == "t1"
            await until(lambda: "metrics" in it.log.events())
            assert it.log.only("metrics").fields == {"textfile": str(path)}
        assert not path.exists()

    asyncio.run(run())


def test_the_library_is_imported_only_where_it_is_used() -> None:
    import subprocess
    import sys

    code = (
        "import sys, gred.management.run, gred.management.cli\n"
        "print([name for name in sys.modules if 'prometheus' in name or name == 'http.server'])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
