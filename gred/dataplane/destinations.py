"""The destinations of a tunnel with many remotes: rows that the I/O reads, one for each remote.

A row keeps its number as long as somebody uses it. A group is a row that stands for those behind
it, so that one packet goes to each. Nothing here knows what is behind a remote.
"""

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from gred.dataplane.batch import destination_table
from gred.dataplane.layout import Destination

if TYPE_CHECKING:
    import mmap

_SIZE = ctypes.sizeof(Destination)


class Destinations:
    """Rows for remotes. *template*: all that they have in common.

    *watch* is called with each remote (packed) that comes, and True, or goes, and False.
    """

    def __init__(
        self,
        template: Destination,
        watch: Callable[[bytes, bool], None] = lambda _remote, _comes: None,
    ) -> None:
        self.memory: mmap.mmap = destination_table(1)
        """The rows. Another piece of memory after it has grown."""
        self._room = 1
        self._template = template
        self._watch = watch
        self._remotes: list[bytes] = []  # by row
        self._groups: dict[int, int] = {}  # row -> how many it stands for
        self._rows: dict[bytes, int] = {}
        self._copies: dict[bytes, list[int]] = {}  # remote -> its rows behind groups
        self._users: dict[bytes, int] = {}
        self._free: list[int] = []
        self._paths: dict[bytes, tuple[int, bool]] = {}  # remote -> path_mtu, fragmentable

    def limit(self, remote: bytes, path_mtu: int | None, *, fragmentable: bool) -> None:
        """Let packets to *remote* obey its path; *path_mtu* None: as to all others.

        Remembered also while nobody uses the remote; whoever calls bounds how many.
        """
        if path_mtu is None:
            self._paths.pop(remote, None)
        else:
            self._paths[remote] = path_mtu, fragmentable
        for row in (self._rows.get(remote), *self._copies.get(remote, ())):
            if row is not None:
                self._write(row)

    def keep_paths(self, before: "Destinations") -> None:
        """Let packets obey all that *before* was told of paths."""
        for remote, (path_mtu, fragmentable) in before._paths.items():  # noqa: SLF001 - its own kind
            self.limit(remote, path_mtu, fragmentable=fragmentable)

    def remotes(self) -> list[bytes]:
        """Return all remotes that have a row (packed)."""
        return list(dict.fromkeys((*self._rows, *self._copies)))

    def longest_sent(self, remote: bytes, interval: int) -> int:
        """Return the longest that was sent to *remote* lately: see ``longest_sent`` below."""
        rows = (self._rows.get(remote), *self._copies.get(remote, ()))
        return max(
            (longest_sent(self.memory, row, interval) for row in rows if row is not None), default=0
        )

    def row(self, remote: bytes) -> int | None:
        """Return a row for *remote* (packed) alone, where somebody uses one."""
        return self._rows.get(remote, next(iter(self._copies.get(remote, ())), None))

    def take(self, remote: bytes) -> int:
        """Return the row for *remote* (packed); to be followed by ``leave``."""
        row = self._rows.get(remote)
        if row is None:
            if self._free:
                row = self._free.pop()
                self._remotes[row] = remote
            else:
                row = self._append(remote)
            self._write(row)
            self._rows[remote] = row
            if remote not in self._copies:
                self._watch(remote, True)
        self._users[remote] = self._users.get(remote, 0) + 1
        return row

    def leave(self, remote: bytes) -> None:
        """Take one ``take`` back."""
        self._users[remote] -= 1
        if not self._users[remote]:
            del self._users[remote]
            self._free.append(self._rows.pop(remote))
            if remote not in self._copies:
                self._watch(remote, False)

    def take_group(self, remotes: list[bytes]) -> int:
        """Return a row that stands for *remotes*. It stays for good."""
        group = self._append(remotes[0])
        self._groups[group] = len(remotes)
        self._write(group)
        for remote in remotes:
            row = self._append(remote)
            if remote not in self._rows and remote not in self._copies:
                self._watch(remote, True)
            self._copies.setdefault(remote, []).append(row)
            self._write(row)
        return group

    def move(self, template: Destination) -> None:
        """Change what all rows have in common."""
        self._template = template
        for row in range(len(self._remotes)):
            self._write(row)

    def _append(self, remote: bytes) -> int:
        row = len(self._remotes)
        if row == self._room:
            before, self._room = self.memory, 2 * self._room
            self.memory = destination_table(self._room)
            self.memory[: row * _SIZE] = before[: row * _SIZE]
        self._remotes.append(remote)
        return row

    def _write(self, row: int) -> None:
        place = Destination.from_buffer_copy(self._template)
        place.remote[:] = self._remotes[row].ljust(16, b"\0")
        before = Destination.from_buffer(self.memory, row * _SIZE)
        if bytes(before.remote) == bytes(place.remote):
            place.sent_interval = before.sent_interval
            place.sent_longest, place.sent_before = before.sent_longest, before.sent_before
        place.copies = self._groups.get(row, 0)
        if not place.copies:
            path_mtu, fragmentable = self._paths.get(self._remotes[row], (0, False))
            place.path_mtu, place.fragmentable = path_mtu, fragmentable
        self.memory[row * _SIZE : (row + 1) * _SIZE] = bytes(place)


def longest_sent(memory: "mmap.mmap", row: int, interval: int) -> int:
    """Return the longest datagram sent to destination *row* of *memory* lately; 0: none.

    Of those that routers do not fragment, in bytes without the delivery header. *interval*: now, in
    SENT_INTERVALs of the monotonic clock.
    """
    place = Destination.from_buffer_copy(memory, row * _SIZE)
    passed = (interval - place.sent_interval) & 0xFFFFFFFF
    if passed > 1:
        return 0
    return int(place.sent_longest if passed else max(place.sent_longest, place.sent_before))
