"""What a tunnel suffers from what does not concern it. By hand, as root, on an idle machine.

    python -m benchmarks.hostile [--tunnels N] [--peers N] [--seconds S] [NAME...]

A daemon with thousands of tunnels to one remote, and one that learns beside thousands of peers,
is attacked in several ways, and in all at once; meanwhile another of its tunnels is pinged a
hundred times a second. One line for each: pings lost, round trips, the daemon's share of a core.
Loads are bounded in number and time, and stay in the laboratory's two namespaces.

    quiet      nothing
    errors     100 forged ICMP errors a second, each quoting the key of another tunnel
    sizes      100 forged "packet too big" a second, each about another tunnel
    cut        100 forged ICMP errors a second that fit every tunnel: cut off before the key
    sources    20 new inner sources a second for the tunnel that learns
    flapping   an address that is added and deleted five times a second
    all        the four above
"""

import argparse
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from re import findall

from benchmarks.lab import End, Lab, sweep
from benchmarks.process import LoadError, Process, cpu_seconds, missing_programs
from benchmarks.subjects.base import missing_tun
from gred.lab.waiting import wait_for
from gred.wire.checksum import checksum

BESIDE = ("10.200.0.1", "10.200.0.2")  # ends of the tunnel that is pinged
BESIDE_KEY, LEARNING_KEY = 4_000_000_001, 4_000_000_002
PINGS_PER_SECOND = 100
READY_SECONDS = 180
STOP_SECONDS = 120
GRE, ICMP = 47, 1

LOADS: dict[str, tuple[str, ...]] = {
    "quiet": (),
    "errors": ("errors",),
    "sizes": ("sizes",),
    "cut": ("cut",),
    "sources": ("sources",),
    "flapping": ("flapping",),
    "all": ("errors", "cut", "sources", "flapping"),
}


# --- what attacks, each in a process of its own --------------------------------------------------


def repeat(action: Callable[[int], None], rate: float, seconds: float) -> None:
    """Call *action* with 0, 1, 2... *rate* times a second, for *seconds*."""
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        action(number)


PROTOCOL_UNREACHABLE, TOO_BIG = struct.pack("!BBHI", 3, 2, 0, 0), struct.pack("!BBHI", 3, 4, 0, 900)


def forge(
    head: bytes, target: str, remote: str, tunnels: int, rate: float, seconds: float, cut: int
) -> None:
    """Send ICMP with *head* about GRE from *target* to *remote*, *cut* bytes of it quoted."""
    outer = struct.pack(
        "!BBHHHBBH4s4s",
        *(0x45, 0, 128, 0, 0x4000, 64, GRE, 0),
        *(IPv4Address(target).packed, IPv4Address(remote).packed),
    )
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, ICMP) as sender:

        def send(number: int) -> None:
            gre = struct.pack("!HHI", 0x2000, 0x0800, number % tunnels + 1)[:cut]
            message = bytearray(head + outer + gre)
            struct.pack_into("!H", message, 2, checksum(message))
            sender.sendto(message, (target, 0))

        repeat(send, rate, seconds)


def appear(target: str, rate: float, seconds: float) -> None:
    """Send packets from one inner source after the other through the tunnel that learns."""
    first = int(IPv4Address("172.16.0.1")) + int(time.time() * 100) % 0x80000
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, GRE) as sender:

        def send(number: int) -> None:
            inner = bytearray(
                struct.pack(
                    "!BBHHHBBH4s4s",
                    *(0x45, 0, 20, 0, 0, 64, 253, 0),
                    *((first + number).to_bytes(4), IPv4Address("10.201.0.1").packed),
                )
            )
            struct.pack_into("!H", inner, 10, checksum(inner))
            sender.sendto(struct.pack("!HHI", 0x2000, 0x0800, LEARNING_KEY) + inner, (target, 0))

        repeat(send, rate, seconds)


def flap(device: str, rate: float, seconds: float) -> None:
    """Add an address to *device* and delete it again, in turns."""

    def change(number: int) -> None:
        what = "delete" if number % 2 else "add"
        subprocess.run(["ip", "address", what, "10.99.0.1/24", "dev", device], check=False)

    repeat(change, rate, seconds)


# --- what is attacked -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """How many there are of each, and for how long each attack lasts."""

    tunnels: int
    peers: int
    seconds: float


def sections(end: End, peer: End, scale: Scale) -> str:
    """Return the configuration of the daemon under attack."""
    ends = f"Local={end.address}\nRemote={peer.address}\n"
    text = [
        "[Daemon]\nLogFormat=logfmt\n",
        f"[Tunnel beside]\n{ends}Key={BESIDE_KEY}\nAddress={BESIDE[0]}/30\n",
    ]
    text += [f"[Tunnel many{number}]\n{ends}Key={number}\n" for number in range(1, scale.tunnels)]
    first = int(IPv4Address("10.128.0.0"))
    peers = ", ".join(
        f"{IPv4Address(first + number)}@198.18.{number >> 8}.{number & 255}"
        for number in range(scale.peers)
    )
    text.append(
        f"[Tunnel learns]\nLocal={end.address}\nKey={LEARNING_KEY}\nAddress=10.201.0.1/32\n"
        f"LearnPeers=yes\n" + (f"Peers={peers}\n" if peers else "")
    )
    return "\n".join(text)


