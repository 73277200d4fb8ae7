"""Exchanges rtnetlink messages with the kernel, many in one system call. Blocks: for threads only.

pyroute2 builds and reads the messages; this file carries them. It knows sequence numbers,
acknowledgements and the kernel's own words about a refusal, and nothing about tunnels.

Why not pyroute2's own socket: it waits for the answer to each request before it sends the next,
on an asyncio loop of its own. A thousand tunnels are some five thousand requests; sent a chunk at
a time they cost a fifth.
"""

import errno
import itertools
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

from gred.control.kernel.linux import (
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    SOL_NETLINK,
)
from gred.control.kernel.namespaces import inside

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type
_SEQUENCE_OFFSET = 8


_CHUNK = 64  # requests under way at once: their answers fit the default receive buffer
_ANSWER_SIZE = 1 << 16
_DUMPS_AT_MOST = 4
_PATIENCE = 10.0  # seconds; the kernel answers at once or never


@dataclass(frozen=True, slots=True)
class Answer:
    """The kernel's answer: *error* is 0 or an errno, *detail* its words, *message* what it sent."""

    error: int = 0
    detail: str = ""
    message: bytes = b""

    @property
    def finding(self) -> str:
        """What the kernel says is wrong, in its own words where it has some."""
        meaning = os.strerror(self.error)
        return f"{self.detail.rstrip('.')} ({meaning})" if self.detail else meaning


def encode(message: Any, message_type: int, flags: int) -> bytes:
    """Return the bytes of a pyroute2 *message* as a request."""
    message["header"]["type"] = message_type
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.encode()
    return bytes(message.data)


class Rtnetlink:
    """One conversation. Short-lived: opening costs some 20 microseconds, so none is kept.

    With the kernel's side in *namespace*, where opening costs a thread; with *protocol*, another
    part of the kernel. *strict*: what is filled in of a request to dump selects, where the kernel
    can. Raises OSError.
    """

    def __init__(
        self,
        namespace: str | None = None,
        *,
        protocol: int = socket.NETLINK_ROUTE,
        strict: bool = False,
    ) -> None:
        self._sequence = itertools.count(1)
        self._socket = inside(namespace, partial(_open, protocol))
        self._socket.settimeout(_PATIENCE)
        self._socket.bind((0, 0))
        options = (NETLINK_CAP_ACK, NETLINK_EXT_ACK) + (NETLINK_GET_STRICT_CHK,) * strict
        for option in options:
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError as error:
                # Kernels and sandboxes without it: errors then have no words, only a number.
                if error.errno not in {errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL}:
                    raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def exchange(self, requests: Sequence[bytes]) -> list[Answer]:
        """Send all *requests*; return one answer for each, in their order.

        A request is either acknowledged (NLM_F_ACK) or answered by exactly one message.
        Raises OSError when the conversation itself fails.
        """
        answers: list[Answer] = []
        for start in range(0, len(requests), _CHUNK):
            answers += self._exchange_chunk(requests[start : start + _CHUNK])
        return answers

    def dump(self, request: bytes) -> list[bytes]:
        """Send one NLM_F_DUMP *request*; return the messages of its answer. Raises OSError.

        What changes while the kernel lists it may be left out: then it is asked again, in bounds.
        """
        for _ in range(_DUMPS_AT_MOST - 1):
            messages, is_whole = self._dump(request)
            if is_whole:
                return messages
        return self._dump(request)[0]

    def dump_some(self, request: bytes, wanted: re.Pattern[bytes]) -> list[bytes]:
        """Send one NLM_F_DUMP *request*; return messages of its answer, those *wanted* among them.

        The list may be a million long: what lies in a datagram with nothing wanted is not looked
        at. What changes meanwhile may be left out. Raises OSError.
        """
        (number,) = self._send([request])
        # Type, flags and sequence number of the message that ends the answer.
        ends = b"|".join(struct.pack("=H", one) for one in (NLMSG_ERROR, NLMSG_DONE))
        end = re.compile(b"(?:%b)..%b" % (ends, re.escape(struct.pack("=I", number))), re.DOTALL)
        messages: list[bytes] = []
        while True:
            data = self._socket.recv(_ANSWER_SIZE)
            if not (wanted.search(data) or end.search(data)):
                continue
            for message_type, flags, sequence, message in _split(data):
                if sequence != number:
                    continue
                if message_type in {NLMSG_DONE, NLMSG_ERROR}:
                    answer = _read_error(flags, message)
                    if answer.error:
                        raise OSError(answer.error, answer.finding)
                    return messages
                messages.append(message)

    def _dump(self, request: bytes) -> tuple[list[bytes], bool]:
        number = self._send([request])[0]
        messages: list[bytes] = []
        is_whole = True
        while True:
            for message_type, flags, sequence, message in self._receive():
                if sequence != number:
                    continue
                is_whole &= not flags & NLM_F_DUMP_INTR
                if message_type in {NLMSG_DONE, NLMSG_ERROR}:
                    answer = _read_error(flags, message)
                    if answer.error:
                        raise OSError(answer.error, answer.finding)
                    return messages, is_whole
                messages.append(message)

    def _exchange_chunk(self, requests: Sequence[bytes]) -> list[Answer]:
        numbers = self._send(requests)
        answers: dict[int, Answer] = {}
        expected = set(numbers)
        while expected:
            for message_type, flags, sequence, message in self._receive():
                if sequence not in expected:
                    continue
                expected.discard(sequence)
                answers[sequence] = (
                    _read_error(flags, message)
                    if message_type == NLMSG_ERROR
                    else Answer(message=message)
                )
        return [answers[number] for number in numbers]

    def _send(self, requests: Sequence[bytes]) -> list[int]:
        numbers = list(itertools.islice(self._sequence, len(requests)))
        packed = bytearray()
        for number, request in zip(numbers, requests, strict=True):
            struct.pack_into("=I", packed, _append(packed, request) + _SEQUENCE_OFFSET, number)
        self._socket.sendall(packed)
        return numbers

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, sequence number and bytes of each message in one datagram."""
        yield from _split(self._socket.recv(_ANSWER_SIZE))


def _split(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while len(data) - offset >= _HEADER.size:
        length, message_type, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or length > len(data) - offset:
            break
        yield message_type, flags, sequence, data[offset : offset + length]
        offset += _aligned(length)


def _open(protocol: int) -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)


def _append(packed: bytearray, request: bytes) -> int:
    """Append *request*, padded, and return where it starts."""
    start = len(packed)
    packed += request.ljust(_aligned(len(request)), b"\0")
    return start


def _aligned(length: int) -> int:
    return (length + 3) & ~3


def _read_error(flags: int, message: bytes) -> Answer:
    """Read NLMSG_ERROR: a negative errno, the request or its header, then attributes."""
    body = message[_HEADER.size :]
    if len(body) < 4:
        return Answer()
    (code,) = struct.unpack_from("=i", body)
    if not code:
        return Answer()
    if not flags & NLM_F_ACK_TLVS or len(body) < 4 + _HEADER.size:
        return Answer(error=-code)
    quoted = _HEADER.size if flags & NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
    offset = 4 + _aligned(quoted)
    while len(body) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size or length > len(body) - offset:
            break
        if kind == NLMSGERR_ATTR_MSG:
            text = body[offset + _ATTRIBUTE.size : offset + length]
            return Answer(error=-code, detail=text.rstrip(b"\0").decode(errors="replace"))
        offset += _aligned(length)
    return Answer(error=-code)
