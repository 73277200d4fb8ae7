"""Runs other programs that only print. Each has a few seconds, and no terminal to ask at.

Nothing here reads what they print.
"""

import os
import shutil
import subprocess

_PATIENCE = 5.0  # seconds
_ALSO = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"  # of people who are not root


class ProgramError(Exception):
    """A program is not there, did not end in time, or says that it failed. The text is one line."""


def find(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name) or shutil.which(name, path=_ALSO)


def run(name: str, *arguments: str) -> str:
    """Return what a program prints. Raises ProgramError."""
    path = find(name)
    if path is None:
        raise ProgramError(f"{name} is not installed")
    try:
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PATIENCE,
            env={**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": ""},
        )
    except subprocess.TimeoutExpired:
        raise ProgramError(f"{name} did not answer in {_PATIENCE:.0f} s") from None
    except OSError as error:
        raise ProgramError(f"cannot run {name}: {error.strerror or error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        answer = said[0] if said else f"exit status {done.returncode}"
        raise ProgramError(f"{name}: {answer}")
    return done.stdout.decode(errors="replace")
