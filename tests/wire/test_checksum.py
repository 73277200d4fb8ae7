"""The Internet checksum: the RFC's own example, and laws it must keep."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.wire.checksum import checksum, ones_complement_sum, pseudo_header_sum, update


def sum_by_words(data: bytes) -> int:
    """RFC 1071 §4.1, word by word."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_the_example_of_rfc_1071_comes_out() -> None:
    """RFC 1071 §3."""
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0x220D


@given(st.binary(max_size=300))
def test_the_sum_is_that_of_the_words(data: bytes) -> None:
    assert ones_complement_sum(data) == sum_by_words(data)


@given(st.binary(max_size=100).filter(lambda data: len(data) % 2 == 0), st.binary(max_size=100))
def test_sums_of_parts_add_up(head: bytes, tail: bytes) -> None:
    """RFC 1071 §2: the sum is associative."""
    assert ones_complement_sum(tail, ones_complement_sum(head)) == ones_complement_sum(head + tail)


@given(st.binary(max_size=100).filter(lambda data: len(data) % 2 == 0))
def test_data_that_contains_its_checksum_sums_to_zero(data: bytes) -> None:
    stored = struct.pack("!H", checksum(data))
    assert checksum(data + stored) == 0


@given(st.binary(min_size=20, max_size=20), st.integers(0, 9), st.integers(0, 0xFFFF))
def test_the_incremental_update_agrees_with_a_new_sum(data: bytes, index: int, word: int) -> None:
    """RFC 1624 §3. A checksum of data that is not all zero is never 0xFFFF; nor is the update's."""
    changed = data[: 2 * index] + struct.pack("!H", word) + data[2 * index + 2 :]
    (old_word,) = struct.unpack_from("!H", data, 2 * index)
    rest_is_zero = not any(data[: 2 * index] + data[2 * index + 2 :])
    if not rest_is_zero:
        assert update(checksum(data), old_word, word) == checksum(changed)


@pytest.mark.parametrize("width", [4, 16])
def test_the_pseudo_header_is_addresses_protocol_and_length(width: int) -> None:
    """RFC 9293 §3.1, RFC 8200 §8.1."""
    source, destination = bytes(range(width)), bytes(range(100, 100 + width))
    if width == 4:
        header = source + destination + struct.pack("!BBH", 0, 6, 1234)
    else:
        header = source + destination + struct.pack("!IHBB", 1234, 0, 0, 6)
    assert pseudo_header_sum(source, destination, 6, 1234) == sum_by_words(header)
