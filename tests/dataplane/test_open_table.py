"""Tables that are changed one entry at a time: what a dictionary holds, they hold."""

import ctypes
import struct

from hypothesis import given
from hypothesis import strategies as st

from gred.dataplane.open_table import OpenTable

ENTRY = struct.Struct("=2I")


class Header(ctypes.Structure):
    _fields_ = (("mask", ctypes.c_uint32), ("more", ctypes.c_uint32))


class Entry(ctypes.Structure):
    _fields_ = (("value", ctypes.c_uint32), ("key", ctypes.c_uint32))


def entry(key: int, value: int = 0) -> bytes:
    return ENTRY.pack(value, key)


def crowded(one: bytes) -> int:
    """A hash that gives many keys the same place."""
    return int(ENTRY.unpack(one)[1]) // 4 * 3


def make(room: int = 0) -> OpenTable:
    return OpenTable(Header, Entry, key=lambda one: one[4:], hashed=crowded, room=room)


def look_up(table: OpenTable, key: int) -> int | None:
    """Look *key* up as C does: from its hash on, up to the first empty slot."""
    (mask,) = struct.unpack_from("=I", table.memory)
    slot = crowded(entry(key))
    for step in range(mask + 1):
        found = Entry.from_buffer(table.memory, 8 + (slot + step & mask) * 8)
        if not found.value:
            return None
        if found.key == key:
            return int(found.value)
    return None


changes = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=120)


@given(changes=changes, room=st.integers(0, 30))
def test_it_holds_what_a_dictionary_would(changes: list[tuple[int, int]], room: int) -> None:
    table, model = make(room), dict[int, int]()
    for key, value in changes:
        if value:
            table.put(entry(key, value))
            model[key] = value
        else:
            table.remove(entry(key))
            model.pop(key, None)
        assert len(table) == len(model)
    for key in range(41):
        assert look_up(table, key) == model.get(key)
        found = table.get(entry(key))
        assert (None if found is None else ENTRY.unpack(found)[0]) == model.get(key)


def test_a_table_that_has_room_stays_where_it_is_and_one_that_grows_keeps_its_header() -> None:
    table = make(room=100)
    before = table.memory
    Header.from_buffer(table.memory).more = 7
    for key in range(100):
        table.put(entry(key, 1))
    assert table.memory is before
    for key in range(100, 200):
        table.put(entry(key, 1))
    assert table.memory is not before
    assert Header.from_buffer(table.memory).more == 7
    assert all(look_up(table, key) == 1 for key in range(200))
