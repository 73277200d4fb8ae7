"""A real Prometheus scrapes a real daemon; the dashboard and the alerts ask what it then has."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests import require
from tests.netns.conftest import LEFT
from tests.netns.daemons import Daemons
from tests.netns.once import implementation  # noqa: F401 - control alone
from tests.netns.prometheus import Prometheus
from tests.netns.test_metrics import PORT, with_metrics
from tests.netns.test_reload import config

MONITORING = Path(__file__).parents[2] / "conf" / "monitoring"
RULES = MONITORING / "gred-alerts.yml"
DASHBOARD = json.loads((MONITORING / "gred-dashboard.json").read_text())
# What Grafana puts in for its variables.
VARIABLES = {
    "$__rate_interval": "10s",
    "$job": "gred",
    "$instance": ".*",
    "$tunnel": ".*",
}
# A tunnel that only the other end knows, from an address of its own.
UNKNOWN = f"[Tunnel t4]\nLocal=192.0.2.3\nRemote={LEFT[0]}\nAddress=10.7.4.2/24\n"


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def filled(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


@pytest.fixture(scope="module")
def prometheus(lab: Lab, hosts: tuple[Host, Host], implementation: str) -> Iterator[Prometheus]:  # noqa: F811
    """It has scraped two tunnels for a while: one has keepalives, the other drops packets."""
    program = require.program("prometheus", package="prometheus")
    one, other = hosts
    other.address("192.0.2.3/24")
    daemons = Daemons(lab, implementation)
    numbered = "SerializeTunneledPackets=yes"
    summed = "Checksum=yes"  # where the other end sends none
    try:
        daemons.start(one, with_metrics(config(0, f"Keepalive=0.2s\n{numbered}", summed)))
        daemons.start(other, config(1, numbered) + UNKNOWN)
        directory = lab.directory() / "prometheus"
        directory.mkdir()
        found = Prometheus(program, one, directory, f"127.0.0.1:{PORT}", RULES)
        wait_for(lambda: found.query("gred_tunnel_up"), "it has scraped")
        assert ping(one, "10.7.2.2").received == 3
        assert ping(one, "10.7.1.2").received == 0
        assert ping(other, "10.7.4.1").received == 0
        wait_for(lambda: found.query("rate(gred_drops_total[10s])"), "it has seen drops twice")
        wait_for(lambda: found.query("rate(gred_unknown_packets_total[10s]) > 0"), "and others")
        wait_for(
            lambda: found.query("gred_keepalive_rtt_seconds{kind='mean'} > 0"),
            "keepalives came back",
        )
        yield found
    finally:
        daemons.stop()


def test_it_takes_all_of_a_scrape(prometheus: Prometheus) -> None:
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    up = {one["metric"]["tunnel"]: one["value"][1] for one in prometheus.query("gred_tunnel_up")}
    assert up == {"t1": "0", "t2": "1"}
    assert not prometheus.query("absent(gred_build_info)")


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_each_panel_shows_something(prometheus: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expression = filled(target["expr"])
        found = prometheus.query(expression)
        assert found, expression
        for name in re.findall(r"{{(\w+)}}", target["legendFormat"]):
            assert all(name in one["metric"] for one in found), (name, expression)


def test_each_variable_has_values(prometheus: Prometheus) -> None:
    variables = [one for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    assert [one["name"] for one in variables] == ["job", "instance", "tunnel"]
    for variable in variables:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        found = prometheus.query(f"count by ({match[2]}) ({filled(match[1])})")
        assert all(match[2] in one["metric"] for one in found)
        assert found, variable


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_alerts_can_be_asked_and_wait(prometheus: Prometheus) -> None:
    (group,) = prometheus.ask("rules")["groups"]
    names = [rule["name"] for rule in group["rules"]]
    assert len(names) == len(set(names)) == 11
    assert [rule["lastError"] for rule in group["rules"] if rule.get("lastError")] == []
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    alerts = prometheus.ask("alerts")["alerts"]
    assert "GredTunnelDown" in {one["labels"]["alertname"] for one in alerts}
    assert {one["state"] for one in alerts} == {"pending"}


def test_each_alert_is_tried_and_documented() -> None:
    promtool = require.program("promtool", package="prometheus")
    told = subprocess.run(
        [promtool, "test", "rules", "gred-alerts-test.yml"],
        cwd=MONITORING,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    names = re.findall(r"alert: (\w+)", RULES.read_text())
    tried = (MONITORING / "gred-alerts-test.yml").read_text()
    documented = (MONITORING.parents[1] / "docs" / "monitoring.md").read_text()
    for name in names:
        assert f"alertname: {name}\n" in tried, name
        assert f"`{name}`" in documented, name
