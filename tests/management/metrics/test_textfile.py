"""A file that is whole at each moment."""

from pathlib import Path

import pytest

from gred.management.metrics import textfile


def test_it_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "gred.prom"
    textfile.write(path, b"one\n")
    with path.open() as reading:
        textfile.write(path, b"two\n")
        assert reading.read() == "one\n", "who has it open reads what it was"
    assert path.read_text() == "two\n"
    assert path.stat().st_mode & 0o777 == textfile.MODE
    assert list(tmp_path.iterdir()) == [path]
    textfile.remove(path)
    textfile.remove(path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "gred.prom"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        textfile.write(path, b"one\n")
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError):
        textfile.write(tmp_path / "none" / "gred.prom", b"")
