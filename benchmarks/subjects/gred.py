"""gred itself, as a user starts it: a configuration file, a process, a word when it is ready."""

import importlib.util
import socket
import sys
import time
from collections.abc import Mapping

from benchmarks.lab import End, Lab
from benchmarks.process import REPOSITORY, LoadError
from benchmarks.subjects.base import DaemonSubject, Running, inner_addresses, key, missing_tun

READY_SECONDS = 60  # a daemon that is not ready by then has failed
EXTENSIONS = ("gred.dataplane._codec", "gred.dataplane._io")


class Gred(DaemonSubject):
    """gred at both ends. Variants differ in options of the tunnel and in the environment."""

    def __init__(
        self,
        name: str,
        title: str,
        *,
        many: bool = False,
        extensions: bool = True,
        options: Mapping[str, str] | None = None,
        over_ipv6: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.title = title
        self.many = many
        self._extensions = extensions
        self._options = dict(options or {})
        self._over_ipv6 = over_ipv6

    def missing(self) -> str | None:
        """Refuse to measure the pure twin under the extension's name."""
        absent_tun = missing_tun()
        if absent_tun is not None:
            return absent_tun
        if not (REPOSITORY / "gred" / "__main__.py").exists():
            return "gred cannot be started yet: no gred/__main__.py"
        if self._extensions:
            absent = [name for name in EXTENSIONS if importlib.util.find_spec(name) is None]
            if absent:
                return f"{', '.join(absent)} not built: pip install -e . (needs gcc, python3-dev)"
        return None

    def set_up(self, lab: Lab, tunnels: int) -> Running:
        """Start one daemon after the other, so that neither's start is slowed by the other's."""
        self.daemons = []
        if self._over_ipv6:
            for end in lab.ends:
                end.ip("address", "add", f"{end.address6}/64", "dev", end.device, "nodad")
        slowest = max(
            self._start(lab, end, peer, side, tunnels)
            for side, (end, peer) in enumerate(((lab.a, lab.b), (lab.b, lab.a)))
        )
        inner_a, inner_b = inner_addresses(0)
        return Running(inner_a, inner_b, tuple(daemon.pid for daemon in self.daemons), slowest)

    def configuration(self, end: End, peer: End, side: int, tunnels: int) -> str:
        """Return the configuration file of the daemon at *end* (*side* 0 or 1)."""
        sections = ["[Daemon]\nLogFormat=logfmt\n"]
        extra = "".join(f"{option}={value}\n" for option, value in self._options.items())
        sections += [
            f"[Tunnel bench{number}]\n"
            f"Local={end.address6 if self._over_ipv6 else end.address}\n"
            f"Remote={peer.address6 if self._over_ipv6 else peer.address}\n"
            f"Key={key(number)}\n"
            f"Address={inner_addresses(number)[side]}/30\n"
            f"{extra}"
            for number in range(tunnels)
        ]
        return "\n".join(sections)

    def _start(self, lab: Lab, end: End, peer: End, side: int, tunnels: int) -> float:
        """Start one daemon; return the seconds until it said READY=1, sd_notify(3)."""
        file = lab.directory / f"gred-{end.device}.conf"
        file.write_text(self.configuration(end, peer, side, tunnels))
        path = lab.directory / f"notify-{end.device}"
        environment = {
            "NOTIFY_SOCKET": str(path),
            "GRED_NO_EXTENSIONS": "0" if self._extensions else "1",
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            notify.settimeout(0.05)
            daemon = end.start(
                sys.executable, "-m", "gred", "-c", str(file), environment=environment
            )
            daemon.name = "gred"
            self.daemons.append(daemon)
            while time.monotonic() < daemon.started + READY_SECONDS:
                try:
                    words = notify.recv(4096).decode(errors="replace").splitlines()
                except TimeoutError:
                    if daemon.ended():
                        message = f"gred ended before it was ready: {daemon.complaint()}"
                        raise LoadError(message) from None
                    continue
                if "READY=1" in words:
                    return time.monotonic() - daemon.started
        raise LoadError(f"gred was not ready after {READY_SECONDS} s: {daemon.complaint()}")
