"""What crosses the tunnel while its service is restarted: a stream of iperf3, OSPF of FRR, pings.

One function for each cell, by its name, as in checks.
"""

import contextlib
import itertools
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.systemd.guest import ospf
from tests.systemd.guest.service import interface, starts, until
from tests.systemd.guest.system import INNER, UNIT, messages, run

_NETWORK, _ROUTE = "10.47.0.0/30", "10.99.0.0/16"
_RATE = "4M"  # bits a second: emulated, more would leave nothing to anybody else
_INTERVAL_S = 0.1  # of what the receiver of the stream tells
_PINGS_S = 0.05
_AFTER = 200_000  # bytes that must cross afterwards


def a_restart_breaks_neither_streams_nor_ospf() -> str:
    """The connection goes on, and the neighbours see nothing of it."""
    starts()
    with (
        ospf.router("host", "tunnel", _NETWORK) as host,
        ospf.router("peer", "tunnel", _NETWORK, namespace="peer") as peer,
        _stream() as stream,
        _pings() as pings,
    ):
        both = host, peer
        until(lambda: all(one.is_full() for one in both))
        until(lambda: stream.received() > _AFTER)
        run("ip", "route", "replace", _ROUTE, "dev", "tunnel")  # somebody else's
        connections, as_it_was = _connections(), interface()
        assert connections, stream.log()
        before = [one.neighbour() for one in both]
        began = time.monotonic()
        run("systemctl", "restart", UNIT)
        ended = time.monotonic()
        passed = stream.received()
        until(lambda: stream.received() > passed + _AFTER)
        until(lambda: all(_heard_since(ended, one) for one in both))
        assert _connections() == connections, f"{connections}, then {_connections()}"
        assert interface() == as_it_was, messages()
        run("ip", "route", "delete", _ROUTE)
        for one, earlier in zip(both, before, strict=True):
            now = one.neighbour()
            assert earlier is not None
            assert now is not None, one.log()
            told = f"{earlier}, then {now}\n{one.log()}"
            assert (now.state, now.changes) == (earlier.state, earlier.changes), told
    assert "adopted=1" in messages(), messages()
    neighbours = ", ".join(f"{one.state} after {one.changes} changes" for one in before if one)
    return (
        f"restart {ended - began:.2f} s; without packets at most {pings.longest_gap():.2f} s"
        f" ({pings.lost()} pings lost), the stream without bytes {stream.longest_gap():.1f} s,"
        f" {stream.received()} bytes of it; neighbours before and after: {neighbours}"
    )


def _heard_since(moment: float, router: ospf.Router) -> bool:
    """Tell whether there was a hello since then; true as well when the neighbour was given up."""
    neighbour = router.neighbour()
    return neighbour is None or time.monotonic() - neighbour.heard_ms / 1000 > moment


def _connections() -> set[tuple[str, str]]:
    """Return both ends of what iperf3 has open: its control connection, and the stream."""
    lines = run("ss", "-Htn", "state", "established", "dst", INNER["peer"]).splitlines()
    return {(line.split()[2], line.split()[3]) for line in lines}


class _Stream:
    """A stream to the peer, as the receiver tells of it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def log(self) -> str:
        return self._path.read_text(errors="replace")

    def received(self) -> int:
        return sum(self._intervals())

    def longest_gap(self) -> float:
        """Return for how many seconds at most nothing was received, while it lasted."""
        filled = [number for number, count in enumerate(self._intervals()) if count]
        gaps = [after - before - 1 for before, after in itertools.pairwise(filled)]
        return _INTERVAL_S * max(gaps, default=0)

    def _intervals(self) -> list[int]:
        """Return the bytes of each interval."""
        told = self.log().partition("- - -")[0]  # the sum follows
        counts = re.findall(r"sec +([\d.]+) ([KMG]?)Bytes", told)
        return [round(float(n) * 1024 ** " KMG".index(unit or " ")) for n, unit in counts]


@contextlib.contextmanager
def _stream() -> Iterator[_Stream]:
    """Have iperf3 send to the peer all the while."""
    path = Path("/run/iperf3.log")
    inside = ("ip", "netns", "exec", "peer")
    serve = ("iperf3", "--server", "--one-off", "--forceflush", "--interval", str(_INTERVAL_S))
    send = ("iperf3", "--client", INNER["peer"], "--bitrate", _RATE, "--time", "3600")
    with path.open("wb") as log:
        server = subprocess.Popen([*inside, *serve], stdout=log, stderr=log)
    stream = _Stream(path)
    until(lambda: "listening" in stream.log())
    client = subprocess.Popen(send, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield stream
        assert client.poll() is None, client.communicate()[0]
    finally:
        for process in (client, server):
            process.terminate()
            process.wait(60)


class _Pings:
    """When answers came."""

    def __init__(self) -> None:
        self.text = ""

    def longest_gap(self) -> float:
        times = [float(found) for found in re.findall(r"^\[([\d.]+)\]", self.text, re.MULTILINE)]
        return max(after - before for before, after in itertools.pairwise(times))

    def lost(self) -> int:
        found = re.search(r"(\d+) packets transmitted, (\d+) received", self.text)
        assert found, self.text
        return int(found[1]) - int(found[2])


@contextlib.contextmanager
def _pings() -> Iterator[_Pings]:
    """Ping the peer all the while; known once that has ended."""
    pings = _Pings()
    command = ("ping", "-D", "-n", "-i", str(_PINGS_S), INNER["peer"])
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield pings
    finally:
        process.send_signal(signal.SIGINT)
        pings.text = process.communicate(timeout=60)[0]
