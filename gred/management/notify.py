"""Tell the service manager how gred is (sd_notify(3), sd_watchdog_enabled(3)).

Nothing here fails upwards: a service manager that does not listen is no reason to stop tunnels.
"""

import os
import select
import socket
import time
from array import array
from collections.abc import Mapping

_SEND_SECONDS = 0.5  # a deaf service manager must not hold up the loop for longer
_BARRIER_SECONDS = 2.0


class Notifier:
    """A line to the service manager, or to nobody when gred has none.

    *environ* is where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are looked up.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = _watchdog_seconds(environ)
        """What the service manager waits for a sign of life, in seconds; ``None``: it does not."""

    def ready(self, status: str) -> None:
        """Say that start-up is complete."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """Say that the configuration is read again; ``ready`` says that this has ended."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reloading")

    def status(self, status: str) -> None:
        """Say the one line that ``systemctl status`` shows."""
        self._send(f"STATUS={status}")

    def working(self, status: str, seconds: float) -> None:
        """Say how far a start or a stop is; it is not given up for *seconds* from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={round(seconds * 1_000_000)}\nSTATUS={status}")

    def alive(self) -> None:
        """Pet the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the stop has begun."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def store(self, name: str, descriptor: int) -> bool:
        """Have a copy of *descriptor* kept as *name*; return whether that was said.

        Without FDPOLL=0: a device whose interface was deleted goes from the store by itself.
        """
        return self._send(f"FDSTORE=1\nFDNAME={name}", descriptor)

    def unstore(self, name: str) -> None:
        """Have what is kept as *name* kept no longer."""
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def barrier(self) -> bool:
        """Wait until all that was said has been obeyed; return whether it was, in time."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            said = self._send("BARRIER=1", writing)
        finally:
            os.close(writing)
        try:
            if not said:
                return False
            poller = select.poll()
            poller.register(reading, 0)  # POLLHUP: the manager has closed the other end
            return bool(poller.poll(_BARRIER_SECONDS * 1000))
        finally:
            os.close(reading)

    def _send(self, message: str, *descriptors: int) -> bool:
        if self._address is None:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.settimeout(_SEND_SECONDS)
                # Not socket.send_fds(): it forgets the address.
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
                control = rights if descriptors else []
                line.sendmsg([message.encode()], control, 0, self._address)
        except OSError:
            return False
        return True


def _address(text: str) -> str | None:
    """Read a path, or an abstract name, which is written with ``@`` for its leading NUL."""
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return the interval, unless none is asked for or it is asked of another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environ.get("WATCHDOG_USEC", "")
    if not usec.isascii() or not usec.isdigit() or int(usec) == 0:
        return None
    return int(usec) / 1_000_000
