"""What `gred check` says of the user that the service runs as."""

import os
from pathlib import Path

import pytest

from gred.config.problems import display
from gred.management import account, check
from tests import require


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that user nobody, who stands for gred, gets into; and no unit."""
    require.root()
    monkeypatch.setattr(account, "USER", "nobody")
    monkeypatch.setattr(account, "_UNITS", ())
    for directory in (tmp_path, *tmp_path.parents[: len(tmp_path.parts) - 3]):
        directory.chmod(0o755)
    return tmp_path


def write(path: Path, mode: int) -> Path:
    path.write_text("[Daemon]\n")
    path.chmod(mode)
    return path


def test_what_everybody_may_read_is_fine(place: Path) -> None:
    assert list(account.complaints(write(place / "gred.conf", 0o644))) == []


def test_a_file_that_only_root_may_read_is_told(place: Path) -> None:
    path = write(place / "gred.conf", 0o600)
    (complaint,) = account.complaints(path)
    assert complaint.startswith(f"{path}: user nobody cannot read it: Permission denied (chgrp ")


def test_a_file_of_the_users_group_is_fine(place: Path) -> None:
    import grp
    import pwd

    path = write(place / "gred.conf", 0o640)
    group = pwd.getpwnam("nobody").pw_gid
    assert grp.getgrgid(group)
    os.chown(path, 0, group)
    assert list(account.complaints(path)) == []


def test_drop_ins_count_too(place: Path) -> None:
    path = write(place / "gred.conf", 0o644)
    directory = place / "gred.conf.d"
    directory.mkdir()
    secret = write(directory / "one.conf", 0o600)
    write(directory / "two.conf", 0o644)
    (complaint,) = account.complaints(path)
    assert complaint.startswith(f"{secret}: ")


def test_a_directory_that_only_root_may_enter_is_told(place: Path) -> None:
    path = write(place / "gred.conf", 0o644)
    directory = place / "gred.conf.d"
    directory.mkdir()
    write(directory / "one.conf", 0o644)
    directory.chmod(0o700)
    assert [line.split(": ")[0] for line in account.complaints(path)] == [str(directory)]


def test_afterwards_root_is_root_again(place: Path) -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    list(account.complaints(write(place / "gred.conf", 0o600)))
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before


def test_without_the_user_nothing_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "USER", "no-such-user")
    assert list(account.complaints(write(place / "gred.conf", 0o600))) == []


def test_check_warns(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(place / "gred.conf", 0o600)
    assert check.check(path) == 0
    assert f"warning: {path}: user nobody cannot read it" in capsys.readouterr().err


def unit(directory: Path, command: str) -> Path:
    path = directory / "gred.service"
    path.write_text(f"[Service]\nExecStart={command}\n")
    return path


@pytest.mark.parametrize("home", ["/root", "/home/somebody", "/run/user/1000"])
def test_a_program_in_a_home_is_not_seen_by_the_service(tmp_path: Path, home: str) -> None:
    path = unit(tmp_path, f"-{home}/gred/.venv/bin/gred -v")
    (complaint,) = account.invisible([tmp_path / "none", tmp_path])
    assert complaint.startswith(f"{path}: the service cannot see {home}/gred/.venv/bin/gred: Pro")


def test_a_link_does_not_help(tmp_path: Path) -> None:
    (tmp_path / "gred").symlink_to("/root/gred/bin/gred")
    unit(tmp_path, str(tmp_path / "gred"))
    (complaint,) = account.invisible([tmp_path])
    assert "/root/gred/bin/gred" in complaint


def test_nor_does_a_python_in_a_home(tmp_path: Path) -> None:
    program = tmp_path / "gred"
    program.write_text("#!/home/me/python3 -sE\n")
    unit(tmp_path, str(program))
    (complaint,) = account.invisible([tmp_path])
    assert "cannot see /home/me/python3" in complaint


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = unit(tmp_path, f"{tmp_path}/gred")
    assert list(account.invisible([tmp_path])) == [
        f"{path}: {display(tmp_path / 'gred')} is not there (make install)"
    ]


@pytest.mark.parametrize("command", ["/bin/sh", "gred"])
def test_what_can_be_seen_is_fine(tmp_path: Path, command: str) -> None:
    unit(tmp_path, command)
    assert list(account.invisible([tmp_path])) == []


def program(path: Path, mode: int) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_programs_that_the_user_cannot_run_are_told(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "_OTHERS", ())
    good, own = program(place / "good", 0o755), program(place / "own", 0o700)
    (place / "closed").mkdir(mode=0o700)
    closed = program(place / "closed" / "x", 0o755)
    assert account.unrunnable([good, own, closed]) == {
        own: "user nobody cannot run it: it is not executable (chmod +x)",
        closed: "user nobody cannot run it: Permission denied",
    }


def test_programs_that_the_sandbox_hides_are_told(place: Path) -> None:
    hidden = program(place / "good", 0o755)
    assert "sandbox hides" in account.unrunnable([hidden])[hidden]
    assert account.unrunnable([Path("/bin/sh")]) == {}
