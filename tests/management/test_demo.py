"""The demonstration: it shows what it promises, says when it cannot, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from gred.control.errors import ExitCode
from gred.lab.hosts import NAMESPACES
from gred.lab.traffic import EchoResult
from gred.management import demo, demo_configurations
from tests import require

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "conf" / "examples"
DEMO = [sys.executable, "-m", "gred", "demo"]
PATIENCE_S = 110


@pytest.mark.parametrize("end", ["1-left", "1-right", "2-left", "2-right"])
def test_its_configurations_are_the_examples(end: str) -> None:
    name = f"TUNNEL_{end.upper().replace('-', '_')}"
    assert getattr(demo_configurations, name) == (EXAMPLES / f"tunnel-{end}.conf").read_text()


@pytest.fixture
def able() -> None:
    require.root()
    require.tun()
    require.program("ip", package="iproute2")


def start(
    *arguments: str, wrapper: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*wrapper, *DEMO, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the end; return the rest of its output and its errors. It must leave nothing."""
    with process:
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert not remains(process.pid)
    return output, errors


def remains(pid: int) -> list[str]:
    """Return what the demonstration of process *pid* left: namespaces, files, processes."""
    prefix = f"gred-{pid}-"
    files = [*NAMESPACES.glob(f"{prefix}*"), *Path(tempfile.gettempdir()).glob(f"{prefix}*")]
    return [str(path) for path in files] + [
        command for command in command_lines() if f"/{prefix}" in command
    ]


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read the demonstration's output up to the line that has *text*."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}")


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("without_extensions", ["", "1"])
def test_everything_arrives(without_extensions: str, tmp_path: Path) -> None:
    pcap = tmp_path / "wire.pcap"
    environment = {"GRED_NO_EXTENSIONS": without_extensions}
    process = start("--pcap", str(pcap), environment=environment)
    output, errors = finish(process)
    assert process.returncode == 0, output + errors
    assert not errors
    assert "Everything arrived." in output
    for text in (
        "Local=192.168.1.10",
        "Route=20.1.2.0/24",
        "ip link set dev Tunnel-1 mtu 1476 up",
        "ping 20.1.3.1 -> 20.1.2.1: 5 of 5",
        "multicast 10.1.2.1 -> 239.47.0.1: 10 of 10",
        "SHA-256",
    ):
        assert text in output
    assert without_extensions == "" or "codec=python" in output
    assert tunnels_in(pcap) == {
        ("192.168.1.10", "192.168.1.13"),
        ("192.168.100.1", "192.168.100.2"),
    }


def tunnels_in(pcap: Path) -> set[tuple[str, str]]:
    """Return the pairs of outer addresses between which GRE crossed."""
    from scapy.layers.inet import IP
    from scapy.layers.l2 import Ether
    from scapy.utils import RawPcapReader

    pairs: set[tuple[str, str]] = set()
    with RawPcapReader(str(pcap)) as reader:
        for data, _metadata in reader:
            if data[12:14] == b"\x08\0" and data[23] == 47:
                packet = Ether(data[:34])[IP]
                first, second = sorted((packet.src, packet.dst))
                pairs.add((first, second))
    return pairs


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("ip netns add", signal.SIGINT),
        ("link add", signal.SIGTERM),
        ("gred.conf.d", signal.SIGINT),
        ("-m gred -c", signal.SIGTERM),
        ("-br addr show", signal.SIGINT),
        ("4. Traffic", signal.SIGTERM),
        ("ping 20.1.2.1", signal.SIGINT),
        ("5. The daemons", signal.SIGTERM),
        ("ip netns delete", signal.SIGTERM),
    ],
)
def test_interrupted_anywhere_it_leaves_nothing(place: str, number: signal.Signals) -> None:
    process = start()
    read_until(process, place)
    process.send_signal(number)
    finish(process)
    # All is gone when the handlers are: a signal after that has its default action.
    assert process.returncode in {128 + number, -number, 0 if "delete" in place else -number}


