"""Which .network file an interface of gred's falls to."""

from pathlib import Path

import pytest

from gred.management.doctor import networkd
from gred.management.doctor.facts import NetworkFile


def write(root: Path, name: str, text: str, directory: str = "etc/systemd/network") -> Path:
    path = root / directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def found(root: Path, name: str = "Tunnel-1", mode: str = "gre") -> NetworkFile | None:
    return networkd.matching(name, mode, networkd.files(root), root)


@pytest.mark.parametrize(
    ("match", "certain"),
    [
        ("Name=Tunnel-1", True),
        ("Name=*", True),
        ("Name=en* Tunnel-?", True),
        ("Name=!en* eth*", True),
        ("Name=!Tunnel-*", None),
        ("Name=en*", None),
        ("Kind=tun", True),
        ("Type=ether", None),
        ("Name=*\nType=ether", None),
        ("Type=none\nDriver=tun", True),
        ("Name=*\nMACAddress=02:00:00:00:00:01", None),
        ("Name=*\nHost=router", False),
        ("", None),
        ("# Name=Tunnel-1", None),
    ],
)
def test_conditions_are_met_or_not(tmp_path: Path, match: str, *, certain: bool | None) -> None:
    write(tmp_path, "50-x.network", f"[Match]\n{match}\n[Network]\nDHCP=yes\n")
    file = found(tmp_path)
    assert (None if file is None else file.certain) is certain


def test_a_tap_device_is_ethernet(tmp_path: Path) -> None:
    write(tmp_path, "50-x.network", "[Match]\nType=ether\n")
    assert found(tmp_path, mode="gretap") is not None
    assert found(tmp_path) is None


def test_the_first_by_name_counts(tmp_path: Path) -> None:
    write(tmp_path, "90-all.network", "[Match]\nName=*\n")
    first = write(
        tmp_path, "10-gred.network", "[Match]\nName=Tunnel-*\n", "usr/lib/systemd/network"
    )
    file = found(tmp_path)
    assert file is not None
    assert file.path == str(first)


def test_a_file_of_one_name_in_etc_masks_the_other(tmp_path: Path) -> None:
    write(tmp_path, "90-all.network", "[Match]\nName=*\n", "usr/lib/systemd/network")
    write(tmp_path, "90-all.network", "")
    assert found(tmp_path) is None


def test_drop_ins_add_and_take_back(tmp_path: Path) -> None:
    write(tmp_path, "90-all.network", "[Match]\nName=*\n")
    write(tmp_path, "90-all.network.d/a.conf", "[Match]\nName=\nName=en*\n")
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("[Link]\nUnmanaged=yes\n", "Unmanaged=yes"),
        ("[Network]\nKeepConfiguration=static\n", "KeepConfiguration=static"),
        ("[Network]\nKeepConfiguration=dhcp\n", ""),
        ("[Link]\nUnmanaged=no\n", ""),
    ],
)
def test_a_file_that_leaves_addresses_alone_is_harmless(
    tmp_path: Path, text: str, harmless: str
) -> None:
    write(tmp_path, "50-x.network", f"[Match]\nName=*\n{text}")
    file = found(tmp_path)
    assert file is not None
    assert file.harmless == harmless
