"""One real gred daemon on a laboratory host: started, ready, stopped, its log kept.

It is the same program a service manager starts, told by the same protocol (sd_notify(3)) that it is
ready. Nothing here knows what a tunnel is.
"""

import contextlib
import itertools
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import gred
from gred.lab.hosts import Host, Lab

_READY_S = 60.0  # a slow or busy machine is no broken daemon
_serial = itertools.count(1)


class DaemonError(Exception):
    """The daemon ended, or did not become ready. ``status`` is its exit status, if it has one."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class Daemon:
    """gred, started on *host* with the configuration file *configuration*.

    *arguments* follow ``-c FILE`` on the command line. The laboratory ends the process if nobody
    else does.
    """

    def __init__(
        self,
        lab: Lab,
        host: Host,
        configuration: Path,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.host = host
        self.command = [sys.executable, "-m", "gred", "-c", str(configuration), *arguments]
        self._lab = lab
        stem = lab.directory() / f"{host.name}-{next(_serial)}"
        self._log = stem.with_suffix(".log")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = stem.with_suffix(".notify")
        self._notify.bind(str(address))
        with self._log.open("wb") as log:
            self._process = host.start(
                [*wrapper, *self.command],
                environment={
                    "NOTIFY_SOCKET": str(address),
                    # the very gred that runs here, installed or not
                    "PYTHONPATH": str(Path(gred.__file__).parents[1]),
                    **(environment or {}),
                },
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, or ``None`` while it runs; minus the signal's number if one ended it."""
        return self._process.poll()

    def log(self) -> str:
        """Return everything it wrote so far, to stdout and stderr."""
        return self._log.read_text(errors="replace")

    def wait_ready(self, timeout: float = _READY_S) -> None:
        """Wait for READY=1, at most *timeout* seconds. Raises DaemonError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            # short turns: a process that ends sends no datagram
            if select.select([self._notify], [], [], 0.02)[0]:
                if b"READY=1" in self._notify.recv(65536).split(b"\n"):
                    return
            elif self.status is not None:
                break
        self.check()
        raise DaemonError(f"gred on {self.host.name} is not ready after {timeout:g} s", None)

    def check(self) -> None:
        """Raise DaemonError unless it runs."""
        if self.status is None:
            return
        how = f"exit status {self.status}"
        if self.status < 0:
            how = signal.Signals(-self.status).name
        raise DaemonError(f"gred on {self.host.name} ended ({how})", self.status)

    def send_signal(self, number: int) -> None:
        """Send it signal *number*, if it still runs."""
        self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for its end; return its exit status. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, wait for its end, return its exit status."""
        with contextlib.closing(self._notify):
            return self._lab.stop(self._process, number)
