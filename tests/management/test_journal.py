"""The native protocol of systemd-journald."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gred.management import journal


def decode(data: bytes) -> dict[str, str]:
    """The reader's half of the protocol, written from its description."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if separator:
            data = rest
        else:
            length = int.from_bytes(rest[:8], "little")
            value, end = rest[8 : 8 + length], rest[8 + length : 9 + length]
            assert end == b"\n"
            data = rest[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


def test_a_plain_value_is_one_line() -> None:
    assert journal.encode({"MESSAGE": "up", "PRIORITY": "6"}) == b"MESSAGE=up\nPRIORITY=6\n"


def test_a_value_with_a_newline_follows_its_length() -> None:
    assert journal.encode({"MESSAGE": "a\nb"}) == b"MESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n"


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text()))
def test_any_text_arrives_as_it_was(fields: dict[str, str]) -> None:
    assert decode(journal.encode(fields)) == fields


def test_text_that_is_not_unicode_is_escaped() -> None:
    assert journal.encode({"MESSAGE": "/etc/\udcff"}) == b"MESSAGE=/etc/\\udcff\n"


@pytest.mark.parametrize(
    ("key", "field"), [("tunnel", "GRED_TUNNEL"), ("rx_no_tunnel", "GRED_RX_NO_TUNNEL")]
)
def test_a_log_key_becomes_a_journal_field(key: str, field: str) -> None:
    assert journal.field_name(key) == field


def test_the_stream_of_the_journal_is_recognised(tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        assert journal.listens_on(stream.fileno(), environ)


@pytest.mark.parametrize("stream", ["", "1:1", "8:x", "8"])
def test_another_stream_is_not_the_journals(stream: str, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w") as file:
        assert not journal.listens_on(file.fileno(), {"JOURNAL_STREAM": stream})
    assert not journal.listens_on(-1, {"JOURNAL_STREAM": "1:1"})


def test_an_entry_is_one_datagram(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(path)
        line.settimeout(5)
        sender = journal.Journal(path)
        sender.send({"MESSAGE": "two\nlines", "PRIORITY": "4"})
        sender.close()
        assert decode(line.recv(1000)) == {"MESSAGE": "two\nlines", "PRIORITY": "4"}


def test_an_absent_journal_is_an_os_error(tmp_path: Path) -> None:
    sender = journal.Journal(str(tmp_path / "nobody"))
    with pytest.raises(OSError, match="No such file"):
        sender.send({"MESSAGE": "x"})
    sender.close()
