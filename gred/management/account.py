"""What the service's own user would meet: files it may not read, a program that it does not see.

For ``gred check``, which root runs. Files are looked at with the user's identity and nothing of
them is kept; nothing is changed.
"""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from gred.config.problems import display

USER = "gred"  # of systemd/gred.service
_UNIT = "gred.service"
# Where systemd looks for units, the first one counts. systemd.unit(5)
_UNITS = tuple(
    Path(directory)
    for directory in (
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    )
)
_HIDDEN = ("/home", "/root", "/run/user")  # by ProtectHome=yes. systemd.exec(5)
_OTHERS = ("/tmp", "/var/tmp")  # noqa: S108 - hidden by PrivateTmp=yes


def complaints(configuration: Path) -> Iterator[str]:
    """Yield what keeps the service from starting with what root can start with, a line each.

    Nothing unless the user exists, as it does where gred is installed as a service.
    """
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return
    if os.geteuid() == 0:
        groups = [group.gr_gid for group in grp.getgrall() if USER in group.gr_mem]
        with _acting_as(user.pw_uid, user.pw_gid, groups):
            found = list(unreadable(_files(configuration)))
        yield from found
    yield from invisible(_UNITS)


def unrunnable(programs: Iterable[Path]) -> dict[Path, str]:
    """Return those of *programs* that nobody, or not the service's user, can run, and why."""
    programs = list(programs)
    found = {path: why for path in programs if (why := _refuse(path))}
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return found
    for path in programs:
        hidden = (*_HIDDEN, *_OTHERS)
        if any(path.resolve().is_relative_to(directory) for directory in hidden):
            found.setdefault(path, "the service cannot see it: its sandbox hides the directory")
    if os.geteuid() == 0:
        groups = [group.gr_gid for group in grp.getgrall() if USER in group.gr_mem]
        with _acting_as(user.pw_uid, user.pw_gid, groups):
            for path in programs:
                if why := _refuse(path):
                    found.setdefault(path, f"user {USER} cannot run it: {why}")
    return found


def _refuse(program: Path) -> str:
    """Return why this process cannot run *program*; empty when it can."""
    try:
        mode = program.stat().st_mode
    except (OSError, ValueError) as error:
        return error.strerror or str(error) if isinstance(error, OSError) else str(error)
    if not stat.S_ISREG(mode):
        return "it is no file"
    if not os.access(program, os.X_OK, effective_ids=True):
        return "it is not executable (chmod +x)"
    interpreter = _interpreter(program)
    if interpreter is not None and not interpreter.exists():
        return f"{display(interpreter)}, which is to run it, is not there"
    return ""


def unreadable(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a line for each of *paths* that this process may not read."""
    for path in paths:
        try:
            if path.is_dir():
                list(path.iterdir())
            else:
                path.open("rb").close()
        except PermissionError as error:
            yield (
                f"{display(path)}: user {USER} cannot read it: {error.strerror}"
                f" (chgrp {USER} and chmod g+rX, it and the directories above it)"
            )
        except OSError:
            continue  # not there, for instance: whoever reads it tells


def invisible(directories: Iterable[Path]) -> Iterator[str]:
    """Yield why the program of the unit in the first of *directories* that has it cannot start."""
    unit = next((path for path in (d / _UNIT for d in directories) if path.is_file()), None)
    command = None if unit is None else _command(unit)
    if command is None:
        return
    for path in (command, _interpreter(command)):
        if path is None:
            continue
        real = path.resolve()
        if any(real.is_relative_to(directory) for directory in _HIDDEN):
            yield (
                f"{unit}: the service cannot see {display(real)}: ProtectHome=yes hides it"
                " (install gred elsewhere: make install)"
            )
        elif not path.exists():
            yield f"{unit}: {display(path)} is not there (make install)"


def _files(configuration: Path) -> list[Path]:
    """Return what gred reads: *configuration*, the directory of drop-ins, and these."""
    directory = configuration.parent / f"{configuration.stem}.conf.d"
    with contextlib.suppress(OSError, ValueError):
        return [configuration, directory, *sorted(directory.glob("*.conf"))]
    return [configuration]


@contextlib.contextmanager
def _acting_as(user: int, group: int, groups: list[int]) -> Iterator[None]:
    """Be somebody else for a moment, as far as the kernel judges access. Needs root."""
    own_group, own_groups = os.getegid(), os.getgroups()
    os.setgroups(groups)
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
        os.setgroups(own_groups)


def _command(unit: Path) -> Path | None:
    """Return the program in the last ExecStart= of *unit*; None unless its path is absolute."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in reversed(unit.read_text(encoding="utf-8").splitlines()):
            name, _, value = line.partition("=")
            if name.strip() == "ExecStart" and value.split():
                path = value.split()[0].lstrip("-@:+!")
                return Path(path) if path.startswith("/") else None
    return None


def _interpreter(program: Path) -> Path | None:
    """Return what runs *program*, where that is a script."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        with program.open("rb") as file:
            first = file.readline(256)
        if first.startswith(b"#!") and first[2:].split():
            return Path(first[2:].split()[0].decode())
    return None
