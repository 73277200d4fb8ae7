"""FRR's zebra and ospfd, one pair in the guest and one beside the peer. Knows nothing of gred.

They run in the foreground with sockets of their own; FRR's service is masked.
"""

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.systemd.guest.system import run

_DAEMONS = Path("/usr/lib/frr")
_USER = "frr"
_STARTS_S = 180.0  # emulated, everything takes its time
_HELLO_S, _DEAD_S = 1, 40  # the second is what OSPF has where nothing is configured
_CONFIGURATION = """\
hostname {name}
log stdout
interface {interface}
 ip ospf network point-to-point
 ip ospf hello-interval {hello}
 ip ospf dead-interval {dead}
router ospf
 ospf router-id {identity}
 network {network} area 0
"""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The one neighbour of a router, as ospfd has it."""

    state: str
    changes: int  # of its state, since it was met
    heard_ms: int  # since its last hello


class Router:
    """OSPF on one interface. Made by `router`."""

    def __init__(self, name: str, namespace: str | None) -> None:
        self._inside = ("ip", "netns", "exec", namespace) if namespace else ()
        self._directory = Path(f"/run/ospf-{name}")
        self._directory.mkdir()
        shutil.chown(self._directory, _USER, _USER)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, daemon: str, configuration: str) -> None:
        """Start *daemon*; return when it answers."""
        place = self._directory / daemon
        place.with_suffix(".conf").write_text(configuration)
        with place.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *self._inside,
                    str(_DAEMONS / daemon), "-f", f"{place}.conf", "-i", f"{place}.pid",
                    "-z", str(self._directory / "zserv.api"),
                    "--vty_socket", str(self._directory), "-A", "127.0.0.1",
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        self._processes.append(process)
        deadline = time.monotonic() + _STARTS_S
        while not place.with_suffix(".vty").exists():
            assert process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.1)

    def neighbour(self) -> Neighbour | None:
        """Return the neighbour, or nothing while it has none."""
        command = "show ip ospf neighbor detail json"
        told = json.loads(run("vtysh", "--vty_socket", str(self._directory), "-c", command))
        found: list[dict[str, Any]] = [
            one
            for each in told.get("neighbors", told).values()
            if isinstance(each, list)
            for one in each
        ]
        if not found:
            return None
        (one,) = found
        heard = 1000 * _DEAD_S - one["routerDeadIntervalTimerDueMsec"]
        return Neighbour(one["nbrState"], one["stateChangeCounter"], heard)

    def is_full(self) -> bool:
        """Tell whether both have the same link states."""
        neighbour = self.neighbour()
        return neighbour is not None and neighbour.state.startswith("Full")

    def log(self) -> str:
        """Return what the daemons wrote."""
        files = sorted(self._directory.glob("*.log"))
        return "".join(f"{file}: {file.read_text(errors='replace')}\n" for file in files)

    def stop(self) -> None:
        """End what was started."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(60)
        shutil.rmtree(self._directory)


@contextlib.contextmanager
def router(
    name: str, interface: str, network: str, *, namespace: str | None = None
) -> Iterator[Router]:
    """Have OSPF run on *interface*, whose address is in *network*."""
    made = Router(name, namespace)
    try:
        made.start("zebra", f"hostname {name}\nlog stdout\n")
        text = _CONFIGURATION.format(
            name=name,
            interface=interface,
            hello=_HELLO_S,
            dead=_DEAD_S,
            identity="192.0.2.21" if namespace else "192.0.2.11",
            network=network,
        )
        made.start("ospfd", text)
        yield made
    finally:
        made.stop()
