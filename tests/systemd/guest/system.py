"""The guest as the checks see it: its services, its journal, its peer.

gred ── host ────── peer    a namespace with the kernel's GRE
"""

import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNIT = "gred.service"
OUTER = {"gred": "192.0.2.1", "peer": "192.0.2.2", "silent": "192.0.2.3"}
"""Of the underlay; the peer drops all GRE to its address "silent"."""
INNER = {"gred": "10.47.0.1", "peer": "10.47.0.2"}
TUNNEL = f"""\
[Tunnel tunnel]
Local={OUTER["gred"]}
Remote={OUTER["peer"]}
Address={INNER["gred"]}/30
"""
CONFIGURATION = Path("/etc/gred/gred.conf")
DROP_INS = Path("/etc/gred/gred.conf.d")


def run(*command: str, check: bool = True) -> str:
    """Run *command*; return its output, standard error included. Raises CalledProcessError."""
    done = subprocess.run(
        command, check=check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.stdout


def show(name: str, unit: str = UNIT) -> str:
    """Return one property of *unit*."""
    return run("systemctl", "show", "--value", f"--property={name}", unit).strip()


def log(*fields: str, unit: str = UNIT) -> list[dict[str, Any]]:
    """Return the journal of the last run of *unit*, with "event" and others of gred's fields."""
    invocation = show("InvocationID", unit)
    run("journalctl", "--sync")
    lines = run(
        *("journalctl", "--boot", "--output=json", "--all", "--no-pager"),
        *(f"_SYSTEMD_INVOCATION_ID={invocation}", *fields),
    )
    return [json.loads(line) for line in lines.splitlines() if line.startswith("{")]


def messages(unit: str = UNIT) -> str:
    """Return what the last run of *unit* logged, for people."""
    return "\n".join(str(entry.get("MESSAGE", "")) for entry in log(unit=unit))


def pings(address: str, *, count: int, namespace: str | None = None) -> int:
    """Send *count* echo requests; return how many were answered."""
    inside = ("ip", "netns", "exec", namespace) if namespace else ()
    output = run(
        *inside, "ping", "-n", "-c", str(count), "-i", "0.2", "-W", "3", address, check=False
    )
    found = re.search(r"(\d+) received", output)
    return int(found[1]) if found else 0


def status_of(unit: str, *names: str) -> dict[str, str]:
    """Return several properties of *unit*."""
    return {name: show(name, unit) for name in names}


def many(count: int) -> str:
    """Return the configuration of *count* tunnels to where nobody answers."""
    sections = [
        f"[Tunnel many{number}]\nLocal={OUTER['gred']}\nRemote={OUTER['silent']}\n"
        f"Key={number}\nAddress=10.48.{number // 256}.{number % 256}/32\n"
        for number in range(count)
    ]
    return "\n".join(sections)


def process() -> dict[str, Sequence[str]]:
    """Return /proc/PID/status of the service's main process, by field."""
    text = Path(f"/proc/{show('MainPID')}/status").read_text()
    return {
        name: value.split()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }
