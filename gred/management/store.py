"""The service manager's descriptor store (systemd.service(5), FileDescriptorStoreMax=).

    a start      LISTEN_FDS: what was kept comes back, each under its name
    meanwhile    FDSTORE=1: it keeps a copy;  FDSTOREREMOVE=1: no longer
    a stop       it keeps its copies until the next start, or closes them: it is stopped for good

The manager does not say whether it took a descriptor: nothing here may rely on it. It is used where
FDSTORE= in the environment says how many it keeps. systemd says so itself from 254 on; the unit
says it for those before.
"""

import asyncio
import contextlib
import os
from collections.abc import MutableMapping
from pathlib import Path

from gred.management.notify import Notifier

FIRST = 3  # SD_LISTEN_FDS_START, sd-daemon.h
_LONGEST = 255  # FDNAME=, sd_notify(3)
_MEMORY = "state"
_ASK_SECONDS = 2.0
_CGROUP = Path("/proc/self/cgroup")


class DescriptorStore:
    """What the manager keeps for this process, by name. Used by one caller at a time.

    *environ*: where LISTEN_FDS and the like are looked up, and taken out, so that no child takes
    them for its own.
    """

    def __init__(self, environ: MutableMapping[str, str], notifier: Notifier) -> None:
        self._notifier = notifier
        self._room = _number(environ.get("FDSTORE", ""))
        self._came = _listened(environ)
        self._held = set(self._came)
        self._memory: int | None = None

    @classmethod
    def of(cls, environ: MutableMapping[str, str], notifier: Notifier) -> "DescriptorStore | None":
        """Return the store that *environ* tells of; None: there is none."""
        if _number(environ.get("FDSTORE", "")) == 0 or not environ.get("NOTIFY_SOCKET"):
            return None
        return cls(environ, notifier)

    def take(self, name: str, /) -> int | None:
        """See control.store.Store."""
        return self._came.pop(name, None)

    def keep(self, name: str, descriptor: int, /) -> bool:
        """See control.store.Store."""
        if len(self._held) >= self._room or not _is_storable(name):
            return False
        if name in self._held:
            self.remove(name)
        if not self._notifier.store(name, descriptor):
            return False
        self._held.add(name)
        return True

    def holds(self, name: str, /) -> bool:
        """See control.store.Store."""
        return name in self._held

    def remove(self, name: str, /) -> None:
        """See control.store.Store."""
        if name in self._held:
            self._held.discard(name)
            self._notifier.unstore(name)

    def recall(self) -> bytes:
        """See control.store.Store."""
        self._memory = self.take(_MEMORY) if self._memory is None else self._memory
        if self._memory is None:
            return b""
        try:
            return os.pread(self._memory, os.fstat(self._memory).st_size, 0)
        except OSError:
            return b""

    def remember(self, data: bytes, /) -> None:
        """See control.store.Store. Without room it is forgotten."""
        try:
            if self._memory is None:
                self._memory = os.memfd_create("gred", os.MFD_CLOEXEC)
                self.keep(_MEMORY, self._memory)
            os.pwrite(self._memory, data, 0)
            os.ftruncate(self._memory, len(data))
        except OSError:
            return

    def settle(self) -> None:
        """See control.store.Store."""
        self._notifier.barrier()

    def drop_rest(self) -> None:
        """See control.store.Store."""
        while self._came:
            name, descriptor = self._came.popitem()
            self.remove(name)
            os.close(descriptor)

    async def ends_for_good(self) -> bool:
        """See control.store.Store. False also where that is not known.

        systemd knows: a restart is a job "restart" until the process has ended, then "start".
        """
        unit = _unit()
        command = "systemctl", "list-jobs", "--no-legend", "--no-pager", "--plain", unit
        if not unit:
            return False
        try:
            asked = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError:
            return False
        try:
            told, _nothing = await asyncio.wait_for(asked.communicate(), _ASK_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                asked.kill()
            await asked.wait()
            return False
        return [unit, "stop"] in [line.split()[1:3] for line in told.decode().splitlines()]


def _listened(environ: MutableMapping[str, str]) -> dict[str, int]:
    """Take what was handed to this process: name -> descriptor. Of two of a name the last."""
    handed, names = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_FDNAMES", "")
    if environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return {}
    found: dict[str, int] = {}
    count = _number(handed)
    named = names.split(":") if names else []
    for number in range(count):
        descriptor = FIRST + number
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue
        before = found.pop(named[number] if number < len(named) else f"unknown-{number}", None)
        if before is not None:
            os.close(before)
        found[named[number] if number < len(named) else f"unknown-{number}"] = descriptor
    return found


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0


def _is_storable(name: str) -> bool:
    return name.isascii() and name.isprintable() and ":" not in name and len(name) <= _LONGEST


def _unit() -> str:
    """Return the name of the service that this process is; empty: of none."""
    try:
        groups = _CGROUP.read_text().splitlines()
    except OSError:
        return ""
    for group in groups:
        number, kind, path = group.split(":", 2)
        if (number == "0" or kind == "name=systemd") and path.endswith(".service"):
            return path.rpartition("/")[2]
    return ""
