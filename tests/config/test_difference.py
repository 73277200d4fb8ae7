"""What differs, and what does not."""

from pathlib import Path

import pytest

from gred.config import load
from gred.config.difference import Difference, difference
from gred.config.model import Config


def config(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "gred.conf"
    path.write_text(text)
    return load(path)


ENDS = "Local=192.0.2.1\nRemote=192.0.2.2\n"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Key=1", "Key=2", ["Key=1 -> 2"]),
        ("", "Key=2", ["Key=none -> 2"]),
        ("Key=1", "InputKey=1\nOutputKey=2", ["OutputKey=1 -> 2"]),
        ("Key=1", "InputKey=1\nOutputKey=1", []),
        ("TTL=64", "", []),
        ("Checksum=yes", "", ["Checksum=yes -> no"]),
        ("Address=10.0.0.1/24", "Address=10.0.0.1/24, 10.0.0.2/24", ["Address="]),
        ("Keepalive=10s", "Keepalive=5s", ["Keepalive=10s -> 5s"]),
    ],
)
def test_an_option_is_told_once(
    tmp_path: Path, before: str, after: str, expected: list[str]
) -> None:
    found = difference(
        config(tmp_path, f"[Tunnel t1]\n{ENDS}{before}\n"),
        config(tmp_path, f"# moved\n[Tunnel t1]\n{ENDS}{after}\n"),
    )
    told = [str(one) for changes in found.changed.values() for one in changes]
    assert len(told) == len(expected)
    assert all(one.startswith(start) for one, start in zip(told, expected, strict=True))
    assert bool(found) == bool(expected)


def test_tunnels_come_and_go(tmp_path: Path) -> None:
    one = f"[Tunnel t1]\n{ENDS}Key=1\n"
    other = f"[Tunnel t2]\n{ENDS}Key=2\n"
    found = difference(config(tmp_path, one), config(tmp_path, other))
    assert found == Difference(added=("t2",), removed=("t1",), changed={})
    assert not difference(config(tmp_path, one + other), config(tmp_path, other + one))


def test_the_daemons_own_section(tmp_path: Path) -> None:
    one = f"[Tunnel t1]\n{ENDS}"
    found = difference(config(tmp_path, one), config(tmp_path, f"[Daemon]\nLogFormat=json\n{one}"))
    assert [str(change) for change in found.daemon] == ["LogFormat=auto -> json"]
