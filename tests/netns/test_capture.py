"""Packets of a running daemon: a capture read by tshark, lines of trace, and who reads slowly."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gred.lab.hosts import Host
from gred.lab.traffic import ping
from gred.lab.waiting import wait_for
from tests import require
from tests.netns.daemons import Daemons, wait_for_event
from tests.netns.once import implementation  # noqa: F401 - both twins: tests/dataplane
from tests.netns.test_reload import config, configuration


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))


def command(daemons: Daemons, host: Host, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "gred", "-c", str(configuration(daemons, host)), *arguments]


@contextmanager
def running(command: Sequence[str], **how: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def begins(process: subprocess.Popen[str]) -> None:
    """Wait until it watches."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("gred: watching "), line


def tshark(file: Path, *fields: str) -> list[dict[str, list[str]]]:
    """Return the *fields* of each packet in *file*, where a packet has them."""
    program = require.program("tshark", package="tshark")
    asked = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(
        [program, "-r", str(file), "-T", "json", *asked],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cut short" not in done.stderr
    return [packet["_source"]["layers"] for packet in json.loads(done.stdout)]


def up(daemons: Daemons, hosts: tuple[Host, Host], there: str = "") -> None:
    """Let both ends run; *there*: the configuration of the far one."""
    one, other = hosts
    near = daemons.start(one, config(0))
    far = daemons.start(other, there or config(1))
    for daemon in (near, far):
        wait_for_event(daemon, "tunnel_up", tunnel="t2")


def test_a_ping_and_what_is_dropped_are_in_a_capture(
    hosts: tuple[Host, Host], silence: None, daemons: Daemons, tmp_path: Path
) -> None:
    one, other = hosts
    up(daemons, hosts, config(1).replace("Key=2", "Key=77"))
    file = tmp_path / "all.pcapng"
    with running(
        command(daemons, one, "capture", "-w", str(file)), stderr=subprocess.PIPE
    ) as capture:
        begins(capture)
        assert ping(one, "10.7.1.2").received == 3
        assert ping(other, "10.7.2.1").received == 0
        wait_for(lambda: file.read_bytes().count(b"key_mismatch") >= 3, "the last is written")
        capture.send_signal(signal.SIGINT)
        said = capture.communicate(timeout=20)[1]
    assert capture.returncode == 0
    assert "none lost" in said
    assert file.stat().st_mode & 0o777 == 0o600
    names = "frame.interface_name", "frame.packet_flags_direction", "gre.key", "frame.comment"
    packets = tshark(file, *names, "ip.src", "icmp.type", "ip.len")
    echoes = [packet for packet in packets if packet.get("gre.key") == ["0x00000001"]]
    assert [packet["icmp.type"] for packet in echoes] == [["8"], ["0"]] * 3
    assert {packet["frame.interface_name"][0] for packet in echoes} == {"t1"}
    assert all("frame.comment" not in packet for packet in echoes)
    assert [int(p["frame.packet_flags_direction"][0], 0) for p in echoes] == [2, 1] * 3
    assert echoes[1]["ip.src"] == ["192.0.2.2", "10.7.1.2"]
    assert echoes[1]["ip.len"] == [str(84 + 28), "84"], "headers as they came"
    refused = [packet for packet in packets if packet.get("gre.key") == ["0x0000004d"]]
    assert len(refused) == 3
    for packet in refused:
        assert packet["frame.comment"] == [
            "dropped: key_mismatch: no tunnel has this key: see gred peers"
        ]


def test_what_a_named_tunnel_does_not_take_is_among_its_packets(
    hosts: tuple[Host, Host], silence: None, daemons: Daemons, tmp_path: Path
) -> None:
    one, other = hosts
    up(daemons, hosts, config(1).replace("Key=2", "Key=77"))
    file = tmp_path / "t2.pcapng"
    with (
        file.open("wb") as output,
        running(
            command(daemons, one, "capture", "t2", "-n", "2", "-s", "40"),
            stdout=output,
            stderr=subprocess.PIPE,
        ) as capture,
    ):
        begins(capture)
        assert ping(one, "10.7.1.2").received == 3
        assert ping(other, "10.7.2.1").received == 0
        said = capture.communicate(timeout=20)[1]
    assert (capture.returncode, said) == (0, "gred: 2 packets captured, none lost\n")
    packets = tshark(file, "gre.key", "frame.cap_len", "frame.len")
    assert (
        packets == [{"gre.key": ["0x0000004d"], "frame.cap_len": ["40"], "frame.len": ["112"]}] * 2
    )


def test_lines_of_trace_are_those_of_vv(
    hosts: tuple[Host, Host], silence: None, daemons: Daemons
) -> None:
    one = hosts[0]
    up(daemons, hosts)
    with running(
        command(daemons, one, "trace", "t1", "-n", "6"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as trace:
        begins(trace)
        assert ping(one, "10.7.2.2").received == 3
        assert ping(one, "10.7.1.2").received == 3
        lines, said = trace.communicate(timeout=30)
    assert trace.returncode == 0
    assert said == "gred: 6 packets shown, none lost\n"
    shown = [line.split(" ", 1)[1] for line in lines.splitlines()]
    assert len(shown) == 6
    assert shown[1].startswith("rx t1 192.0.2.2 > 192.0.2.1 ttl 64: GRE key 1: IPv4 10.7.1.2 > ")
    assert [" ICMP echo-re" in line for line in shown] == [True] * 6


def test_who_does_not_read_loses_packets_and_the_tunnel_none(
    hosts: tuple[Host, Host], silence: None, daemons: Daemons, tmp_path: Path
) -> None:
    one = hosts[0]
    up(daemons, hosts)
    reader, writer = os.pipe()
    with running(
        command(daemons, one, "capture", "-w", "-"), stdout=writer, stderr=subprocess.PIPE
    ) as capture:
        os.close(writer)
        begins(capture)
        begun = os.read(reader, 4096)
        ping = ["ping", "-q", "-i", "0.001", "-s", "1400", "-c", "3000", "10.7.1.2"]
        with one.start(ping, stdout=subprocess.PIPE) as pinging:
            told = pinging.communicate(timeout=60)[0].decode()
        assert "3000 packets transmitted, 3000 received" in told
        capture.send_signal(signal.SIGTERM)
        file = tmp_path / "slow.pcapng"
        with os.fdopen(reader, "rb") as rest:
            file.write_bytes(begun + rest.read())
        said = capture.communicate(timeout=20)[1]
    assert capture.returncode == 0
    written, lost = (int(word) for word in said.split() if word.isdecimal())
    assert written + lost >= 6000
    assert lost > 1000
    assert len(tshark(file, "frame.number")) == written


def test_errors_are_those_of_status(
    hosts: tuple[Host, Host], daemons: Daemons, tmp_path: Path
) -> None:
    one = hosts[0]
    file = tmp_path / "kept"
    file.write_bytes(b"kept")

    def gred(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            command(daemons, one, *arguments), capture_output=True, text=True, check=False
        )
        return done.returncode, done.stderr

    configuration(daemons, one).write_text(config(0))
    for arguments in (["trace"], ["capture"], ["capture", "-w", str(file)]):
        code, said = gred(*arguments)
        assert code == 1
        assert "systemctl start gred" in said
    near = daemons.start(one, config(0))
    absent = "gred: there is no tunnel t9; there is t1, t2\n"
    assert gred("trace", "t9") == (1, absent)
    assert gred("capture", "t9", "-w", str(file)) == (1, absent)
    assert file.read_bytes() == b"kept"
    assert gred("capture", "-w", "/dev/null/no")[1].startswith("gred: cannot write /dev/null/no: ")
    with running(command(daemons, one, "trace"), stderr=subprocess.PIPE) as trace:
        begins(trace)
        near.stop()
        said = trace.communicate(timeout=20)[1]
    assert trace.returncode == 1
    assert said.splitlines()[0] == "gred: 0 packets shown, none lost"
    assert "ended before it had answered" in said.splitlines()[1]
