"""Who says that it configures an interface, by the files of network managers."""

from pathlib import Path

import pytest

from gred.control.kernel import managers

NETWORKD = """\
# This is private data. Do not parse.
ADMIN_STATE=configured
OPER_STATE=routable
NETWORK_FILE=/etc/systemd/network/all.network
"""
UNMANAGED = "# This is private data. Do not parse.\nADMIN_STATE=unmanaged\nOPER_STATE=routable\n"
NETWORK_MANAGER = "[device]\nmanaged={}\nperm-hw-addr-fake=1\n"


@pytest.fixture(autouse=True)
def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NETWORKD", "NETWORK_MANAGER"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(managers, name, tmp_path / name)


def test_networkd_says_so_with_its_file() -> None:
    (managers.NETWORKD / "7").write_text(NETWORKD)
    assert managers.manager(7) == "systemd-networkd (/etc/systemd/network/all.network)"
    assert managers.manager(8) == ""


def test_network_manager_says_so() -> None:
    (managers.NETWORKD / "7").write_text(UNMANAGED)
    (managers.NETWORK_MANAGER / "7").write_text(NETWORK_MANAGER.format("true"))
    assert managers.manager(7) == "NetworkManager"


def test_what_nobody_manages_has_no_manager() -> None:
    (managers.NETWORKD / "7").write_text(UNMANAGED)
    (managers.NETWORK_MANAGER / "7").write_text(NETWORK_MANAGER.format("false"))
    assert managers.manager(7) == ""


@pytest.mark.parametrize("text", [b"", b"\xff\xfe=\n", b"NETWORK_FILE=\n", b"managed\n"])
def test_files_that_say_nothing_say_nothing(text: bytes) -> None:
    for place in (managers.NETWORKD, managers.NETWORK_MANAGER):
        (place / "7").write_bytes(text)
    assert managers.manager(7) == ""
