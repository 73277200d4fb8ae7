"""The subject every user-space tunnel in Python starts as: one packet, one system call each way."""

import sys

from benchmarks.lab import Lab
from benchmarks.subjects.base import DaemonSubject, Running, inner_addresses, key, missing_tun

DEVICE = "loop0"
MTU = 1500 - 20 - 8  # outer IPv4 header, GRE header with key


class BaselineLoop(DaemonSubject):
    """``benchmarks/baseline_loop.py`` at both ends."""

    name = "loop"
    title = "per-packet asyncio loop"

    def missing(self) -> str | None:
        """Look for TUN; the packages are those that gred itself needs."""
        return missing_tun()

    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """Start both loops and give their devices addresses."""
        assert tunnels == 1
        self.daemons = []
        inner_a, inner_b = inner_addresses(0)
        for end, peer, inner in ((lab.a, lab.b, inner_a), (lab.b, lab.a, inner_b)):
            daemon = end.start(
                sys.executable,
                "-m",
                "benchmarks.baseline_loop",
                DEVICE,
                end.address,
                peer.address,
                str(key(0)),
            )
            daemon.name = "baseline_loop"
            self.daemons.append(daemon)
            daemon.wait_for_output("ready")
            end.ip("address", "add", f"{inner}/30", "dev", DEVICE)
            end.ip("link", "set", DEVICE, "addrgenmode", "none", "mtu", str(MTU), "up")
        return Running(inner_a, inner_b, tuple(daemon.pid for daemon in self.daemons))
