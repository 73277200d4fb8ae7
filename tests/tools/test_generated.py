"""The files that are made of gred's own tables are as those are now."""

from pathlib import Path

import pytest

import gred
from tools.__main__ import files

ROOT = Path(gred.__file__).parent.parent
GENERATED = ("man/gred.8", "man/gred.conf.5", "completion/bash/gred", "completion/zsh/_gred")


@pytest.mark.parametrize("name", [*GENERATED, "completion/fish/gred.fish"])
def test_up_to_date(name: str) -> None:
    text = files()[Path(name)]
    assert (ROOT / name).read_text(encoding="utf-8") == text, "run `make generated`"


def test_all_of_them_are_installed_and_uninstalled() -> None:
    make = (ROOT / "Makefile").read_text(encoding="utf-8")
    install, _, uninstall = make.partition("\ninstall:")[2].partition("\nuninstall:")
    for path in files():
        assert f" {path} " in install
        assert f"/{path.name}" in uninstall
