"""Who listens to packets: what is meant, how much of it, and that it ends with the listener."""

import asyncio
import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gred.dataplane.trace import Tap, TracedPacket
from gred.management.control import packets
from gred.management.control.client import RefusedError, ask
from gred.management.control.packets import LINE, OVERHEAD, QUEUE, Listener, Wanted
from gred.wire.drop import DropReason
from tests.control.fakes import REMOTE, House
from tests.management.control.test_commands import ONE, TWO, serving
from tests.management.doubles import Clock

HERE = bytes([192, 0, 2, 7]).ljust(16, b"\0")


def packet(data: bytes = b"packet", tunnel: str | None = "t1", reason: int = 0) -> TracedPacket:
    return TracedPacket("rx", tunnel, data, DropReason(reason))


def listener(clock: Clock | None = None, **wanted: Any) -> Listener:
    return Listener(Wanted(**wanted), clock=lambda: 7, seconds=clock or Clock())


@pytest.mark.parametrize(
    ("tunnel", "reason", "source", "is_meant"),
    [
        ("t1", DropReason.NONE, b"", True),
        ("t1", DropReason.CSUM_ERR, HERE, True),
        ("t2", DropReason.NONE, HERE, False),
        ("t2", DropReason.KEY_MISMATCH, HERE, True),
        ("t2", DropReason.KEY_MISMATCH, bytes(16), False),
        (None, DropReason.NO_TUNNEL, HERE, True),
        (None, DropReason.NO_TUNNEL, bytes(16), False),
    ],
)
def test_a_tunnels_packets_and_those_of_its_remotes_that_are_nobodys(
    tunnel: str | None, reason: DropReason, source: bytes, is_meant: bool
) -> None:
    some = Wanted(tunnels=frozenset({"t1"}), remotes=frozenset({HERE}))
    assert some.has(tunnel, reason, source) is is_meant
    assert Wanted().has(tunnel, reason, source)


def test_a_line_has_what_came() -> None:
    async def scenario() -> None:
        one = listener(snap=4)
        assert one.room
        one.take(packet(b"\x45abcdef", reason=DropReason.CSUM_ERR))
        assert one.came.is_set()
        one.take(packet(b"\x46", tunnel=None))
        first, second = one.line()["packets"]
        assert b64decode(first.pop("data")) == b"\x45abc"
        told = {"time": 7, "direction": "rx", "tunnel": "t1"}
        assert first == {**told, "reason": "csum_err", "length": 7}
        assert b64decode(second.pop("data")) == b"\x46"
        assert second == {**told, "tunnel": None, "length": 1}
        assert not one.came.is_set()
        assert one.line() == {"packets": [], "lost": {}}

    asyncio.run(scenario())


def test_what_finds_no_room_is_counted_by_tunnel() -> None:
    async def scenario() -> None:
        one, size = listener(), 60000
        room = -(-QUEUE // (size + OVERHEAD))
        for _ in range(room):
            assert one.wants("t1", DropReason.NONE, b"", 1)
            one.take(packet(bytes(size)))
        assert not one.room
        assert not one.wants("t1", DropReason.NONE, b"", 64)
        assert not one.wants(None, DropReason.NO_TUNNEL, b"", 2)
        one.take(packet())
        came = 0
        while one.came.is_set():
            line = one.line()
            assert sum(told["length"] for told in line["packets"]) < LINE + size
            assert line["lost"] == ({} if came else {"t1": 65, "": 2})
            came += len(line["packets"])
        assert came == room

    asyncio.run(scenario())


def test_a_rate_is_kept_and_what_came_first_is_told_meanwhile() -> None:
    async def scenario() -> None:
        clock = Clock()
        one = listener(clock, rate=10 * (OVERHEAD + 100))
        taken = 0
        for second in range(100):
            clock.now += 1
            for _ in range(1000):
                if one.wants("t1", DropReason.NONE, b"", 1):
                    one.take(packet(bytes(100)))
                    taken += second > 10
            while one.came.is_set():
                one.line()
        assert 880 <= taken <= 900

    asyncio.run(scenario())


@asynccontextmanager
async def watching(path: Path, house: House, **request: Any) -> AsyncIterator[Any]:
    """A client that listens; yields what reads its next line."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(json.dumps({"version": 1, "command": "packets", **request}).encode() + b"\n")

    async def line() -> Any:
        async with asyncio.timeout(10):
            return json.loads(await reader.readline())

    try:
        yield line
    finally:
        writer.close()


async def nobody_watches(tap: Tap) -> None:
    async with asyncio.timeout(10):
        while tap.watchers:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


def test_packets_are_told_while_somebody_listens_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr(packets, "BEAT", 0.01)

    async def scenario() -> None:
        house = House((ONE, TWO))
        async with serving(path, house):
            tap = house.daemon.tap
            assert not tap.watchers
            async with watching(path, house, tunnels=["t1"], snap=3) as line:
                assert (await line())["packets"] == []
                (watcher,) = tap.watchers
                remote = bytes(map(int, REMOTE.split("."))).ljust(16, b"\0")
                assert watcher.wants(None, DropReason.NO_TUNNEL, remote, 1)
                assert not watcher.wants("t2", DropReason.NONE, remote, 1)
                watcher.take(packet())
                while not (came := (await line())["packets"]):
                    pass
                assert [one["length"] for one in came] == [6]
            await nobody_watches(tap)

    asyncio.run(scenario())


def test_a_listener_that_reads_nothing_does_not_keep_the_server_or_the_tap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr("gred.management.control.server.PATIENCE", 0.1)
    monkeypatch.setattr(packets, "GATHER", 0)

    async def scenario() -> None:
        house = House((ONE, TWO))
        async with serving(path, house):
            tap = house.daemon.tap
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(b'{"version":1,"command":"packets"}\n')
                async with asyncio.timeout(10):
                    while not tap.watchers:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.01)
                    while tap.watchers:
                        for watcher in tap.watchers:
                            watcher.take(packet(bytes(60000)))
                        await asyncio.sleep(0.001)

    asyncio.run(scenario())


def test_what_cannot_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "control"
    monkeypatch.setattr(packets, "BEAT", 0.01)

    async def refused(**request: Any) -> str:
        with pytest.raises(RefusedError) as error:
            await asyncio.to_thread(lambda: list(ask(path, "packets", **request)))
        return str(error.value)

    async def scenario() -> None:
        house = House((ONE, TWO))
        async with serving(path, house):
            assert "there is no tunnel t9" in await refused(tunnels=["t9"])
            for wrong in (0, -1, "x", True, 1.5, None, 1 << 40):
                assert "snap: expected 1..262144, got" in await refused(snap=wrong)
                assert "rate: expected 1..10485760, got" in await refused(rate=wrong)
            monkeypatch.setattr(packets, "LISTENERS", 1)
            async with watching(path, house) as line:
                await line()
                assert await refused() == "1 are watching packets: let one of them end"
            await nobody_watches(house.daemon.tap)
            async with watching(path, house) as line:
                assert (await line())["lost"] == {}

    asyncio.run(scenario())
