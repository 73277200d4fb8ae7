"""gred as a user who is not root, while tables of iptables-legacy come and go; one report each.

For the virtual machine alone: it opens this machine's directories to that user.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from gred.lab.daemon import Daemon
from gred.lab.hosts import Host, Lab
from tests import require
from tests.interop.guest.laboratory import READY_S

NOBODY = "65534"
# As systemd starts it: CAP_NET_ADMIN and CAP_NET_RAW, and the list of tables is not for it.
_CAPABILITIES = "-all,+net_admin,+net_raw"
_AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *(f"--{kind}={_CAPABILITIES}" for kind in ("inh-caps", "ambient-caps", "bounding-set")),
)
_TUNNEL = """\
[Daemon]
LogFormat=json

[Tunnel t]
Local=192.0.2.1
Remote=192.0.2.2
"""
# The command line of iptables-legacy, and what gred is to say then; None: nothing new.
STEPS: tuple[tuple[str, str | None], ...] = (
    ("-t filter -L", None),  # makes the table
    ("-t nat -A POSTROUTING -j MASQUERADE", None),
    ("-t filter -A OUTPUT -p gre", "no (cannot see iptables tables: Permission denied)"),
    ("-t filter -F", "yes"),
    ("-t mangle -A POSTROUTING", "no (cannot see iptables tables: Permission denied)"),
    ("-t mangle -F", "yes"),
)


def main() -> int:
    """Start gred with ip_tables loaded, as systemd leaves it; take the steps; report in JSON."""
    with Lab("tables") as lab:
        left, right = lab.host("left"), lab.host("right")
        lab.wire(left, right)
        left.address("192.0.2.1/24")
        lab.run(["modprobe", "ip_tables"])
        daemon = _start(lab, left)
        _report("ip_tables loaded", _said(daemon, "started"))
        for arguments, expected in STEPS:
            before = len(_events(daemon, "packet_socket_changed"))
            command = require.program("iptables-legacy", package="iptables")
            lab.run(["ip", "netns", "exec", left.namespace, command, "-w", *arguments.split()])
            if expected is not None:
                _report(arguments, _said(daemon, "packet_socket_changed", before))
            else:
                time.sleep(5)  # longer than gred waits between two looks
                after = _events(daemon, "packet_socket_changed")[before:]
                _report(arguments, after[0]["packet_socket"] if after else None)
        daemon.stop()
    return 0


def _start(lab: Lab, host: Host) -> Daemon:
    directory = lab.directory()
    for place in (Path(sys.executable).resolve(), Path(sys.prefix), Path.cwd(), directory):
        for parent in (place, *place.parents):
            parent.chmod(0o777)
    Path("/dev/net/tun").chmod(0o666)  # as udev leaves it
    configuration = directory / "gred.conf"
    configuration.write_text(_TUNNEL)
    daemon = Daemon(lab, host, configuration, wrapper=_AS_NOBODY)
    for path in directory.iterdir():
        path.chmod(0o666)
    try:
        daemon.wait_ready(READY_S)
    except Exception as error:
        raise AssertionError(daemon.log()) from error
    return daemon


def _events(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in daemon.log().splitlines() if line.startswith("{")]
    return [event for event in lines if event["event"] == name]


def _said(daemon: Daemon, name: str, skip: int = 0) -> str:
    deadline = time.monotonic() + READY_S
    while not (found := _events(daemon, name)[skip:]):
        if time.monotonic() > deadline:
            raise AssertionError(f"no {name}:\n{daemon.log()}")
        time.sleep(0.1)
    return str(found[0]["packet_socket"])


def _report(step: str, said: str | None) -> None:
    sys.stdout.write(f"{json.dumps([step, said])}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
