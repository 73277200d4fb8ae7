"""Settings of the network namespace, from files."""

from pathlib import Path

import pytest

from gred.control.kernel import settings


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "_SETTINGS", tmp_path)
    return tmp_path


def write(net: Path, name: str, value: str) -> None:
    path = net.joinpath(*name.split("/"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{value}\n")


@pytest.mark.parametrize(("every", "own", "counts"), [(0, 1, 1), (1, 0, 1), (1, 2, 2), (0, 0, 0)])
def test_of_rp_filter_the_larger_counts(net: Path, every: int, own: int, counts: int) -> None:
    write(net, "ipv4/conf/all/rp_filter", str(every))
    write(net, "ipv4/conf/eth0/rp_filter", str(own))
    assert settings.rp_filter("eth0") == counts


def test_an_interface_to_be_gets_the_default(net: Path) -> None:
    write(net, "ipv4/conf/all/rp_filter", "0")
    write(net, "ipv4/conf/default/rp_filter", "2")
    assert settings.rp_filter("t") == 2


def test_forwarding_is_each_versions_own(net: Path) -> None:
    write(net, "ipv4/conf/all/forwarding", "1")
    write(net, "ipv6/conf/all/forwarding", "0")
    assert settings.forwards(4)
    assert not settings.forwards(6)


def test_what_is_not_there_or_no_number_is_an_error(net: Path) -> None:
    with pytest.raises(FileNotFoundError):
        settings.forwards(4)
    write(net, "core/rmem_max", "many")
    with pytest.raises(OSError, match=r"net.core.rmem_max is 'many'"):
        settings.number("core", "rmem_max")
