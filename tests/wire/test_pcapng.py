"""Capture files: what a reader of our own makes of them, and what tshark does."""

import json
import struct
import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gred.wire import pcapng
from tests import require

Block = tuple[int, bytes]
NOW = 1_700_000_000_123_456_789


def blocks(data: bytes) -> list[Block]:
    """Return kind and body of each block; both of its lengths agree, and it ends on a word."""
    found, place = [], 0
    while place < len(data):
        kind, length = struct.unpack_from("<II", data, place)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, place + length - 4) == (length,)
        found.append((kind, data[place + 8 : place + length - 4]))
        place += length
    return found


def options(data: bytes) -> dict[int, bytes]:
    found, place = {}, 0
    while place < len(data):
        code, length = struct.unpack_from("<HH", data, place)
        if not code:
            assert (length, place + 4) == (0, len(data))
            break
        found[code] = data[place + 4 : place + 4 + length]
        place += 4 + -(-length // 4) * 4
    return found


@given(
    data=st.binary(max_size=300),
    more=st.integers(0, 70000),
    number=st.integers(0, 2**32 - 1),
    time=st.integers(0, 2**64 - 1),
    direction=st.sampled_from(["rx", "tx"]),
    comment=st.text(max_size=50),
)
def test_a_packet_is_read_as_it_was_written(
    data: bytes, more: int, number: int, time: int, direction: pcapng.Direction, comment: str
) -> None:
    written = pcapng.packet(number, time, data, len(data) + more, direction, comment)
    ((kind, body),) = blocks(written)
    interface, high, low, kept, length = struct.unpack_from("<5I", body)
    assert (kind, interface, high << 32 | low) == (6, number, time)
    assert body[20 : 20 + kept] == data
    assert length == len(data) + more
    told = options(body[20 + -(-kept // 4) * 4 :])
    assert told[2] == struct.pack("<I", 1 if direction == "rx" else 2)
    assert told.get(1, b"").decode() == comment.encode(errors="replace").decode()


@given(name=st.text(max_size=40), about=st.text(max_size=40), snap=st.integers(0, 2**32 - 1))
def test_an_interface_has_its_name_and_counts_nanoseconds(name: str, about: str, snap: int) -> None:
    ((kind, body),) = blocks(pcapng.interface(name, pcapng.RAW, snap, about))
    assert kind == 1
    assert struct.unpack_from("<HHI", body) == (101, 0, snap)
    told = options(body[8:])
    assert told[9] == b"\x09"
    for code, text in ((2, name), (3, about)):
        assert told.get(code, b"") == text.encode(errors="replace")


def test_a_text_that_is_too_long_is_cut_between_characters() -> None:
    ((_kind, body),) = blocks(pcapng.interface("é" * 40000, pcapng.RAW, 0))
    assert options(body[8:])[2].decode() == "é" * 32767


def test_tshark_reads_it(tmp_path: Path) -> None:
    tshark = require.program("tshark", package="tshark")
    echo = bytes.fromhex("45000024000040004001b6d9c0000201c0000202")
    echo += bytes.fromhex("0800f7fe00000001") + bytes(8)
    file = tmp_path / "one.pcapng"
    file.write_bytes(
        pcapng.section("gred test")
        + pcapng.interface("t1", pcapng.RAW, 30, "outer packets of a tunnel")
        + pcapng.packet(0, NOW, echo[:30], len(echo), "tx")
        + pcapng.interface("t2", pcapng.ETHERNET, 65535)
        + pcapng.packet(1, NOW + 1, bytes(12) + b"\x08\x00" + echo, 50, "rx", "dropped: csum_err")
        + pcapng.statistics(0, NOW, 4, 3, "lost")
        + pcapng.statistics(1, NOW, 1, 0)
    )
    command = [tshark, "-r", str(file), "-T", "json"]
    for field in (
        "frame.interface_name",
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "frame.packet_flags_direction",
        "frame.comment",
        "ip.dst",
        "eth.type",
    ):
        command += ["-e", field]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cut short" not in done.stderr
    one, other = (packet["_source"]["layers"] for packet in json.loads(done.stdout))
    assert one["frame.interface_name"] == ["t1"]
    assert (one["frame.len"], one["frame.cap_len"]) == (["36"], ["30"])
    assert one["frame.packet_flags_direction"] in (["2"], ["0x00000002"])
    assert one["ip.dst"] == other["ip.dst"] == ["192.0.2.2"]
    assert "frame.comment" not in one
    assert other["frame.interface_name"] == ["t2"]
    assert other["frame.comment"] == ["dropped: csum_err"]
    assert other["eth.type"] == ["0x0800"]
