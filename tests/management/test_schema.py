"""The schema of `gred status --json`: what is told fits it, and it tells of everything."""

import asyncio
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gred.control.liveness import Life
from gred.control.protection import Guard
from gred.control.snapshot import Ipsec, Keepalive, Mtu, Snapshot, members
from gred.control.tunnel import TunnelState
from gred.management.control.protocol import encode
from tests.control.fakes import House, tunnel
from tests.management.test_status import told

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "status.schema.json").read_text()
)
TUNNEL = SCHEMA["$defs"]["tunnel"]
DAEMON = {"version": "0.1.0", "pid": 1, "configuration": "gred.conf", "confirm_within": None}


def test_it_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_has_every_member_and_no_other() -> None:
    for described, described_by in (
        (Snapshot, TUNNEL),
        (Mtu, TUNNEL["properties"]["mtu"]),
        (Ipsec, SCHEMA["$defs"]["ipsec"]),
        (Keepalive, SCHEMA["$defs"]["keepalive"]),
    ):
        names = [field.name for field in fields(described)]
        assert described_by["required"] == names
        assert list(described_by["properties"]) == names
    assert set(TUNNEL["properties"]["state"]["enum"]) == set(TunnelState)
    assert set(SCHEMA["$defs"]["ipsec"]["properties"]["state"]["enum"]) == set(Guard)
    assert set(SCHEMA["$defs"]["keepalive"]["properties"]["life"]["enum"]) == set(Life)


def test_what_a_daemon_tells_fits() -> None:
    async def scenario() -> list[dict[str, Any]]:
        house = House((tunnel("t1", addresses=["10.0.0.1/24"]), tunnel("t2", local=None)))
        house.plane.refuses["t2"] = OSError(12, "no")
        await house.daemon.start()
        found = [members(house.daemon.snapshot(name)) for name in house.daemon.tunnels]
        await house.daemon.stop()
        return found

    tunnels = asyncio.run(scenario())
    status = json.loads(encode({"tunnels": tunnels, "daemon": DAEMON}))
    jsonschema.validate(status, SCHEMA)
    assert {one["state"] for one in status["tunnels"]} == {"up", "down"}


@pytest.mark.parametrize(
    "wrong", [{"state": "gone"}, {"rx_packets": -1}, {"addresses": None}, {"input_key": "5"}]
)
def test_what_does_not_fit_is_found(wrong: dict[str, Any]) -> None:
    jsonschema.validate({"tunnels": [told("t1")], "daemon": DAEMON}, SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"tunnels": [told("t1", **wrong)], "daemon": DAEMON}, SCHEMA)
