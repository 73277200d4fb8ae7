"""FRR's zebra, ospfd, bgpd and staticd on one host of a laboratory. Knows nothing of tunnels.

They run in the foreground, so that the laboratory ends them, with sockets of their own: the
system's FRR, should there be one, is not touched.
"""

import json
import shutil
import time
from typing import Any

from gred.lab.hosts import Host, Lab, LabError

DAEMONS = ("zebra", "ospfd", "bgpd")
DIRECTORY = "/usr/lib/frr"
_USER = "frr"


class Router:
    """FRR on *host*: zebra, and the daemons that are started on top of it."""

    def __init__(self, lab: Lab, host: Host) -> None:
        self._lab = lab
        self._host = host
        lab.directory().chmod(0o711)  # they drop to their own user before they open files
        self._directory = lab.directory() / f"frr-{host.name}"
        self._directory.mkdir()
        shutil.chown(self._directory, _USER, _USER)
        self.start("zebra", "")

    def show(self, command: str) -> dict[str, Any]:
        """Return what ``show COMMAND json`` answers. Raises LabError."""
        line = ["vtysh", "--vty_socket", str(self._directory), "-c", f"show {command} json"]
        answer: dict[str, Any] = json.loads(self._lab.run(line))
        return answer

    def log(self) -> str:
        """Return what the daemons wrote."""
        files = sorted(self._directory.glob("*.log"))
        return "".join(f"{file.name}: {file.read_text(errors='replace')}\n" for file in files)

    def start(self, daemon: str, configuration: str) -> None:
        """Start one of DAEMONS with its lines of *configuration*; return when it answers."""
        place = self._directory / daemon
        file, log, pid = (place.with_suffix(suffix) for suffix in (".conf", ".log", ".pid"))
        file.write_text(f"hostname {self._host.name}\nlog stdout\n{configuration}")
        with log.open("wb") as output:
            process = self._host.start(
                [
                    f"{DIRECTORY}/{daemon}", "-f", str(file), "-i", str(pid),
                    "-z", str(self._directory / "zserv.api"),
                    "--vty_socket", str(self._directory),
                    "-A", "127.0.0.1",
                ],
                stdout=output,
                stderr=output,
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while not place.with_suffix(".vty").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"{daemon} does not start: {log.read_text(errors='replace')}")
            time.sleep(0.02)
