"""What a thousand reloads cost the packets that pass meanwhile. By hand, as root.

    python -m benchmarks.reload [--reloads N] [--rate N]

Two hosts, a daemon on each, two tunnels between them. One daemon reloads again and again, by its
control socket; each time one tunnel gets another option that changes in place, and the other stays
as it is. Through both, numbered datagrams pass both ways all the while. A line of figures at a few
points: datagrams lost, the longest time without one, the daemon's resident memory. Fails where a
datagram is lost, or where a reload changes anything but that tunnel in place.
"""

import argparse
import itertools
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.lab import PREFIX, sweep
from benchmarks.process import LoadError, missing_programs, resident_megabytes
from benchmarks.subjects.base import missing_tun
from gred.lab.daemon import Daemon
from gred.lab.flow import Flow
from gred.lab.hosts import Lab
from gred.management.control.client import ask
from gred.management.places import socket_path

OUTER = "192.0.2.1", "192.0.2.2"
STAYS, CHANGES = "stays", "changes"
TUNNELS = {STAYS: 1, CHANGES: 2}
OPTIONS = (
    "TTL=9",
    "TOS=0x20",
    "AllowedSources=10.7.2.0/24",
    "MTUBytes=1300",
    "Keepalive=10s",
    "Carrier=always\nKeepalive=5s",
    "ClampMSS=no",
    "PacketSocket=no",
    "DiscoverPathMTU=no",
    "Repair=no",
    "InputChecksum=refuse",
    "Route=10.77.0.0/16",
    "Address=10.7.2.1/24, 10.7.3.1/24",
)
POINTS = (1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


def configuration(here: int, changed: str = "") -> str:
    """Return that of one host, with *changed* in the tunnel that changes."""
    text = ""
    for name, number in TUNNELS.items():
        options = changed if name == CHANGES else ""
        if not options.startswith("Address="):
            options = f"Address=10.7.{number}.{here + 1}/24\n{options}"
        ends = f"Local={OUTER[here]}\nRemote={OUTER[1 - here]}"
        text += f"[Tunnel {name}]\n{ends}\nKey={number}\n{options}\n"
    return text


class Scene:
    """Two daemons, and datagrams both ways through both tunnels."""

    def __init__(self, lab: Lab) -> None:
        self._files = [lab.directory() / f"{name}.conf" for name in ("near", "far")]
        os.environ["RUNTIME_DIRECTORY"] = str(lab.directory())
        self.hosts = lab.host("near"), lab.host("far")
        lab.wire(*self.hosts)
        daemons = []
        for here, (host, file) in enumerate(zip(self.hosts, self._files, strict=True)):
            host.address(f"{OUTER[here]}/24")
            file.write_text(configuration(here))
            daemons.append(Daemon(lab, host, file))
            daemons[-1].wait_ready()
        self.near, self.far = daemons
        self._socket = socket_path(self._files[0])

    def reload(self, changed: str) -> float:
        """Have *changed* followed; return the seconds it took. Raises LoadError."""
        self._files[0].write_text(configuration(0, changed))
        began = time.perf_counter()
        *steps, last = ask(self._socket, "reload", patience=60)
        seconds = time.perf_counter() - began
        done = [(step["step"]["tunnel"], step["step"]["what"]) for step in steps]
        if done != [(CHANGES, "changed")]:
            raise LoadError(f"not what was to be reloaded, with {changed!r}: {steps}, {last}")
        return seconds

    @contextmanager
    def flows(self, rate: float) -> Iterator[dict[str, list[Flow]]]:
        """Have datagrams pass, *rate* a second through each tunnel each way."""
        near, far = self.hosts
        with ExitStack() as stack:
            yield {
                name: [
                    stack.enter_context(Flow(near, far, f"10.7.{number}.2", rate=rate)),
                    stack.enter_context(Flow(far, near, f"10.7.{number}.1", rate=rate)),
                ]
                for name, number in TUNNELS.items()
            }


def measure(scene: Scene, reloads: int, rate: float) -> int:
    """Reload so often; return how many datagrams were lost."""
    took: list[float] = []
    began = time.monotonic()
    with scene.flows(rate) as flows:
        for number, changed in enumerate(itertools.islice(itertools.cycle(OPTIONS), reloads), 1):
            took.append(scene.reload(changed))
            if number in POINTS or number == reloads:
                memory = resident_megabytes(scene.near.pid)
                print(
                    f"{number:6} reloads {time.monotonic() - began:7.1f} s"
                    f"   rss {memory:6.1f} MB   p50 {1000 * statistics.median(took):6.1f}"
                    f"   max {1000 * max(took):6.1f} ms each",
                    flush=True,
                )
    lost = 0
    for name, both in flows.items():
        for way, flow in zip(("there", "back"), both, strict=True):
            result = flow.result()
            lost += len(result.lost)
            print(
                f"{name:8} {way:6} {len(result.lost):5} of {result.sent} lost,"
                f" {result.doubled} twice, at most {1000 * result.longest_gap:.0f} ms without"
            )
    return lost


def main() -> int:
    """Measure; return 0, or 1 where it cannot be done or something was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=200)
    options = parser.parse_args()
    trouble = "must be run as root" if os.geteuid() else missing_tun()
    trouble = trouble or missing_programs("ip")
    if trouble is not None:
        print(f"reload: {trouble}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # the laboratory is taken down on the way
    sweep()
    with Lab(f"{PREFIX}reload") as lab:
        scene = Scene(lab)
        lost = measure(scene, options.reloads, options.rate)
        for daemon in (scene.near, scene.far):
            daemon.check()
            if "Traceback" in daemon.log():
                raise LoadError(f"the daemon met a bug:\n{daemon.log()}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
