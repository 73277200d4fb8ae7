"""Packets -> a capture file: pcapng, draft-ietf-opsawg-pcapng.

    section      what a file begins with
    interface    where packets are from; its number is how many were described before it
    packet       one packet, its direction and a comment
    statistics   at the end: how many packets of an interface there are, and how many were lost

Blocks only, in the order in which they were asked for. Little-endian whatever the machine, so that
the same packets make the same file.
"""

import struct
from typing import Literal

# Link types, https://www.tcpdump.org/linktypes.html
ETHERNET = 1
RAW = 101  # begins with an IPv4 or IPv6 header

_SECTION, _INTERFACE, _STATISTICS, _PACKET = 0x0A0D0D0A, 1, 5, 6
_BYTE_ORDER = 0x1A2B3C4D
_UNKNOWN_LENGTH = -1
_END, _COMMENT = 0, 1
_USER_APPLICATION = 4
_IF_NAME, _IF_DESCRIPTION, _IF_RESOLUTION = 2, 3, 9
_NANOSECONDS = bytes([9])  # ten to the minus ninth
_FLAGS = 2
_INBOUND, _OUTBOUND = 1, 2
_RECEIVED, _DROPPED = 4, 5
_OPTION_MAX = 0xFFFF  # bytes

Direction = Literal["rx", "tx"]


def section(application: str) -> bytes:
    """Return a section header; *application*: who writes."""
    body = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, _UNKNOWN_LENGTH)
    return _block(_SECTION, body, _text(_USER_APPLICATION, application))


def interface(name: str, link_type: int, snap: int, description: str = "") -> bytes:
    """Return an interface description; *snap*: the most bytes of a packet that are kept."""
    options = _text(_IF_NAME, name) + _text(_IF_DESCRIPTION, description)
    options += _option(_IF_RESOLUTION, _NANOSECONDS)
    return _block(_INTERFACE, struct.pack("<HHI", link_type, 0, snap), options)


def packet(
    interface: int,
    time: int,
    data: bytes,
    length: int,
    direction: Direction,
    comment: str = "",
) -> bytes:
    """Return a packet of *length* bytes, of which *data* are kept.

    *interface*: its number. *time*: nanoseconds since the epoch.
    """
    stamp = struct.pack("<II", time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF)
    head = struct.pack("<I", interface) + stamp + struct.pack("<II", len(data), length)
    flags = struct.pack("<I", _INBOUND if direction == "rx" else _OUTBOUND)
    return _block(_PACKET, head + _padded(data), _option(_FLAGS, flags) + _text(_COMMENT, comment))


def statistics(interface: int, time: int, received: int, dropped: int, comment: str = "") -> bytes:
    """Return how many packets came to *interface*, and how many of them are not in the file."""
    stamp = struct.pack("<II", time >> 32 & 0xFFFFFFFF, time & 0xFFFFFFFF)
    options = _option(_RECEIVED, struct.pack("<Q", received))
    options += _option(_DROPPED, struct.pack("<Q", dropped)) + _text(_COMMENT, comment)
    return _block(_STATISTICS, struct.pack("<I", interface) + stamp, options)


def _block(kind: int, body: bytes, options: bytes) -> bytes:
    if options:
        options += struct.pack("<HH", _END, 0)
    length = struct.pack("<I", 12 + len(body) + len(options))
    return struct.pack("<I", kind) + length + body + options + length


def _text(code: int, text: str) -> bytes:
    """Return an option of UTF-8, cut to what fits; nothing for an empty text."""
    data = text.encode(errors="replace")[:_OPTION_MAX]
    return _option(code, data.decode(errors="ignore").encode()) if data else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
