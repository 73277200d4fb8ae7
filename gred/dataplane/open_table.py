"""Hash tables in memory that the codec reads: changed one entry at a time.

Open addressing with linear probing, at most half full. An entry that goes leaves no mark: those
behind it that it had displaced move up. What a change costs does not grow with the table, but for
the doubling of one that is full; who knows how many entries there may be, says so. Nothing here
knows what an entry means.
"""

import ctypes
import mmap
import struct
from collections.abc import Callable, Iterator

_WORD = struct.Struct("=I")


class OpenTable:
    """A header that begins with the mask (number of slots - 1), then the slots.

    *header* and *entry*: their structures; an entry whose first 32 bits are zero is an empty slot.
    *key* returns what tells an entry from all others, *hashed* the hash that C looks it up by.
    *room*: how many entries are expected.
    """

    def __init__(
        self,
        header: type[ctypes.Structure],
        entry: type[ctypes.Structure],
        *,
        key: Callable[[bytes], bytes],
        hashed: Callable[[bytes], int],
        room: int = 0,
    ) -> None:
        self._head, self._size = ctypes.sizeof(header), ctypes.sizeof(entry)
        self._key, self._hashed = key, hashed
        self._count = 0
        self.memory: mmap.mmap
        """The table. Another piece of memory after it has grown."""
        self._take(room)

    def __len__(self) -> int:
        return self._count

    def get(self, entry: bytes) -> bytes | None:
        """Return the entry with the key of *entry*."""
        found = self._read(self._slot(entry))
        return found if _is_used(found) else None

    def put(self, entry: bytes) -> None:
        """Set *entry*, in the place of one with the same key."""
        slot = self._slot(entry)
        if not _is_used(self._read(slot)):
            if 2 * (self._count + 1) > self._mask + 1:
                self._grow()
                slot = self._slot(entry)
            self._count += 1
        self._write(slot, entry)

    def remove(self, entry: bytes) -> None:
        """Remove the entry with the key of *entry*. Harmless when there is none."""
        hole = self._slot(entry)
        if not _is_used(self._read(hole)):
            return
        self._count -= 1
        slot = hole
        while True:
            slot = slot + 1 & self._mask
            other = self._read(slot)
            if not _is_used(other):
                break
            # It may move up unless the hole lies before its home.
            if slot - self._hashed(other) & self._mask >= slot - hole & self._mask:
                self._write(hole, other)
                hole = slot
        self._write(hole, bytes(self._size))

    def _take(self, room: int) -> None:
        slots = 1 << max(2, (2 * room).bit_length())
        self._mask = slots - 1
        self.memory = mmap.mmap(-1, self._head + slots * self._size)
        _WORD.pack_into(self.memory, 0, self._mask)

    def _grow(self) -> None:
        before, entries = self.memory, list(self._entries())
        self._take(2 * len(entries))
        self.memory[_WORD.size : self._head] = before[_WORD.size : self._head]
        for entry in entries:
            self._write(self._slot(entry), entry)

    def _entries(self) -> Iterator[bytes]:
        for slot in range(self._mask + 1):
            entry = self._read(slot)
            if _is_used(entry):
                yield entry

    def _slot(self, entry: bytes) -> int:
        """Return the slot of the entry with this key, or the empty one where it belongs."""
        key, slot = self._key(entry), self._hashed(entry) & self._mask
        while True:
            found = self._read(slot)
            if not _is_used(found) or self._key(found) == key:
                return slot
            slot = slot + 1 & self._mask

    def _read(self, slot: int) -> bytes:
        at = self._head + slot * self._size
        return self.memory[at : at + self._size]

    def _write(self, slot: int, entry: bytes) -> None:
        at = self._head + slot * self._size
        self.memory[at : at + self._size] = entry


def _is_used(entry: bytes) -> bool:
    return entry[: _WORD.size] != bytes(_WORD.size)
