"""The manual pages: every option and command is there, and mandoc has nothing to say."""

import os
import subprocess
from pathlib import Path

import pytest

import gred
from gred.config.options import DAEMON_OPTIONS, TUNNEL_OPTIONS
from gred.management.parser import parser
from tests import require
from tools import manual

MAN = Path(gred.__file__).parent.parent / "man"
PAGES = ["gred.8", "gred.conf.5", "gred-metrics.7"]
# Which pages this machine has is nothing of ours.
_OTHERS = ("referenced manual not found", "mandoc.db")


def shown(page: str) -> str:
    mandoc = require.program("mandoc", package="mandoc")
    command = [mandoc, "-T", "utf8", "-O", "width=200", str(MAN / page)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    # Bold and underlined characters are struck twice.
    return "".join(
        c
        for c, after in zip(done.stdout, done.stdout[1:] + " ", strict=True)
        if "\b" not in c + after
    )


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing(page: str) -> None:
    mandoc = require.program("mandoc", package="mandoc")
    command = [mandoc, "-T", "lint", str(MAN / page)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if not any(word in line for word in _OTHERS)] == []


@pytest.mark.parametrize("page", PAGES)
def test_man_shows_it_without_a_warning(page: str) -> None:
    """groff is the other formatter."""
    man = require.program("man", package="man-db")
    environment = {**os.environ, "MANROFFSEQ": "", "MANWIDTH": "100", "LC_ALL": "C.UTF-8"}
    command = [man, "--warnings", "-l", str(MAN / page)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert "NAME" in done.stdout


def test_every_option_of_the_configuration_is_told() -> None:
    text = " ".join(shown("gred.conf.5").split())
    for option in DAEMON_OPTIONS + TUNNEL_OPTIONS:
        assert f"{option.name}= {option.sentence}" in text.replace(".  ", ". ")
        assert f"Takes {option.kind.expected}; the default is {option.default}." in text


def test_every_metric_is_told() -> None:
    rows = manual._METRIC.findall(manual._MONITORING.read_text())
    text = shown("gred-metrics.7")
    assert len(rows) == 26
    for name, labels, _meaning in rows:
        assert f"{name} ({labels.replace(',', ', ')})" in text if labels else name in text
    assert "`" not in text


def test_every_command_is_told() -> None:
    text = " ".join(shown("gred.8").split())
    commands = dict(manual._commands(parser()))
    assert {"check", "convert", "doctor", "show"} <= commands.keys()
    for name, command in commands.items():
        assert f"gred {name}" in text
        assert (command.description or "").split(".")[0] in text
    assert "77 No permission: gred needs CAP_NET_ADMIN and CAP_NET_RAW." in text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (".conf is a suffix", "\\&.conf is a suffix"),
        ("'quoted'", "\\&'quoted'"),
        ("a \\ b", "a \\e b"),
        ("plain", "plain"),
    ],
)
def test_text_stays_text(text: str, line: str) -> None:
    assert manual._plain(text) == line
