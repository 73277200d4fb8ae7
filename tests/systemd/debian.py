"""Boots a system with gred as its service and reads what came of the cells. Judges nothing."""

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.interop import kernel as kernels
from tests.interop import machine
from tests.systemd import installation, root
from tests.systemd.guest.system import OUTER, TUNNEL
from tests.systemd.matrix import LAST_WORDS, Result

_PYTHON = f"""\
WorkingDirectory={installation.SOURCE}
Environment=PYTHONDONTWRITEBYTECODE=1
StandardOutput=file:{machine.REPORTS}
StandardError=journal+console
"""
_FILES = {
    "etc/systemd/network/under.network": f"""\
[Match]
Name=under
[Network]
Address={OUTER["gred"]}/24
""",
    # Emulated, everything takes its time; the timeouts of the unit itself stay.
    "etc/systemd/system.conf.d/guest.conf": """\
[Manager]
DefaultTimeoutStartSec=300
DefaultTimeoutStopSec=300
""",
    # What the checks read from the journal, and the host when something failed.
    "etc/systemd/journald.conf.d/guest.conf": "[Journal]\nStorage=volatile\nRateLimitBurst=0\n",
    "etc/systemd/system/peer.service": f"""\
[Unit]
Description=The peer at the other end of the tunnel
# Nothing stops it: it is another machine.
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
[Service]
Type=notify
NotifyAccess=all
ExecStart=/bin/sh {installation.SOURCE}/tests/systemd/guest/peer.sh
KillMode=none
""",
    "etc/systemd/system/checks.service": f"""\
[Unit]
Description=The checks
After=multi-user.target gred.service network-online.target
[Service]
Type=exec
{_PYTHON}\
ExecStart=/usr/bin/python3 -m tests.systemd.guest {{cells}}
""",
} | {
    f"etc/systemd/system/{name}.service": f"""\
[Unit]
Description=A user of the tunnel that stops
Wants={target}
After={target}
[Service]
Type=oneshot
RemainAfterExit=yes
{_PYTHON}\
ExecStart=/bin/true
ExecStop=/usr/bin/python3 -m tests.systemd.guest.last_words {name}
"""
    for name, target in zip(LAST_WORDS, ("network-online.target", "network.target"), strict=True)
}
_UNUSED = (
    "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer e2scrub_reap.service"
    " getty.target cron.service logrotate.timer e2scrub_all.timer frr.service"
)
_WANTED = " ".join(f"{name}.service" for name in ("peer", "checks", *LAST_WORDS))
_ENABLE = (
    "install -m 640 -g gred /dev/stdin /etc/gred/gred.conf <<'END'\n" + TUNNEL + "END",
    "systemctl enable systemd-networkd systemd-networkd-wait-online",
    f"systemctl mask {_UNUSED}",
    f"systemctl add-wants multi-user.target {_WANTED}",
    "systemctl set-default multi-user.target",
    "echo guest >/etc/hostname",
)


@dataclass(frozen=True, slots=True)
class Run:
    """What became of the cells, by name, and all that the machine said besides."""

    results: dict[str, Result]
    console: str


def missing() -> str | None:
    """Say what this machine lacks, with the name of the package, or ``None``."""
    return machine.missing() or root.missing()


def run(cells: Iterable[str]) -> Run:
    """Install gred, boot, try *cells*. Raises MachineError and InstallationError."""
    kernel, system = kernels.find(), root.find()
    if kernel is None or system is None:
        raise machine.MachineError("no kernel or no system")
    with tempfile.TemporaryDirectory(prefix="gred-guest-", dir=root.cache().parent) as temporary:
        upper = Path(temporary) / "upper"
        for name, text in _FILES.items():
            path = upper / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(cells=" ".join(cells)) if "{cells}" in text else text)
        installation.run(system, upper, [*installation.service_lines(), *_ENABLE])
        output = machine.boot(kernel, layers=[upper, system.tree])
    results = (Result(**json.loads(line)) for line in output.lines)
    return Run({result.cell: result for result in results}, output.console)