class Victim:
    """The daemon under attack at *a*, and one at *b* that answers."""

    def __init__(self, lab: Lab, scale: Scale) -> None:
        self._lab = lab
        self.scale = scale
        text = f"[Tunnel beside]\nLocal={lab.b.address}\nRemote={lab.a.address}\n"
        self._start(lab.b, f"{text}Key={BESIDE_KEY}\nAddress={BESIDE[1]}/30\n")
        begin = time.monotonic()
        self.process = self._start(lab.a, sections(lab.a, lab.b, scale))
        self.start_seconds = time.monotonic() - begin
        lab.a.wait_for(BESIDE[1])

    def _start(self, end: End, text: str) -> Process:
        file = self._lab.directory / f"{end.device}.conf"
        file.write_text(text)
        process = end.start(sys.executable, "-m", "gred", "-c", str(file))
        process.name = "gred"
        process.wait_for_output("started", timeout=READY_SECONDS)
        return process

    def attack(self, kind: str, seconds: float) -> None:
        """Start one attack; it ends by itself."""
        here, there = self._lab.a, self._lab.b
        end, *arguments = {
            "errors": (there, here.address, there.address, self.scale.tunnels - 1, 100, 8),
            "sizes": (there, here.address, there.address, self.scale.tunnels - 1, 100, 8),
            "cut": (there, here.address, there.address, self.scale.tunnels - 1, 100, 4),
            "sources": (there, here.address, 20),
            "flapping": (here, "lo", 5),
        }[kind]
        assert isinstance(end, End)
        words = [str(word) for word in (kind, seconds, *arguments)]
        end.start(sys.executable, "-m", "benchmarks.hostile", "--attack", *words)

    def measure(self, name: str) -> str:
        """Attack as *name* says, ping meanwhile; return a line of figures."""
        seconds = self.scale.seconds
        for kind in LOADS[name]:
            self.attack(kind, seconds + 1)
        time.sleep(0.5)  # until those have begun
        count = round(seconds * PINGS_PER_SECOND)
        command = f"ping -n -i {1 / PINGS_PER_SECOND:g} -c {count} -W 3 {BESIDE[1]}; true"
        used, begin = cpu_seconds(self.process.pid), time.monotonic()
        pings = self._lab.a.start("sh", "-c", command)
        wait_for(pings.ended, "the end of ping", 4 * seconds + 60)
        share = (cpu_seconds(self.process.pid) - used) / (time.monotonic() - begin)
        trips = sorted(float(found) for found in findall(r"time=([\d.]+) ms", pings.output()))
        return f"{name:10}{figures(count, trips)}{100 * share:6.0f} % of a core"

    def quiet_down(self) -> None:
        """Wait until the daemon has nothing left to do, for half a minute at the most."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            used = cpu_seconds(self.process.pid)
            time.sleep(1)
            if cpu_seconds(self.process.pid) - used < 0.05:
                return


def figures(sent: int, trips: Sequence[float]) -> str:
    """Return what became of *sent* pings; *trips* in milliseconds, sorted."""
    lost = f"{sent - len(trips):5} of {sent} lost"
    if len(trips) < 2:
        return lost + " " * 42
    p99 = statistics.quantiles(trips, n=100)[98]
    middle, worst = statistics.median(trips), trips[-1]
    return f"{lost}   p50 {middle:8.2f}   p99 {p99:8.2f}   max {worst:8.2f} ms"


def main() -> int:
    """Measure; return 0, or 1 where it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hostile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(LOADS))
    parser.add_argument("--tunnels", type=int, default=4000)
    parser.add_argument("--peers", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    names = options.names or list(LOADS)
    if unknown := set(names) - LOADS.keys():
        parser.error(f"expected {', '.join(LOADS)}, got {', '.join(sorted(unknown))}")
    trouble = "must be run as root" if os.geteuid() else missing_tun()
    trouble = trouble or missing_programs("ethtool", "ip", "ping", "setpriv")
    if trouble is not None:
        print(f"hostile: {trouble}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))  # the laboratory is taken down on the way
    scale = Scale(max(2, options.tunnels), options.peers, min(options.seconds, 60))
    sweep()
    with Lab() as lab:
        victim = Victim(lab, scale)
        seconds = victim.start_seconds
        print(f"{scale.tunnels} tunnels, {scale.peers} peers: {seconds:.1f} s to start")
        for name in names:
            print(victim.measure(name), flush=True)
            victim.quiet_down()
        print(f"{victim.process.stop(timeout=STOP_SECONDS):.1f} s to stop")
        words = [line for line in victim.process.output().splitlines() if "Traceback" in line]
        if words:
            raise LoadError(f"the daemon met a bug: {victim.process.log}")
    return 0


def attack(kind: str, seconds: float, arguments: Sequence[str]) -> None:
    """Be one attacker."""
    match kind, arguments:
        case "errors" | "sizes" | "cut", [target, remote, tunnels, rate, length]:
            head = TOO_BIG if kind == "sizes" else PROTOCOL_UNREACHABLE
            forge(head, target, remote, int(tunnels), float(rate), seconds, int(length))
        case "sources", [target, rate]:
            appear(target, float(rate), seconds)
        case "flapping", [device, rate]:
            flap(device, float(rate), seconds)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--attack"]:
        attack(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
    else:
        sys.exit(main())
