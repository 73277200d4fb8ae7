"""Addresses to listen at, and files for others."""

import pytest

from gred.config.listening import LISTEN, TEXTFILE
from gred.config.values import BadValueError


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1:10047",
        "0.0.0.0:1",
        "[::]:65535",
        "[2001:db8::1]:80",
        "unix:/run/a b.sock",
        "none",
    ],
)
def test_what_is_read_is_written_again(text: str) -> None:
    assert LISTEN.write(LISTEN.read(text)) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (":9100", "0.0.0.0:9100"),
        ("*:9100", "[::]:9100"),
        ("localhost:9100", "127.0.0.1:9100"),
        ("::1:9100", "brackets"),
        ("[192.0.2.1]:9100", "brackets"),
        ("2001:db8::1", "brackets"),
        ("192.0.2.1", ""),
        ("192.0.2.1:0", "1..65535"),
        ("192.0.2.1:65536", "1..65535"),
        ("192.0.2.1:http", "1..65535"),
        ("unix:metrics.sock", "absolute"),
        ("unix:/" + "x" * 107, "107 bytes"),
        ("/run/metrics.sock", ""),
        ("", ""),
    ],
)
def test_what_is_not_read_has_a_word_of_help(text: str, hint: str) -> None:
    with pytest.raises(BadValueError) as refused:
        LISTEN.read(text)
    assert hint in refused.value.findings[0].hint


def test_node_exporter_reads_certain_files_alone() -> None:
    assert TEXTFILE.read("/run/gred/gred.prom") == "/run/gred/gred.prom"
    assert TEXTFILE.read("none") is None
    for text in ("gred.prom", "/run/gred.txt", "/run/.prom", "auto"):
        with pytest.raises(BadValueError):
            TEXTFILE.read(text)
