"""The command as a process: files, standard input, exit codes."""

import subprocess
import sys
from pathlib import Path

ONE = "ip link add t type gre local 192.0.2.1 remote 192.0.2.2 metric 3\n"


def gred(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "gred", *map(str, arguments)],
        check=False,
        capture_output=True,
        input=stdin,
        timeout=60,
    )


def test_file_becomes_a_configuration_that_check_takes(tmp_path: Path) -> None:
    (tmp_path / "script").write_text(ONE)
    done = gred("convert", tmp_path / "script")
    assert done.returncode == 0
    assert b"script: [Tunnel t]: line 1: no equivalent: metric 3\n" in done.stderr
    assert done.stdout.startswith(b"[Tunnel t]\n# line 1: no equivalent: metric 3\nLocal=")
    (tmp_path / "gred.conf").write_bytes(done.stdout)
    assert gred("check", "--quiet", "-c", tmp_path / "gred.conf").returncode == 0


def test_standard_input_is_the_default_and_a_dash() -> None:
    outputs = {gred("convert", *words, stdin=ONE.encode()).stdout for words in ([], ["-"])}
    assert len(outputs) == 1
    assert b"[Tunnel t]\n" in outputs.pop()


def test_several_files_are_one_input(tmp_path: Path) -> None:
    (tmp_path / "a.netdev").write_text("[NetDev]\nName=t\nKind=gre\n[Tunnel]\nRemote=192.0.2.2\n")
    (tmp_path / "a.network").write_text("[Match]\nName=t\n[Network]\nAddress=10.1.2.1/24\n")
    done = gred("convert", tmp_path / "a.netdev", tmp_path / "a.network")
    assert b"Address=10.1.2.1/24" in done.stdout


def test_from_overrides_what_is_recognised() -> None:
    done = gred("convert", "--from", "cisco", stdin=ONE.encode())
    assert (done.returncode, done.stdout[:2]) == (1, b"# ")
    assert b"no tunnel that gred can have was found" in done.stderr


def test_nothing_known_and_nothing_there(tmp_path: Path) -> None:
    done = gred("convert", stdin=b"hello\n")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"gred convert: stdin: expected ip -json")
    done = gred("convert", tmp_path / "none")
    assert done.returncode == 1
    assert b"none: cannot be read: No such file or directory" in done.stderr
    done = gred("convert", stdin=b"\xff\xfe")
    assert done.stderr == b"gred convert: stdin: expected UTF-8 text\n"
