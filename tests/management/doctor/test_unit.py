"""gred.service: from files, and from what systemctl(1) says."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gred.management.doctor import unit
from gred.management.doctor.facts import Service

SHOWN = {
    "ActiveState": "active",
    "UnitFileState": "enabled",
    "MainPID": "0",
    "ExecMainStatus": "0",
    "StateChangeTimestamp": "@1700000000",
    "ActiveEnterTimestamp": "@1700000000",
    "AmbientCapabilities": "cap_net_admin cap_net_raw",
    "User": "gred",
}


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "gred.conf"
    path.write_text("[Daemon]\n")
    os.utime(path, (1600000000, 1600000000))
    return path


def look(configuration: Path, root: Path) -> Service:
    found = unit.service(configuration, root)
    assert isinstance(found, Service)
    return found


def install(root: Path, *, enabled: bool = False) -> None:
    directory = root / "etc/systemd/system"
    (directory / "multi-user.target.wants").mkdir(parents=True)
    (directory / "gred.service").write_text("[Service]\nExecStart=/opt/gred/bin/gred\n")
    if enabled:
        (directory / "multi-user.target.wants/gred.service").symlink_to(directory / "gred.service")


def test_where_there_is_no_unit_there_is_no_service(tmp_path: Path, configuration: Path) -> None:
    assert look(configuration, tmp_path).unit == ""


@pytest.mark.parametrize("enabled", [True, False])
def test_files_tell_where_systemd_does_not(
    tmp_path: Path, configuration: Path, *, enabled: bool
) -> None:
    install(tmp_path, enabled=enabled)
    found = look(configuration, tmp_path)
    assert found.unit == f"{tmp_path}/etc/systemd/system/gred.service"
    assert (found.enabled, found.state) == (enabled, "")


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What systemd says of the unit; to be changed by the test."""
    install(tmp_path)
    properties = dict(SHOWN)
    monkeypatch.setattr(unit, "_asks_systemd", lambda _root: properties)
    return properties


def test_what_systemd_says_is_taken(
    shown: dict[str, str], tmp_path: Path, configuration: Path
) -> None:
    found = look(configuration, tmp_path)
    assert (found.enabled, found.state, found.pid) == (True, "active", None)
    assert found.since.startswith("2023-11-1")
    assert (found.missing, found.exit_status, found.configuration_newer) == ((), None, False)


def test_a_configuration_that_is_written_later_is_newer(
    shown: dict[str, str], tmp_path: Path, configuration: Path
) -> None:
    drop_ins = tmp_path / "gred.conf.d"
    drop_ins.mkdir()
    assert look(configuration, tmp_path).configuration_newer
    os.utime(drop_ins, (1600000000, 1600000000))
    assert not look(configuration, tmp_path).configuration_newer
    configuration.write_text("[Daemon]\n\n")
    assert look(configuration, tmp_path).configuration_newer


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"AmbientCapabilities": "cap_net_admin"}, {"missing": ("net_raw",)}),
        ({"AmbientCapabilities": ""}, {"missing": ("net_admin", "net_raw")}),
        ({"AmbientCapabilities": "", "User": "root"}, {"missing": ()}),
        ({"ActiveState": "failed", "ExecMainStatus": "78"}, {"exit_status": 78}),
        ({"MainPID": "1"}, {"pid": 1}),
        (
            {"StateChangeTimestamp": "", "UnitFileState": "disabled"},
            {"since": "", "enabled": False},
        ),
        ({"StateChangeTimestamp": "Thu 2023-11-16"}, {"since": ""}),
    ],
)
def test_what_is_wrong_with_it_is_seen(
    shown: dict[str, str],
    tmp_path: Path,
    configuration: Path,
    changed: dict[str, str],
    expected: dict[str, Any],
) -> None:
    shown |= changed
    found = look(configuration, tmp_path)
    assert {name: getattr(found, name) for name in expected} == expected


def test_capabilities_are_those_of_its_process(
    shown: dict[str, str], tmp_path: Path, configuration: Path
) -> None:
    """Whatever its unit says: a drop-in may have been added since it started."""
    import subprocess

    idle = "import sys; sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", idle], stdin=subprocess.PIPE) as process:
        shown |= {"MainPID": str(process.pid), "AmbientCapabilities": ""}
        found = look(configuration, tmp_path)
        process.communicate()
    assert (found.missing == ()) == (os.geteuid() == 0)
