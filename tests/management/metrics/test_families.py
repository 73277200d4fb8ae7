"""What Prometheus is told, judged by prometheus-client's parsers and by promtool."""

import math
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from gred.management.metrics.families import Renderer
from tests import require
from tests.management.metrics.samples import keepalive, moment, snapshot

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
ROOT = Path(__file__).parents[3]

Key = tuple[str, frozenset[tuple[str, str]]]


def read(text: bytes, *, openmetrics: bool = False) -> dict[Key, float]:
    parse = openmetrics_families if openmetrics else text_string_to_metric_families
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(text.decode())
        for sample in family.samples
    }


def of(name: str, **labels: str) -> Key:
    return name, frozenset(labels.items())


@pytest.mark.parametrize("accept", ["", "text/plain;version=0.0.4", OPENMETRICS])
def test_both_parsers_read_it(accept: str) -> None:
    text, content_type = Renderer().http(
        moment(snapshot(rx_drops={"csum_err": 4}), unknown=9), accept
    )
    found = read(text, openmetrics=accept == OPENMETRICS)
    assert content_type.startswith(accept.partition(";")[0] or "text/plain")
    assert found[of("gred_tunnel_up", tunnel="t1")] == 1
    assert found[of("gred_tunnel_receive_bytes_total", tunnel="t1")] == 168
    assert found[of("gred_drops_total", tunnel="t1", direction="receive", reason="csum_err")] == 4
    dropped = "gred_tunnel_dropped_packets_total"
    assert found[of(dropped, tunnel="t1", direction="receive")] == 4
    assert found[of(dropped, tunnel="t1", direction="transmit")] == 0
    assert found[of("gred_unknown_packets_total", reason="no_tunnel")] == 9
    assert found[of("gred_tunnel_state_since_timestamp_seconds", tunnel="t1")] == 1_799_999_990
    assert found[of("gred_event_loop_lag_seconds_bucket", le="0.0025")] == 3
    assert found[of("gred_event_loop_lag_seconds_count")] == 4
    facts = {"version": "1.2.3", "python": "3.11.2", "loop": "uvloop", "codec": "c"}
    assert found[of("gred_build_info", **facts)] == 1
    assert of("process_start_time_seconds") in found


def test_what_is_not_known_is_there_all_the_same() -> None:
    never = snapshot(state="down", since=None, carrier=None, keepalives=(keepalive(),))
    found = read(Renderer().http(moment(never), "")[0])
    remote = {"tunnel": "t1", "remote": "192.0.2.2"}
    assert found[of("gred_tunnel_last_receive_timestamp_seconds", tunnel="t1")] == 0
    assert found[of("gred_tunnel_carrier", tunnel="t1")] == 0
    assert math.isnan(found[of("gred_tunnel_mtu_bytes", tunnel="t1", kind="learned")])
    assert math.isnan(found[of("gred_keepalive_rtt_seconds", **remote, kind="mean")])
    assert math.isnan(found[of("gred_keepalive_loss_ratio", **remote)])
    assert found[of("gred_keepalive_up", **remote)] == 0


def test_no_series_vanishes_while_its_tunnel_is_there() -> None:
    renderer = Renderer()
    life = keepalive(life="up", least=0.01, mean=0.02, greatest=0.03, asked=10, lost=1)
    busy = snapshot(tx_drops={"no_route": 2}, rx_drops={"csum_err": 1}, keepalives=(life,))
    before = read(renderer.http(moment(busy, snapshot("t2")), "")[0])
    anew = snapshot(state="down", since=None, keepalives=(keepalive(),))
    after = read(renderer.http(moment(anew, snapshot("t2")), "")[0])
    assert before.keys() == after.keys()
    gone = read(renderer.http(moment(snapshot("t2")), "")[0])
    assert not [labels for _name, labels in gone if ("tunnel", "t1") in labels]
    again = read(renderer.http(moment(snapshot()), "")[0])
    assert not [name for name, _labels in again if name == "gred_drops_total"]


def test_one_state_is_the_tunnels() -> None:
    found = read(Renderer().http(moment(snapshot(state="no_route")), "")[0])
    states = {key: value for key, value in found.items() if key[0] == "gred_tunnel_state"}
    assert len(states) == 17
    assert [key for key, value in states.items() if value] == [
        of("gred_tunnel_state", tunnel="t1", state="no_route")
    ]


def test_the_file_leaves_out_what_node_exporter_has() -> None:
    found = read(Renderer().file(moment(snapshot())))
    assert found[of("gred_metrics_written_timestamp_seconds")] == 1_800_000_000
    assert not [name for name, _labels in found if name.startswith("process_")]


def test_promtool_has_nothing_to_say() -> None:
    promtool = require.program("promtool", package="prometheus")
    life = keepalive(life="up", least=0.01, mean=0.02, greatest=0.03, asked=10, lost=1)
    busy = snapshot(tx_drops={"no_route": 2}, keepalives=(life,))
    for text in (Renderer().file(moment(busy)), Renderer().http(moment(busy), "")[0]):
        told = subprocess.run(
            [promtool, "check", "metrics"], input=text, capture_output=True, check=False
        )
        assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


def test_every_metric_is_documented() -> None:
    """docs/monitoring.md has all names, and no others."""
    text = Renderer().file(moment(snapshot(rx_drops={"csum_err": 1}, keepalives=(keepalive(),))))
    families = list(text_string_to_metric_families(text.decode()))
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name for family in families
    }
    documented = {
        line.split("`")[1].partition("{")[0]
        for line in (ROOT / "docs" / "monitoring.md").read_text().splitlines()
        if line.startswith("| `gred_")
    }
    assert documented == names
