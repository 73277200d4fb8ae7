"""Other programs: found, in time, or told why not."""

import os
from pathlib import Path

import pytest

from gred.management.doctor import programs
from gred.management.doctor.programs import ProgramError, find, run


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of the test's, which does what is written into it."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "gred-test-program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    return path.name


def test_what_it_prints_is_returned(program: Path) -> None:
    assert run(script(program, 'echo "$1 $LC_ALL"'), "a") == "a C\n"


def test_its_own_words_tell_why_it_failed(program: Path) -> None:
    with pytest.raises(ProgramError, match=r"^gred-test-program: not for you$"):
        run(script(program, "echo 'not for you' >&2; echo more >&2; exit 1"))
    with pytest.raises(ProgramError, match=r"^gred-test-program: exit status 7$"):
        run(script(program, "exit 7"))


def test_one_that_is_not_there_or_no_program_is_told(program: Path) -> None:
    with pytest.raises(ProgramError, match=r"^gred-no-such-program is not installed$"):
        run("gred-no-such-program")
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(ProgramError, match=r"^cannot run gred-test-program: No such file"):
        run(program.name)


def test_one_that_does_not_end_is_given_up(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_PATIENCE", 0.01)
    with pytest.raises(ProgramError, match="did not answer"):
        run(script(program, "exec sleep 100"))


def test_people_without_sbin_find_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/no/such/directory")
    assert find("sh") == "/usr/bin/sh" or find("sh") == "/bin/sh"
