"""What can be told of iptables-legacy by files in /proc alone, by somebody who is not root."""

import errno
from pathlib import Path

import pytest

from gred.control.kernel import iptables

UNSEEN = "cannot see iptables tables: Permission denied"
# As systemd leaves it at boot: loaded, and nothing in it.
LOADED = "ip_tables 36864 0 - Live 0x0000000000000000\n"
EMPTY = (
    "iptable_filter 16384 0 - Live 0x0000000000000000\n"
    "ip_tables 36864 1 iptable_filter, Live 0x0000000000000000\n"
)
RULES = EMPTY.replace("iptable_filter 16384 0", "iptable_filter 16384 1")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in the place of /proc; "ip_tables_names" in it may not be read."""
    monkeypatch.setattr(iptables, "_NETWORK", tmp_path)
    monkeypatch.setattr(iptables, "_MODULES", tmp_path / "modules")
    real = Path.read_text

    def read_text(path: Path) -> str:
        text = real(path)
        if path.name.endswith("_names"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return text

    monkeypatch.setattr(Path, "read_text", read_text)
    (tmp_path / "ip_tables_names").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (LOADED, {}),
        (EMPTY, {}),
        (RULES, {4: UNSEEN}),
        (EMPTY + RULES.replace("filter", "nat"), {}),
        ("x_tables 61440 0 - Live 0x0\n", {4: UNSEEN}),  # ip_tables is built in
        (None, {4: UNSEEN}),  # all is built in
    ],
    ids=["loaded", "empty", "rules", "nat", "built-in", "no-modules"],
)
def test_modules_without_users_have_no_rules(
    proc: Path, modules: str | None, expected: dict[int, str]
) -> None:
    if modules is not None:
        (proc / "modules").write_text(modules)
    assert iptables.iptables_reasons() == expected


def test_each_ip_version_has_modules_of_its_own(proc: Path) -> None:
    (proc / "ip6_tables_names").touch()
    six = RULES.replace("iptable_filter", "ip6table_filter").replace("ip_tables", "ip6_tables")
    (proc / "modules").write_text(EMPTY + six)
    assert iptables.iptables_reasons() == {6: UNSEEN}


def test_without_iptables_nothing_is_asked(proc: Path) -> None:
    (proc / "ip_tables_names").unlink()
    assert iptables.iptables_reasons() == {}


def test_without_proc_nobody_knows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(iptables, "_NETWORK", tmp_path / "nowhere")
    found = iptables.iptables_reasons()
    assert set(found) == {4, 6}
    assert all(why.startswith("cannot see iptables tables: there is no ") for why in found.values())
