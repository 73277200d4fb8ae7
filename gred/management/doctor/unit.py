"""gred as a service: its unit, what systemd says of it, and what its user meets.

systemctl(1) is asked where systemd is the first process; elsewhere files tell. Nothing is started.
"""

import contextlib
from datetime import datetime
from pathlib import Path

from gred.config.problems import display
from gred.management import account
from gred.management.doctor.capabilities import of_process
from gred.management.doctor.facts import Service, Unseen
from gred.management.doctor.programs import ProgramError, run

_DIRECTORIES = (
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
_UNIT = "gred.service"
_PROPERTIES = (
    *("ActiveState", "UnitFileState", "MainPID", "ExecMainStatus", "StateChangeTimestamp"),
    *("ActiveEnterTimestamp", "AmbientCapabilities", "User"),
)
_NEEDED = ("net_admin", "net_raw")


def service(configuration: Path, root: Path) -> Service | Unseen:
    """Return what there is to know of gred.service below *root*."""
    places = [root / directory / _UNIT for directory in _DIRECTORIES]
    unit = next((path for path in places if path.is_file()), None)
    if unit is None:
        return Service(complaints=_complaints(configuration, root))
    asked = _asks_systemd(root)
    wants = root.glob(f"etc/systemd/system/*.wants/{_UNIT}")
    state = asked.get("ActiveState", "")
    pid = int(asked.get("MainPID", "0") or 0) or None
    changed = _moment(asked.get("StateChangeTimestamp", ""))
    started = _moment(asked.get("ActiveEnterTimestamp", "")) if state == "active" else None
    return Service(
        unit=display(unit),
        enabled=asked["UnitFileState"] == "enabled" if asked else any(wants),
        state=state,
        pid=pid,
        since=changed.isoformat(timespec="seconds") if changed else "",
        exit_status=int(asked.get("ExecMainStatus", "0") or 0) if state == "failed" else None,
        missing=_missing(pid, asked),
        configuration_newer=started is not None and _written(configuration) > started.timestamp(),
        complaints=_complaints(configuration, root),
    )


def _complaints(configuration: Path, root: Path) -> tuple[str, ...]:
    return tuple(account.complaints(configuration)) if root == Path("/") else ()


def _asks_systemd(root: Path) -> dict[str, str]:
    """Return what systemd says of the unit; empty where it cannot be asked, or of another root."""
    if root != Path("/") or not Path("/run/systemd/system").is_dir():  # sd_booted(3)
        return {}
    try:
        names = ",".join(_PROPERTIES)
        told = run("systemctl", "show", "--timestamp=unix", f"--property={names}", _UNIT)
    except ProgramError:
        return {}
    found = dict(line.partition("=")[::2] for line in told.splitlines() if "=" in line)
    return found if "ActiveState" in found and "UnitFileState" in found else {}


def _moment(text: str) -> datetime | None:
    """Read a time as --timestamp=unix prints it: @1700000000."""
    with contextlib.suppress(ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(int(text.removeprefix("@"))).astimezone()
    return None


def _missing(pid: int | None, asked: dict[str, str]) -> tuple[str, ...]:
    """Return the capabilities that the service lacks: its process, or what its unit gives it."""
    if pid is not None and (lacks := of_process(str(pid), _NEEDED)) is not None:
        return lacks
    given = asked.get("AmbientCapabilities")
    if given is None or asked.get("User", "") in {"", "root"}:
        return ()
    return tuple(name for name in _NEEDED if f"cap_{name}" not in given.lower())


def _written(configuration: Path) -> float:
    """Return when the configuration or a drop-in was last written."""
    directory = configuration.parent / f"{configuration.stem}.conf.d"
    times = [0.0]
    for path in (configuration, directory, *directory.glob("*.conf")):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
