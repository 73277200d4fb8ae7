"""What can be asked: of a daemon with a made-up kernel, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gred.control.reload import Plan
from gred.control.tunnel import TunnelState
from gred.dataplane.punt import Report
from gred.dataplane.tunnels import Counters
from gred.management.control.client import RefusedError, ask
from gred.management.control.commands import BEHIND, Happenings, commands
from gred.management.control.server import Server
from gred.management.reloading import Reloading
from gred.wire.drop import DropReason
from tests.control.fakes import LOCAL, REMOTE, House, configuration, tunnel
from tests.management.doubles import RememberingLog

ONE, TWO = tunnel("t1", addresses=["10.0.0.1/24"]), tunnel("t2")


@asynccontextmanager
async def serving(path: Path, house: House, config: Any = None) -> AsyncIterator[Happenings]:
    log, happenings = RememberingLog().logger, Happenings(lambda: 7.0)
    reloading = Reloading(house.daemon, lambda: config, log)
    server = Server(path, commands(house.daemon, happenings, reloading, {"pid": 1}), log)
    await house.daemon.start()
    await server.open()
    try:
        yield happenings
    finally:
        await server.close()
        await house.daemon.stop()


async def asked(path: Path, command: str, **more: Any) -> list[dict[str, Any]]:
    return await asyncio.to_thread(lambda: list(ask(path, command, **more)))


def test_a_status_has_all_or_those_that_are_named(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        house = House((ONE, TWO))
        house.plane.refuses["t2"] = OSError(12, "no")
        async with serving(path, house):
            found = await asked(path, "status")
            states = {one["tunnel"]["name"]: one["tunnel"]["state"] for one in found[:-1]}
            assert states == {"t1": TunnelState.UP, "t2": TunnelState.DOWN}
            assert found[-1]["done"] == {"pid": 1, "confirm_within": None}
            (one, _done) = await asked(path, "status", tunnels=["t1"])
            assert one["tunnel"]["addresses"] == ["10.0.0.1/24"]
            assert one["tunnel"]["since"] >= 0
            assert one["tunnel"]["tx_packets"] == 1
            with pytest.raises(RefusedError, match="there is no tunnel t9; there is t1, t2"):
                await asked(path, "status", tunnels=["t9"])
            for wrong in ("t1", [1], {"t1": 1}):
                with pytest.raises(RefusedError, match="expected a list of names"):
                    await asked(path, "status", tunnels=wrong)

    asyncio.run(scenario())


def test_remotes_unknown_senders_and_drops(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        house = House((ONE, TWO))
        async with serving(path, house):
            house.plane.attachments[0].counted = Counters(
                0, 0, 0, 0, {DropReason.NO_ROUTE: 3}, {DropReason.CSUM_ERR: 4}
            )
            stranger = ip_address("192.0.2.77")
            told = Report(None, DropReason.NO_TUNNEL, stranger, ip_address(LOCAL), 5, "flags")
            house.plane.report(told)
            *peers, sender, _done = await asked(path, "peers")
            assert [one["peer"]["remote"] for one in peers] == [REMOTE, REMOTE]
            assert sender["unknown_sender"]["source"] == str(stranger)
            assert sender["unknown_sender"]["nearest"] is None
            *drops, _done = await asked(path, "drops", tunnels=["t1"])
            assert [tuple(one["drop"].values()) for one in drops] == [
                ("t1", "rx", "csum_err", 4),
                ("t1", "tx", "no_route", 3),
            ]
            assert len(await asked(path, "drops")) >= 3
            for command in ("peers", "drops"):
                with pytest.raises(RefusedError, match="there is no tunnel t9; there is t1, t2"):
                    await asked(path, command, tunnels=["t9"])

    asyncio.run(scenario())


def test_a_reload_tells_its_steps(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        house = House((ONE, TWO))
        async with serving(path, house, configuration(replace(ONE, ttl=9))):
            for dry in (True, False):
                *steps, done = await asked(path, "reload", dry_run=dry)
                told = [one["step"]["text"] for one in steps]
                assert told == ["removed t2", "changed t1: TTL=64 -> 9"]
                assert done["done"]["exit_code"] == 0
                assert ("t2" in house.daemon.tunnels) is dry
            assert house.daemon.plan(configuration(replace(ONE, ttl=9))) == Plan(steps=())

    asyncio.run(scenario())


def test_a_reload_may_wait_to_be_confirmed(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        house = House((ONE,))
        async with serving(path, house, configuration(replace(ONE, ttl=9))):
            (unasked,) = await asked(path, "confirm")
            assert unasked["done"] == {"confirmed": False}
            await asked(path, "reload", confirm=60)
            *_, status = await asked(path, "status")
            assert 0 < status["done"]["confirm_within"] <= 60
            (done,) = await asked(path, "confirm")
            assert done["done"] == {"confirmed": True}
            for wrong in ("60", 0, True, 1e9):
                with pytest.raises(RefusedError, match=r"confirm: expected 1\.\."):
                    await asked(path, "reload", confirm=wrong)

    asyncio.run(scenario())


def test_events_are_remembered_and_followed(tmp_path: Path) -> None:
    path = tmp_path / "control"

    async def scenario() -> None:
        house = House((ONE,))
        async with serving(path, house) as happenings:
            for event in house.events:
                happenings.note(event)
            first, _done = await asked(path, "events")
            assert first["event"]["event"] == "tunnel_up"
            assert first["event"]["time"] == 7.0
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(b'{"version":1,"command":"events","follow":true,"tunnels":["t1"]}\n')
            assert json.loads(await reader.readline())["event"]["event"] == "tunnel_up"
            await house.daemon.reload(configuration(replace(ONE, ttl=9)))
            happenings.note(house.events[-1])
            assert json.loads(await reader.readline())["event"]["event"] == "tunnel_changed"
            for _ in range(BEHIND + 10):  # nobody waits for a follower
                happenings.note(house.events[-1])
            writer.close()

    asyncio.run(scenario())
