"""The laboratory: two namespaces, one veth pair between them, the processes that run inside.

A new one for every session, so that no subject finds what another left. It is gred.lab, and what a
measurement needs besides: a wire that works as one, and processes that are killed with the
benchmark. Nothing here touches a device, an address or a process outside the namespaces that the
laboratory made.
"""

import itertools
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.process import LoadError, Process, run
from gred.lab.hosts import Host, LabError
from gred.lab.hosts import Lab as House
from gred.lab.waiting import wait_for

PREFIX = "gredbench"  # then a number, the pid of the run, the end
_numbers = itertools.count()

# Nanoseconds for which packets are held back so that more can be merged. 200 microseconds are what
# the kernel's own tests of receive offload on veth take. On a veth each end of that time is a timer
# interrupt on the sending core, which in a virtual machine can cost more than the merging saves.
GRO_FLUSH_TIMEOUT = 200_000


def sweep() -> None:
    """Delete the namespaces of runs that were killed: those whose pid is no more."""
    for line in run(["ip", "netns", "list"]).splitlines():
        namespace = line.split()[0]
        match namespace.split("-"):
            case [label, pid, _] if label.startswith(PREFIX) and not Path("/proc", pid).exists():
                with suppress(LoadError):
                    run(["ip", "netns", "delete", namespace])


class End:
    """One end of the wire: a namespace with its veth device and underlay address (/24).

    ``address6`` is for who wants IPv6: the device has not got it.
    """

    def __init__(self, lab: "Lab", host: Host, device: str, address: str, address6: str) -> None:
        self._lab = lab
        self._host = host
        self.namespace = host.namespace
        self.device = device
        self.address = address
        self.address6 = address6

    def run(self, *argv: str, text: str | None = None, timeout: float = 30) -> str:
        """Run a program in this namespace to its end; see :func:`benchmarks.process.run`."""
        return run(["ip", "netns", "exec", self.namespace, *argv], text=text, timeout=timeout)

    def ip(self, *arguments: str) -> str:
        """Run the program ip on this namespace, with *arguments*."""
        return self._host.ip(*arguments)

    def ip_batch(self, lines: list[str]) -> None:
        """Run many ip(8) commands in one process."""
        run(["ip", "-n", self.namespace, "-batch", "-"], text="\n".join(lines) + "\n", timeout=120)

    def start(self, *argv: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a program in this namespace. The laboratory stops it at the latest."""
        lab = self._lab
        log = lab.directory / f"{len(lab.processes)}-{Path(argv[0]).name}.log"
        process = Process(
            ["ip", "netns", "exec", self.namespace, *argv], log=log, environment=environment
        )
        process.name = Path(argv[0]).name
        lab.processes.append(process)
        return process

    def reaches(self, address: str) -> bool:
        """Tell whether one ping to *address* is answered."""
        try:
            self.run("ping", "-n", "-q", "-c", "1", "-W", "0.3", address)
        except LoadError:
            return False
        return True

    def wait_for(self, address: str, *, timeout: float = 15) -> None:
        """Wait until *address* answers a ping; raise TimeoutError if it does not."""
        wait_for(lambda: self.reaches(address), f"an answer to a ping of {address}", timeout)


class Lab:
    """Two ends, ``a`` and ``b``, wired by veth with MTU 1500 and tso, gso and tx off at both.

    Without those three a veth carries 64 KB packets and leaves checksums undone, which no wire
    does: what is measured would be the absence of work.
    """

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.ends: tuple[End, ...] = ()
        self._house = House(f"{PREFIX}{next(_numbers)}")

    def __enter__(self) -> Self:
        self._house.__enter__()
        try:
            self.directory = self._house.directory()
            self.a = End(self, self._house.host("a"), "va", "192.0.2.1", "2001:db8::1")
            self.b = End(self, self._house.host("b"), "vb", "192.0.2.2", "2001:db8::2")
            self.ends = (self.a, self.b)
            self._wire()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wire(self) -> None:
        self.a.ip("link", "add", "va", "type", "veth", "peer", "vb", "netns", self.b.namespace)
        for end in self.ends:
            end.run("ethtool", "-K", end.device, "tso", "off", "gso", "off", "tx", "off")
            # No IPv6 link-local address: its multicast would be the only packets nobody asked for.
            end.ip("link", "set", end.device, "addrgenmode", "none", "mtu", "1500", "up")
            end.ip("address", "add", f"{end.address}/24", "dev", end.device)
        self.a.wait_for(self.b.address)

    def underlay_gro(self, *, on: bool, flush_timeout: int = GRO_FLUSH_TIMEOUT) -> None:
        """Let the veth pair merge received packets as NICs do, or stop it.

        *flush_timeout*: in nanoseconds; 0: packets are passed on as soon as the queue is empty.
        """
        held = on and flush_timeout > 0
        values = {
            "gro_flush_timeout": flush_timeout if held else 0,
            "napi_defer_hard_irqs": int(held),
        }
        for end in self.ends:
            end.run("ethtool", "-K", end.device, "gro", "on" if on else "off")
            for name, value in values.items():
                # tee, because "ip netns exec" is what mounts this namespace's /sys.
                end.run("tee", f"/sys/class/net/{end.device}/{name}", text=f"{value}\n")

    def close(self) -> None:
        """Stop every process, delete wire, namespaces and directory. Safe to call again."""
        for process in reversed(self.processes):
            process.stop(timeout=10)
        self.processes.clear()
        # The wire first and by itself: a namespace is taken down later, in the background.
        with suppress(LabError):
            for end in self.ends[:1]:
                end.ip("link", "delete", end.device)
        self._house.close()
