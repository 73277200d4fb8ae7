"""Capabilities of processes, as /proc tells them. Nothing here takes or drops one."""

from collections.abc import Iterable
from pathlib import Path

_NUMBERS = {"net_admin": 12, "net_raw": 13, "sys_admin": 21}  # linux/capability.h


def of_process(process: str, wanted: Iterable[str]) -> tuple[str, ...] | None:
    """Return those of *wanted* that a process ("self" or a number) lacks; None: cannot be seen."""
    try:
        text = Path("/proc", process, "status").read_text(errors="replace")
        (effective,) = [line for line in text.splitlines() if line.startswith("CapEff:")]
        has = int(effective.split()[1], 16)
    except (OSError, ValueError, IndexError):
        return None
    return tuple(name for name in wanted if not has >> _NUMBERS[name] & 1)


def in_initial_namespace() -> bool:
    """Tell whether this process is in the initial user namespace, or nobody can tell."""
    try:
        words = Path("/proc/self/uid_map").read_text().split()
    except OSError:
        return True
    return words == ["0", "0", "4294967295"]
