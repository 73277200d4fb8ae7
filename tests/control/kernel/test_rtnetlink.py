"""How the kernel's acknowledgements are read."""

import errno
import struct

from gred.control.kernel.rtnetlink import Answer, _read_error

REQUEST_HEADER = struct.pack("=IHHII", 32, 20, 5, 1, 0)
CAPPED, TLVS = 0x100, 0x200


def message(code: int, quoted: bytes = REQUEST_HEADER, attributes: bytes = b"") -> bytes:
    return bytes(16) + struct.pack("=i", -code) + quoted + attributes


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def test_zero_is_an_acknowledgement() -> None:
    assert _read_error(CAPPED, message(0)) == Answer()


def test_an_error_without_words_has_its_number() -> None:
    answer = _read_error(CAPPED, message(errno.EEXIST))
    assert answer == Answer(error=errno.EEXIST)
    assert answer.finding == "File exists"


def test_the_kernels_words_come_first() -> None:
    words = attribute(2, bytes(4)) + attribute(1, b"Address already assigned.\0")
    answer = _read_error(CAPPED | TLVS, message(errno.EEXIST, attributes=words))
    assert answer.finding == "Address already assigned (File exists)"


def test_words_after_a_whole_quoted_request_are_found() -> None:
    """A kernel without NETLINK_CAP_ACK repeats the request."""
    words = attribute(1, b"no\0")
    answer = _read_error(TLVS, message(errno.EPERM, REQUEST_HEADER + bytes(16), words))
    assert answer.detail == "no"


def test_truncated_words_are_left_out() -> None:
    cut = struct.pack("=HH", 40, 1) + b"no"
    assert _read_error(CAPPED | TLVS, message(errno.EPERM, attributes=cut)).detail == ""
    assert _read_error(TLVS, message(errno.EPERM, REQUEST_HEADER[:4])).detail == ""
