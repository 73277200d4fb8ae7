"""Real gred daemons for the tests in this directory, and what they say about themselves."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from gred.lab.waiting import wait_for as wait_for  # noqa: PLC0414 - for those who import this file

# While one end comes or goes, tunnel after tunnel, the other's interfaces may send of themselves.
COMING_AND_GOING = {"rx_no_tunnel", "rx_key_mismatch"}

ENVIRONMENT: dict[str, dict[str, str]] = {"c": {}, "python": {"GRED_NO_EXTENSIONS": "1"}}


# Only the extension sends past the host's routing.
PACKET_SOCKET = {"c": "yes", "python": "no (needs the C extension)"}


@dataclass(slots=True)
class Daemons:
    """Starts daemons for one test or module, in one implementation ("c" or "python")."""

    lab: Lab
    implementation: str
    running: list[Daemon] = field(default_factory=list)

    def launch(
        self,
        host: Host,
        text: str,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
    ) -> Daemon:
        """Start a daemon with the tunnels in *text*; do not wait for it. It logs JSON."""
        path = self.lab.directory() / f"{host.name}.conf"
        path.write_text(text if "[Daemon]" in text else f"[Daemon]\nLogFormat=json\n\n{text}")
        both = {**ENVIRONMENT[self.implementation], **(environment or {})}
        daemon = Daemon(
            self.lab, host, path, arguments=arguments, environment=both, wrapper=wrapper
        )
        self.running.append(daemon)
        return daemon

    def start(self, host: Host, text: str, **how: Any) -> Daemon:
        """Start a daemon with the tunnels in *text* and wait until it is ready."""
        daemon = self.launch(host, text, **how)
        try:
            daemon.wait_ready()
        except Exception as error:
            raise AssertionError(f"{error}\n{daemon.log()}") from error
        return daemon

    def stop(self) -> None:
        """Stop what still runs. Each must end well and must not have met a bug."""
        problems = []
        while self.running:
            daemon = self.running.pop()
            if daemon.status is None:
                status = daemon.stop()
                if status != 0:
                    problems.append(f"exit status {status}\n{daemon.log()}")
            else:
                daemon.stop()  # ended by the test itself: only tidies up
            if "Traceback" in daemon.log() or any(e["event"] == "bug" for e in events(daemon)):
                problems.append(daemon.log())
        assert not problems, "\n".join(problems)


def events(daemon: Daemon) -> list[dict[str, Any]]:
    """Return its log lines. What is not JSON, such as a traceback, is an event of that name."""
    found = []
    for line in daemon.log().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            found.append({"event": "text", "text": line})
    return found


def drops(daemon: Daemon) -> Counter[tuple[str | None, str]]:
    """Return the drops it has logged, by (tunnel, direction_reason). Complete once it stopped."""
    counts: Counter[tuple[str | None, str]] = Counter()
    for event in events(daemon):
        if event["event"] == "drops":
            tunnel = event.get("tunnel")
            for key, value in event.items():
                if key.startswith(("tx_", "rx_")):
                    counts[tunnel, key] += value
    return counts


def wait_for_event(daemon: Daemon, name: str, *, after: int = 0, **fields: Any) -> dict[str, Any]:
    """Wait for the log line *name* with these *fields*, not among the first *after* lines."""

    def found() -> dict[str, Any] | None:
        for event in events(daemon)[after:]:
            if event["event"] == name and fields.items() <= event.items():
                return event
        return None

    try:
        event = wait_for(found, f"log line {name} {fields}")
    except TimeoutError as error:
        raise AssertionError(f"{error}\n{daemon.log()}") from None
    return event


def resident_kilobytes(daemon: Daemon) -> int:
    """Return how much memory the daemon occupies."""
    for line in Path(f"/proc/{daemon.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")
