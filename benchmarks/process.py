"""Processes of the benchmark and what /proc tells of them. Nothing here knows a namespace.

Every process that outlives the call that made it is a :class:`Process`; it is stopped by its own
pid, and the kernel kills it if the benchmark itself is killed.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gred.lab.hosts import LabError
from gred.lab.waiting import wait_for

REPOSITORY = Path(__file__).resolve().parent.parent
MEGABYTE = 1_000_000

PACKAGES = {
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "ovs-vsctl": "openvswitch-switch",
    "ovs-vswitchd": "openvswitch-switch",
    "ovsdb-server": "openvswitch-switch",
    "ovsdb-tool": "openvswitch-switch",
    "ping": "iputils-ping",
    "setpriv": "util-linux",
}


class LoadError(LabError):
    """A program of the benchmark did not do what it was asked; the message says which and why."""


def missing_programs(*names: str) -> str | None:
    """Say which of the programs *names* are absent and which packages have them, or ``None``."""
    absent = [name for name in names if shutil.which(name) is None]
    if not absent:
        return None
    packages = sorted({PACKAGES[name] for name in absent})
    return f"no {', '.join(absent)} on PATH: install {', '.join(packages)}"


def run(argv: Sequence[str], *, text: str | None = None, timeout: float = 30) -> str:
    """Run *argv* to its end with *text* on its standard input; return its standard output.

    Raise LoadError with the program's own words when it fails or takes more than *timeout* seconds.
    """
    try:
        done = subprocess.run(
            argv,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=REPOSITORY,
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{' '.join(argv)}: no end after {timeout:g} s") from error
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise LoadError(f"{' '.join(argv)}: {words[-1] if words else f'exit {done.returncode}'}")
    return done.stdout


class Process:
    """A program in the background. Its output goes to a file; who starts it stops it."""

    def __init__(
        self, argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = Path(argv[0]).name
        self.log = log
        self.started = time.monotonic()
        with log.open("w") as output:
            # A session of its own: Ctrl-C on the terminal reaches the benchmark, which then stops
            # its processes in order. pdeathsig: no process outlives a benchmark that was killed.
            self._popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The pid of the program itself: setpriv and ``ip netns exec`` replace themselves."""
        return self._popen.pid

    def ended(self) -> bool:
        """Tell whether the process is gone."""
        return self._popen.poll() is not None

    def output(self) -> str:
        """Return what the process has written so far, to both of its streams."""
        return self.log.read_text(errors="replace")

    def complaint(self) -> str:
        """Return the last line the process wrote: of a program that failed, usually the reason."""
        lines = self.output().strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"

    def wait_for_output(self, text: str, *, timeout: float = 10) -> None:
        """Wait until *text* is in the output. TimeoutError if it does not come.

        Raise LoadError if the process ends before that.
        """

        def seen() -> bool:
            over = self.ended()
            if text in self.output():
                return True
            if over:
                raise LoadError(
                    f"{self.name} ended with {self._popen.returncode}: {self.complaint()}"
                )
            return False

        wait_for(seen, f'{self.name} says "{text}"', timeout)

    def wait(self, *, timeout: float) -> str:
        """Wait for the end; return the output. Raise LoadError if it failed or did not end."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            self.stop()
            raise LoadError(f"{self.name}: no end after {timeout:g} s") from error
        if status != 0:
            raise LoadError(f"{self.name} ended with {status}: {self.complaint()}")
        return self.output()

    def stop(self, *, timeout: float = 60) -> float:
        """End the process with SIGTERM, after *timeout* seconds with SIGKILL.

        Return the seconds it took. A process that has ended already takes none.
        """
        if self.ended():
            return 0.0
        begin = time.monotonic()
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        return time.monotonic() - begin


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that *pid* has used, user and system, in seconds. proc_pid_stat(5)."""
    # The name in parentheses may hold blanks; the fields after it are counted from state, number 3.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def system_cpu_seconds() -> float:
    """Return the CPU time in which all cores were not idle, in seconds. proc_stat(5)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq = fields[:7]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def stolen_cpu_seconds() -> float:
    """Return the CPU time a hypervisor withheld from cores that had work, in seconds."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """Return VmRSS of *pid* in MB (10^6 bytes)."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS") * 1024 / MEGABYTE


def proportional_megabytes(pid: int) -> float:
    """Return PSS of *pid* in MB: resident memory, with shared pages divided by their users."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss") * 1024 / MEGABYTE


def _kilobytes(path: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    if found is None:
        raise LoadError(f"{path}: no {field}")
    return int(found[1])
