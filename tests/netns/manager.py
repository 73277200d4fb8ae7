"""A stand-in for systemd: it starts a daemon, keeps descriptors, hands them back at the next start.

As of sd_notify(3) and sd_listen_fds(3), systemd 252. Descriptors come over its datagram socket and
go to the next process through a stream socket: a program that takes them to 3 and up, and becomes
the daemon.
"""

import contextlib
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host
from tests.netns.daemons import Daemons

_HAND_OVER = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(sys.argv[1])
    names, found, *_ = socket.recv_fds(line, 65536, 250)
high = [os.dup2(one, 200 + number) for number, one in enumerate(found)]
for number, one in enumerate(high):
    os.dup2(one, 3 + number)
os.closerange(3 + len(found), 600)
if found:
    os.environ |= dict(
        LISTEN_FDS=str(len(found)), LISTEN_FDNAMES=names.decode(), LISTEN_PID=str(os.getpid())
    )
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Manager(threading.Thread):
    """Runs one daemon on *host*, one process after another. ``close`` closes what it keeps."""

    def __init__(self, daemons: Daemons, host: Host, *, room: int = 64) -> None:
        super().__init__(daemon=True)
        self._daemons = daemons
        self._host = host
        self._room = room
        self._lock = threading.Lock()
        self.kept: list[tuple[str, int]] = []
        self.said: list[bytes] = []
        self.directory = daemons.lab.directory()
        stem = str(time.monotonic_ns())
        self._notify_path = self.directory / f"{stem}.manager"
        self._hand_path = self.directory / f"{stem}.hand"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        self._hand = socket.socket(socket.AF_UNIX)
        self._hand.bind(str(self._hand_path))
        self._hand.listen()
        self._end, self._ended = socket.socketpair()
        self.start()

    def run(self) -> None:
        sources = [self._notify, self._hand, self._ended]
        while True:
            ready = select.select(sources, [], [], self._poll())[0]
            if self._ended in ready:
                return
            if self._notify in ready:
                self._hear()
            if self._hand in ready:
                self._hand_over()

    def _poll(self) -> float:
        """Close what shows an error, as a device does whose interface was deleted."""
        with self._lock:
            for name, descriptor in list(self.kept):
                poller = select.poll()
                poller.register(descriptor, 0)
                if poller.poll(0):
                    self.kept.remove((name, descriptor))
                    os.close(descriptor)
        return 0.05

    def _hear(self) -> None:
        message, descriptors, *_ = socket.recv_fds(self._notify, 65536, 8)
        said = dict(line.split(b"=", 1) for line in message.split(b"\n") if b"=" in line)
        name = said.get(b"FDNAME", b"stored").decode()
        with self._lock:
            if b"FDSTORE" in said and len(self.kept) < self._room:
                self.kept += [(name, one) for one in descriptors]
                descriptors = []
            if b"FDSTOREREMOVE" in said:
                for entry in [entry for entry in self.kept if entry[0] == name]:
                    self.kept.remove(entry)
                    os.close(entry[1])
            for one in descriptors:
                os.close(one)
            self.said.append(message)

    def _hand_over(self) -> None:
        line, _address = self._hand.accept()
        with line, self._lock:
            names = ":".join(name for name, _descriptor in self.kept)
            socket.send_fds(line, [names.encode() or b"-"], [one for _name, one in self.kept])

    def names(self) -> list[str]:
        """Return the names of what is kept."""
        with self._lock:
            return sorted(name for name, _descriptor in self.kept)

    def launch(self, text: str) -> Daemon:
        """Start a process with what is kept, and wait until it is ready."""
        with self._lock:
            self.said.clear()
        daemon = self._daemons.launch(
            self._host,
            text,
            environment={"NOTIFY_SOCKET": str(self._notify_path), "FDSTORE": str(self._room)},
            wrapper=[sys.executable, "-c", _HAND_OVER, str(self._hand_path)],
        )
        self._wait(daemon, lambda: any(b"READY=1" in one for one in self.said))
        return daemon

    @staticmethod
    def _wait(daemon: Daemon, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert daemon.status is None, daemon.log()
            assert time.monotonic() < deadline, daemon.log()
            time.sleep(0.005)

    def close(self) -> None:
        """End, and close what is kept: the service is stopped for good."""
        self._end.close()
        self.join(5)
        for _name, descriptor in self.kept:
            os.close(descriptor)
        self.kept.clear()
        for one in (self._notify, self._hand, self._ended):
            one.close()
        for path in (self._notify_path, self._hand_path):
            with contextlib.suppress(OSError):
                Path(path).unlink()
