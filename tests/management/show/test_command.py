"""The command as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIGURATION = "[Tunnel office]\nLocal=192.0.2.1\nRemote=192.0.2.2\nAddress=10.1.2.1/24\n"


def show(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gred", "show", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "gred.conf"
    path.write_text(CONFIGURATION)
    return path


def test_gred_is_the_form_unless_told(file: Path) -> None:
    done = show("-c", file, "office")
    assert done.returncode == 0
    assert "[Tunnel office]\nLocal=192.0.2.2\n" in done.stdout
    assert "note: 10.1.2.2/24 is a guess" in done.stderr


def test_a_wrong_name_gets_the_right_one(file: Path) -> None:
    done = show("-c", file, "ofice", "--as", "ip")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("; did you mean office?\n")
    assert "it has office" in show("-c", file, "zzz").stderr


def test_no_form_is_a_failure(file: Path) -> None:
    file.write_text(CONFIGURATION + "Mode=gretap\n")
    done = show("-c", file, "office", "--as", "cisco")
    assert (done.returncode, done.stdout) == (1, "")
    assert "IOS has no Ethernet over GRE" in done.stderr


def test_a_bad_configuration_is_told(file: Path) -> None:
    file.write_text("[Tunnel office]\nTTL=300\n")
    done = show("-c", file, "office")
    assert done.returncode == 78
    assert "[Tunnel office] TTL: expected 1..255" in done.stderr
