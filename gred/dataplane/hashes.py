"""The hashes by which the codec finds what Python has put into a table. Numbers in, a number out.

As native/bytes.h has them: both ends must come to the same slot.
"""

import struct
from collections.abc import Iterable

MIX_SEED = 0x9E3779B9


def mix(words: Iterable[int], value: int = MIX_SEED) -> int:
    """Return the 32-bit hash of 32-bit *words*, or go on with a hash; also used for flows."""
    for word in words:
        value = (value ^ word) * 0x85EBCA6B & 0xFFFFFFFF
        value ^= value >> 15
    return value


def label_flow(flow: int, value: int) -> int:
    """Return the IPv6 flow label, never 0, of the inner flow whose hash is *flow*. RFC 6438 §3."""
    return mix([flow], value) >> 12 or 1


def hash_entry(
    local: bytes, remote: bytes, key: int, family: int, kind: int, transport: int
) -> int:
    """Return the hash of a look-up entry. The addresses are fields of 16 bytes."""
    return mix((*struct.unpack("=8I", local + remote), key, family | kind << 8 | transport << 16))


def hash_network(seed: int, family: int, length: int, network: bytes) -> int:
    """Return the hash of a network. *network*: a field of 16 bytes."""
    return mix((family | length << 8, *struct.unpack("=4I", network)), seed)
