"""Completion as the shells do it themselves: bash, zsh on a terminal of its own, fish."""

import os
import pty
import shlex
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import gred
from tests import require

SCRIPTS = Path(gred.__file__).parent.parent / "completion"
CONFIGURATION = """\
[Daemon]
[Tunnel office]
Local=192.0.2.1
  [Tunnel  far-away] # behind a blank
[Tunnel $(touch${IFS}run)]
# [Tunnel none]
"""
DROP_IN = "[Tunnel other]\n"
Complete = Callable[[str], list[str]]

_BASH = """\
source "$1"
function=$(complete -p gred | sed 's/.*-F \\([^ ]*\\).*/\\1/')
read -ra COMP_WORDS <<<"$2"
case $2 in *' ') COMP_WORDS+=("") ;; esac
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_LINE=$2
COMP_POINT=${#COMP_LINE}
"$function" gred "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
_ZSH = """\
PS1='ready> '
fpath=({scripts} $fpath)
autoload -Uz compinit
compinit -u -D
dump() {{ print -rn -- "$BUFFER" >{fifo} }}
zle -N dump
bindkey '^X' dump
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "gred.conf").write_text(CONFIGURATION)
    (tmp_path / "gred.conf.d").mkdir()
    (tmp_path / "gred.conf.d/one.conf").write_text(DROP_IN)
    return tmp_path


def bash(line: str, place: Path) -> list[str]:
    program = require.program("bash", package="bash")
    command = [program, "-c", _BASH, "bash", str(SCRIPTS / "bash/gred"), line]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=place)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def fish(line: str, place: Path) -> list[str]:
    program = require.program("fish", package="fish")
    script = f"source {SCRIPTS}/fish/gred.fish; complete -C {shlex.quote(line)}"
    done = subprocess.run(
        [program, "--no-config", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=place,
        env={**os.environ, "HOME": str(place)},
    )
    assert done.stderr == ""
    return [found.partition("\t")[0] for found in done.stdout.splitlines()]


def zsh(line: str, place: Path) -> str:
    """Type *line* and a tab; return what stands on the command line then."""
    program = require.program("zsh", package="zsh")
    fifo = place / "fifo"
    os.mkfifo(fifo)
    (place / ".zshrc").write_text(_ZSH.format(scripts=SCRIPTS / "zsh", fifo=fifo))
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        [program, "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=place,
        env={**os.environ, "ZDOTDIR": str(place), "HOME": str(place), "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        screen = b""
        while b"ready> " not in screen:
            screen += os.read(ours, 4096)
        os.write(ours, f"{line}\t\x18".encode())
        # Or it would wait for somebody to read its echo.
        threading.Thread(target=_drain, args=(ours,), daemon=True).start()
        return fifo.read_text()
    finally:
        shell.kill()
        shell.wait()


def _drain(terminal: int) -> None:
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:  # the other end is gone
        os.close(terminal)


LISTS = [
    ("gred ch", {"check"}),
    ("gred s", {"show", "status"}),
    ("gred show office --as ", {"gred", "ip", "networkd", "cisco", "mikrotik"}),
    ("gred convert --from ", {"ip-json", "networkd", "mikrotik", "cisco", "ip"}),
    ("gred show -c gred.conf o", {"office", "other"}),
    ("gred -c gred.conf show fa", {"far-away"}),
    ("gred status -c gred.conf office fa", {"far-away"}),
    ("gred check -c gred.c", {"gred.conf", "gred.conf.d", "gred.conf.d/"}),
    ("gred show -c none.conf o", set()),
]


@pytest.mark.parametrize("shell", [bash, fish], ids=["bash", "fish"])
@pytest.mark.parametrize(("line", "expected"), LISTS)
def test_list(
    shell: Callable[[str, Path], list[str]], line: str, expected: set[str], place: Path
) -> None:
    found = {word for word in shell(line, place) if word}
    if "gred.conf" in expected:
        assert "gred.conf" in found
        assert found <= expected
    else:
        assert found == expected
    assert not (place / "run").exists(), "a name was run as a command"


@pytest.mark.parametrize("shell", [bash, fish], ids=["bash", "fish"])
def test_a_name_is_a_name_whatever_it_has(
    shell: Callable[[str, Path], list[str]], place: Path
) -> None:
    assert "$(touch${IFS}run)" in shell("gred show -c gred.conf ", place)
    assert not (place / "run").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("gred ch", "gred check "),  # convert has another second letter
        ("gred show office --as ci", "gred show office --as cisco "),
        ("gred show -c gred.conf of", "gred show -c gred.conf office "),
        ("gred -c gred.conf show fa", "gred -c gred.conf show far-away "),
        ("gred -c gred.conf show ot", "gred -c gred.conf show other "),
        ("gred status -c gred.conf office fa", "gred status -c gred.conf office far-away "),
        ("gred status --j", "gred status --json "),
    ],
)
def test_zsh(line: str, expected: str, place: Path) -> None:
    assert zsh(line, place) == expected
