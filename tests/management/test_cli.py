"""The command line, as a process: what it prints and how it ends."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gred
from gred.management import cli, run

ROOT = Path(gred.__file__).parent.parent
TUNNEL = """\
[Tunnel Tunnel-1]
Local=192.0.2.1
Remote=192.0.2.2
Address=10.1.2.1/24
Route=20.1.3.0/24
Key=42
"""


def gred_command(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gred", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        **options,
    )


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "gred.conf"
    path.write_text(TUNNEL)
    return path


def test_version_is_printed() -> None:
    done = gred_command("--version")
    assert (done.returncode, done.stdout) == (0, f"gred {gred.__version__}\n")


def test_version_loads_none_of_the_daemon() -> None:
    program = (
        "import sys\n"
        "from gred.management.cli import main\n"
        "try: main(['--version'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, cwd=ROOT
    )
    heavy = {"asyncio", "structlog", "scapy", "pyroute2", "uvloop", "gred.control", "gred.config"}
    assert heavy.isdisjoint(done.stderr.split())


def test_help_tells_the_exit_codes() -> None:
    done = gred_command("--help")
    assert done.returncode == 0
    for line in ("69  /dev/net/tun is not there", "77  no permission", "78  bad configuration"):
        assert line in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["tunnel"], ["check", "--foreground"], ["-c"]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    done = gred_command(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: gred ")


@pytest.mark.parametrize("command", [[], ["check"]])
def test_every_problem_of_a_configuration_is_told_and_it_ends_with_78(
    command: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "gred.conf"
    path.write_text("[Tunnel nyc]\nTTL=300\nRemotte=192.0.2.1\n")
    done = gred_command(*command, "-c", path)
    assert done.returncode == 78
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == f'{path}:2: [Tunnel nyc] TTL: expected 1..255 or inherit, got "300"'
    assert second.startswith(f"{path}:3: [Tunnel nyc] Remotte: ")
    assert "Remote" in second


@pytest.mark.parametrize("command", [[], ["check"]])
def test_a_missing_configuration_is_one_line_and_78(command: list[str], tmp_path: Path) -> None:
    path = tmp_path / "nothing.conf"
    done = gred_command(*command, "-c", path)
    assert done.returncode == 78
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_prints_the_whole_configuration_and_the_plan(configuration: Path) -> None:
    done = gred_command("check", "-c", configuration)
    assert (done.returncode, done.stderr) == (0, "") or "warning: " in done.stderr
    assert "Remote=192.0.2.2\n" in done.stdout
    assert "TTL=64\n" in done.stdout
    assert "#   ip tuntap add dev Tunnel-1 mode tun\n" in done.stdout
    assert "#   ip address add 10.1.2.1/24 dev Tunnel-1\n" in done.stdout
    assert "#   ip route add 20.1.3.0/24 dev Tunnel-1\n" in done.stdout


def test_what_check_prints_is_a_configuration(configuration: Path, tmp_path: Path) -> None:
    printed = gred_command("check", "-c", configuration).stdout
    again = tmp_path / "again.conf"
    again.write_text(printed)
    assert gred_command("check", "-c", again).stdout.replace("again", "gred") == printed


def test_the_configuration_may_be_named_before_the_command(configuration: Path) -> None:
    assert gred_command("-c", configuration, "check").returncode == 0


def test_without_a_command_the_daemon_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def fake(path: Path, **options: Any) -> int:
        seen.update(options, path=path)
        return 5

    monkeypatch.setattr(run, "run", fake)
    assert cli.main(["--foreground", "-vv"]) == 5
    assert seen == {"path": Path("/etc/gred/gred.conf"), "foreground": True, "verbosity": 2}


def test_demo_gets_its_capture_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from gred.management import demo

    seen: list[Path | None] = []

    def fake(pcap: Path | None) -> int:
        seen.append(pcap)
        return 0

    monkeypatch.setattr(demo, "run_demo", fake)
    assert cli.main(["demo", "--pcap", "a.pcap"]) == 0
    assert cli.main(["demo"]) == 0
    assert seen == [Path("a.pcap"), None]


DRIVER = """
import asyncio, os, sys
from pathlib import Path
from gred.management import run

class Daemon:
    def __init__(self, config, loop, *, listener, trace): self.tunnels = config.tunnels
    async def start(self):
        if sys.argv[2] == "stuck":
            print("starting", file=sys.stderr, flush=True)
            await asyncio.Event().wait()
    async def stop(self): pass
    def facts(self): return {"tunnels": len(self.tunnels), "codec": "c"}
    def counters(self): return {}
    def past(self): return ()
    def status(self): return "1 tunnel"
    def progress(self): return ""

sys.exit(run.run(Path(sys.argv[1]), foreground=False, verbosity=0, make_daemon=Daemon))
"""


@pytest.mark.parametrize(("mode", "sign"), [("up", "event=started"), ("stuck", "starting")])
def test_a_service_process_ends_with_sigterm_and_0(
    mode: str, sign: str, configuration: Path
) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(configuration), mode],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environ,
    ) as process:
        assert process.stderr is not None
        try:
            seen = ""
            while sign not in seen:
                line = process.stderr.readline()
                assert line, seen
                seen += line
            process.terminate()
            rest = process.stderr.read()
            assert process.wait(timeout=10) == 0
        finally:
            process.kill()
    assert "event=stopped" in rest
    if mode == "up":
        assert f"version={gred.__version__} loop=uvloop tunnels=1 codec=c" in seen


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_who_reads_no_further_is_left_alone(configuration: Path, command: str) -> None:
    """As head(1) does."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as closed:  # noqa: PTH123 - a descriptor
        done = subprocess.run(
            [sys.executable, "-m", "gred", command, "-c", configuration],
            check=False,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            cwd=ROOT,
        )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
