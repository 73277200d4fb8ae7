"""The service files, judged by systemd's own tools."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from gred.control.errors import ExitCode
from tests import require

ROOT = Path(__file__).parent.parent.parent
SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "gred.service"
WORST_EXPOSURE = 2.0


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit as installed: beside a program that is there to be run."""
    program = tmp_path / "gred"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copy = tmp_path / "gred.service"
    text = UNIT.read_text(encoding="utf-8")
    assert "\nExecStart=/opt/gred/bin/gred\n" in text
    copy.write_text(text.replace("=/opt/gred/bin/gred", f"={program}"))
    return copy


def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    """Nor with its documentation: a man page that is not there would be wrong, too."""
    analyze = require.program("systemd-analyze", package="systemd")
    require.program("man", package="man-db")
    for page in ("gred.8", "gred.conf.5", "gred-metrics.7"):
        directory = tmp_path / f"man/man{page[-1]}"
        directory.mkdir(parents=True)
        (directory / page).symlink_to(ROOT / "man" / page)
    done = subprocess.run(
        [analyze, "verify", "--man=yes", str(unit)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "MANPATH": f"{tmp_path}/man:"},
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_exposure_is_low(unit: Path) -> None:
    analyze = require.program("systemd-analyze", package="systemd")
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(unit)],
        check=False,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= WORST_EXPOSURE


def settings() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("name", ["AmbientCapabilities", "CapabilityBoundingSet"])
def test_two_capabilities_are_all_there_are(name: str) -> None:
    assert settings()[name] == ["CAP_NET_ADMIN CAP_NET_RAW"]


def test_what_does_not_mend_by_itself_is_not_tried_again() -> None:
    """RestartPreventExitStatus= does not look at ExecStartPre= (systemd.service(5))."""
    lasting = (ExitCode.NO_TUN, ExitCode.NO_PERMISSION, ExitCode.BAD_CONFIGURATION)
    assert settings()["RestartPreventExitStatus"] == [" ".join(str(int(c)) for c in lasting)]
    assert "ExecStartPre" not in settings()


def test_gred_has_its_turn_beside_what_udevd_runs_for_each_interface() -> None:
    """What it makes of the start of many tunnels is in test_guest."""
    assert int(settings()["CPUWeight"][0]) > 100  # the default


def test_the_user_of_the_unit_is_made_by_sysusers(tmp_path: Path) -> None:
    sysusers = require.program("systemd-sysusers", package="systemd")
    (tmp_path / "etc").mkdir()
    subprocess.run(
        [sysusers, f"--root={tmp_path}", str(SYSTEMD / "gred.sysusers.conf")],
        check=True,
        capture_output=True,
    )
    users = (tmp_path / "etc/passwd").read_text().split(":")
    assert users[0] == settings()["User"][0] == settings()["Group"][0]
    assert users[-1].strip().endswith("nologin")


def test_there_is_room_for_thousands_of_devices() -> None:
    """And for their names in LISTEN_FDNAMES: one variable is at most 128 KiB (execve(2))."""
    (room,) = settings()["FileDescriptorStoreMax"]
    assert f"FDSTORE={room}" in settings()["Environment"]
    assert 1000 < int(room) <= 128 * 1024 // len("tun-a-longest-name:")
