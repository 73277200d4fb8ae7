"""The interface of a subject. What sets up a tunnel in the laboratory can be measured."""

import abc
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.process import LoadError, Process

TUN = Path("/dev/net/tun")
_INNER = int(ipaddress.IPv4Address("10.64.0.0"))


@dataclass(frozen=True, slots=True)
class Running:
    """A subject at work.

    ``inner_a`` and ``inner_b`` are the addresses that loads use at the two ends. ``daemons`` are
    the pids of the processes that move packets, none where the kernel does it. ``start_seconds``
    is the time from the start of a daemon to its word that it is ready (the slower of two), or
    ``None`` where nobody says so.
    """

    inner_a: str
    inner_b: str
    daemons: tuple[int, ...] = ()
    start_seconds: float | None = None


class Subject(abc.ABC):
    """One way to carry packets from end a to end b, set up and torn down once per session.

    To add a subject: a class with these three methods, and an entry in ``subjects.SUBJECTS``.
    """

    name: str
    """What ``--subjects`` takes."""
    title: str
    """What tables and the chart show."""
    many: bool = False
    """Whether ``set_up`` can make more than one tunnel."""

    @abc.abstractmethod
    def missing(self) -> str | None:
        """Say in words for the reader why this machine cannot run the subject, or ``None``."""

    @abc.abstractmethod
    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """Carry packets through the first of *tunnels* tunnels. Raise LoadError with the reason.

        Processes are started through the laboratory, which stops them even if this fails.
        """

    @abc.abstractmethod
    def tear_down(self) -> float | None:
        """Stop. Return the seconds the slower daemon took to end; ``None`` where none is timed."""


class DaemonSubject(Subject):
    """A subject whose tunnels are made by processes; ``set_up`` puts them in ``daemons``."""

    def __init__(self) -> None:
        self.daemons: list[Process] = []

    def tear_down(self) -> float | None:
        """Stop the daemons, the last one first; return the seconds of the slowest.

        Raise LoadError if one has ended by itself: its time to stop would be none.
        """
        daemons, self.daemons = self.daemons, []
        for daemon in daemons:
            if daemon.ended():
                raise LoadError(f"{daemon.name} ended by itself: {daemon.complaint()}")
        return max((daemon.stop() for daemon in reversed(daemons)), default=None)


def missing_tun() -> str | None:
    """Say that this machine has no TUN devices, or return ``None``."""
    return None if TUN.exists() else f"no {TUN}: modprobe tun, or let the container have it"


def inner_addresses(tunnel: int) -> tuple[str, str]:
    """Return the addresses, of one /30, of both ends of tunnel number *tunnel*, from 0."""
    network = _INNER + 4 * tunnel
    return str(ipaddress.IPv4Address(network + 1)), str(ipaddress.IPv4Address(network + 2))


def key(tunnel: int) -> int:
    """Return the GRE key or VXLAN network identifier of tunnel number *tunnel*.

    Every subject carries one, also alone, so that one tunnel and 1,000 have the same headers.
    """
    return tunnel + 1