@pytest.mark.usefixtures("able")
def test_a_daemon_that_is_killed_is_noticed() -> None:
    process = start()
    read_until(process, "4. Traffic")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    output, errors = finish(process)
    assert process.returncode == ExitCode.FAILURE
    assert "SIGKILL" in errors or "exit status -9" in output


@pytest.mark.usefixtures("able")
def test_a_reader_that_leaves_is_no_reason_to_leave_anything() -> None:
    process = start()
    read_until(process, "link add")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE_S) == ExitCode.FAILURE
    assert not remains(process.pid)
    assert process.stderr is not None
    with process.stderr as errors:
        assert "Traceback" not in errors.read()


@pytest.mark.usefixtures("able")
def test_what_did_not_arrive_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "ping", lambda *_, **__: EchoResult(5, (0.001,) * 4))
    assert demo.run_demo(None) == ExitCode.FAILURE
    output = capsys.readouterr().out
    assert "4 of 6 did not arrive whole." in output
    assert "Everything arrived." not in output
    assert "20%  FAILED" in output


@pytest.mark.usefixtures("able")
def test_a_capture_to_nowhere_is_one_line(tmp_path: Path) -> None:
    process = start("--pcap", str(tmp_path / "no" / "wire.pcap"))
    _output, errors = finish(process)
    assert process.returncode == ExitCode.FAILURE
    assert "No such file" in errors
    assert len(errors.splitlines()) == 1


def test_without_the_capabilities_it_says_so() -> None:
    require.root()
    setpriv = require.program("setpriv", package="util-linux")
    process = start(wrapper=[setpriv, "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"])
    output, errors = finish(process)
    assert (process.returncode, output) == (ExitCode.NO_PERMISSION, "")
    assert "CAP_SYS_ADMIN" in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.usefixtures("able")
def test_a_chroot_whose_root_is_no_mount_point_will_do(tmp_path: Path) -> None:
    """As debootstrap(8) makes it: nothing in there can change how mounts propagate from /."""
    unshare = require.program("unshare", package="util-linux")
    script = (
        'for d in /*; do test -L "$d" && cp -P "$d" "$0/" && continue; test -d "$d" || continue; '
        'mkdir "$0/$d" && mount --rbind "$d" "$0/$d"; done; cd "$0" && exec chroot . '
        'sh -c "cd $1 && shift && exec \\"\\$@\\"" sh "$@"'
    )
    process = start(wrapper=[unshare, "--mount", "sh", "-c", script, str(tmp_path), str(ROOT)])
    output, errors = finish(process)
    assert process.returncode == 0, output + errors
    assert "Everything arrived." in output


@pytest.mark.parametrize("kind", ["plain file", "wrong node"])
def test_a_wrong_dev_net_tun_is_said(kind: str) -> None:
    require.root()
    unshare = require.program("unshare", package="util-linux")
    make = "touch /dev/net/tun" if kind == "plain file" else "mknod /dev/net/tun c 1 3"
    hide = f'mount -t tmpfs none /dev/net && {make} && exec "$@"'
    process = start(wrapper=[unshare, "--mount", "sh", "-c", hide, "sh"])
    output, errors = finish(process)
    assert (process.returncode, output) == (ExitCode.NO_TUN, "")
    assert "mknod -m 666 /dev/net/tun c 10 200" in errors
    assert len(errors.splitlines()) == 1


def test_without_dev_net_tun_it_says_so() -> None:
    require.root()
    unshare = require.program("unshare", package="util-linux")
    hide = 'mount -t tmpfs none /dev/net && exec "$@"'
    process = start(wrapper=[unshare, "--mount", "sh", "-c", hide, "sh"])
    output, errors = finish(process)
    assert (process.returncode, output) == (ExitCode.NO_TUN, "")
    assert "/dev/net/tun" in errors
    assert len(errors.splitlines()) == 1


def test_without_ip_it_names_the_package(tmp_path: Path) -> None:
    require.root()
    require.tun()
    process = start(environment={"PATH": str(tmp_path)})
    output, errors = finish(process)
    assert (process.returncode, output) == (ExitCode.FAILURE, "")
    assert "iproute2" in errors
    assert len(errors.splitlines()) == 1
