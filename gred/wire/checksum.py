"""The Internet checksum (RFC 1071), its incremental update (RFC 1624) and pseudo-headers.

Pure: bytes in, numbers out. No packet is parsed here.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def ones_complement_sum(data: "ReadableBuffer", start: int = 0) -> int:
    """Return the folded 16-bit ones' complement sum of *data* and *start*; not complemented.

    An odd last byte is padded with a zero byte, RFC 1071 §4.1. *start* is any sum of earlier parts,
    folded or not; those must have had an even length. 0xFFFF is right data with its checksum in it.
    """
    view = memoryview(data).cast("B")
    total = int.from_bytes(view, "big") << 8 * (len(view) % 2)
    # 2**16 is 1 modulo 0xFFFF: the remainder of the whole number is the end-around-carry sum,
    # except that a sum which is not zero never folds to zero.
    total += start
    return total % 0xFFFF or (0xFFFF if total else 0)


def checksum(data: "ReadableBuffer") -> int:
    """Return the Internet checksum of *data*: 0 for data that contains a right one."""
    return ~ones_complement_sum(data) & 0xFFFF


def update(old_checksum: int, old_word: int, new_word: int) -> int:
    """Return the checksum after one 16-bit word changed: HC' = ~(~HC + ~m + m'), RFC 1624 §3."""
    total = (~old_checksum & 0xFFFF) + (~old_word & 0xFFFF) + new_word
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Return the folded, uncomplemented sum of a pseudo-header.

    RFC 9293 §3.1 and RFC 768 for addresses of 4 bytes, RFC 8200 §8.1 for 16; the two forms give the
    same sum. *length* is that of the upper-layer header and its payload, in bytes.
    """
    return ones_complement_sum(source + destination, protocol + length)
