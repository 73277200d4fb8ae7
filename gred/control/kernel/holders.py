"""Which processes hold sockets, found by the inodes that /proc tells. Blocks: for threads only.

Costs as much as there are descriptors on the host. Nothing here decides whose they ought to be.
"""

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PROCESSES = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process: its number and its name, as ps(1) shows it."""

    pid: int
    name: str


def holders(inodes: Collection[int], processes: Path = _PROCESSES) -> dict[int, Process]:
    """Return who holds each of *inodes*; those of processes that may not be looked at are left out.

    Others' descriptors are for root alone (CAP_SYS_PTRACE), and hidepid= hides others altogether.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, Process] = {}
    with contextlib.suppress(OSError):
        # The first process last: it only keeps for others what they go on with.
        for directory in sorted(processes.iterdir(), key=lambda one: one.name == "1"):
            if len(found) == len(wanted):
                break
            if directory.name.isdecimal():
                with contextlib.suppress(OSError):
                    _look_into(directory, wanted, found)
    return found


def _look_into(directory: Path, wanted: dict[str, int], found: dict[int, Process]) -> None:
    for descriptor in (directory / "fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue  # closed meanwhile
        if (inode := wanted.get(target)) is not None and inode not in found:
            name = (directory / "comm").read_text(errors="replace").strip()
            found[inode] = Process(int(directory.name), name)
