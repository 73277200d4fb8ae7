"""A package's modules without its ``__init__``, and whole afterwards."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from gred.control.kernel.partial_import import without_init


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    here = tmp_path / "laden"
    here.mkdir()
    (here / "__init__.py").write_text("import laden.heavy\nWHOLE = True\n")
    (here / "heavy.py").write_text("")
    (here / "light.py").write_text("VALUE = 7\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("laden", "laden.light", "laden.heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "laden"


def test_a_module_comes_without_the_rest(package: str) -> None:
    with without_init(package):
        light = importlib.import_module(f"{package}.light")
    assert light.VALUE == 7
    assert package not in sys.modules
    assert "laden.heavy" not in sys.modules


def test_whoever_wants_all_gets_it_afterwards(package: str) -> None:
    with without_init(package):
        importlib.import_module(f"{package}.light")
    assert not [name for name in sys.modules if name.startswith(package)]
    whole = importlib.import_module(package)
    light = importlib.import_module(f"{package}.light")
    assert whole.WHOLE
    assert whole.light is light


def test_what_is_whole_stays_so(package: str) -> None:
    whole = importlib.import_module(package)
    with without_init(package):
        importlib.import_module(f"{package}.light")
    assert sys.modules[package] is whole


def test_a_package_that_is_missing_is_named() -> None:
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_package"),
        without_init("no_such_package"),
    ):
        pass


def test_the_daemon_does_without_most_of_pyroute2() -> None:
    """Its __init__ costs 8 MB and a tenth of a second of the start."""
    code = "import sys, gred.control.daemon; print('pyroute2.ndb' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"
