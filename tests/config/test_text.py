"""Syntax: what a file may look like, and what is said when it does not."""

import os
from pathlib import Path

import pytest
from iniconfig import ParseError

from gred.config import text
from tests.config.files import load_text, problems, problems_of


def entries(content: str) -> list[tuple[str, str, int]]:
    sections, found = text.parse(content, "f")
    assert not found, found
    return [(e.name, e.value, e.location.line) for s in sections for e in s.entries]


def findings(content: str) -> list[str]:
    return [str(problem) for problem in text.parse(content, "f")[1]]


class TestGrammar:
    def test_entry_has_its_line(self) -> None:
        assert entries("# one\n\n[Tunnel a]\n; four\nTTL = 5 \n") == [("TTL", "5", 5)]

    def test_section_has_its_line(self) -> None:
        sections, _ = text.parse("\n\n[Daemon]\n", "f")
        assert [(s.name, str(s.location)) for s in sections] == [("Daemon", "f:3")]

    def test_comment_after_a_value_begins_with_a_blank_and_a_hash(self) -> None:
        assert entries("[Tunnel a]  # here\nTTL=5 # there\nTOS=4\t# and\n") == [
            ("TTL", "5", 2),
            ("TOS", "4", 3),
        ]

    def test_hash_without_a_blank_belongs_to_the_value(self) -> None:
        assert entries("[Tunnel a]\nTTL=5#6\n") == [("TTL", "5#6", 2)]

    def test_semicolon_after_a_value_belongs_to_the_value(self) -> None:
        assert entries("[Tunnel a]\nTTL=5 ; 6\n") == [("TTL", "5 ; 6", 2)]

    def test_value_may_be_a_comment_only(self) -> None:
        assert entries("[Tunnel a]\nTTL=# nothing\n") == [("TTL", "", 2)]

    def test_value_has_everything_after_the_first_equals_sign(self) -> None:
        assert entries("[Tunnel a]\nHook=a=b:c\n") == [("Hook", "a=b:c", 2)]

    def test_indented_entry_is_an_entry(self) -> None:
        content = "[Tunnel a]\n  Local=192.0.2.1\n  Remote=192.0.2.2\n"
        assert entries(content) == [("Local", "192.0.2.1", 2), ("Remote", "192.0.2.2", 3)]

    def test_indented_section_is_a_section(self) -> None:
        assert entries("[Tunnel a]\nTTL=5\n  [Tunnel b]\n  TTL=6\n") == [
            ("TTL", "5", 2),
            ("TTL", "6", 4),
        ]

    def test_other_indented_line_continues_the_value(self) -> None:
        content = "[Tunnel a]\nRoute=10.0.0.0/8,\n # why\n\n\tfd00::/8 # and\nTTL=5\n"
        assert entries(content) == [("Route", "10.0.0.0/8,\nfd00::/8", 2), ("TTL", "5", 6)]

    def test_value_may_begin_on_the_next_line(self) -> None:
        assert entries("[Tunnel a]\nRoute=\n  10.0.0.0/8\n") == [("Route", "10.0.0.0/8", 2)]

    def test_blanks_in_a_section_name_count_once(self) -> None:
        sections, _ = text.parse("[ Tunnel \t a ]\n", "f")
        assert [s.name for s in sections] == ["Tunnel a"]

    def test_last_line_needs_no_end(self) -> None:
        assert entries("[Tunnel a]\nTTL=5") == [("TTL", "5", 2)]

    def test_crlf_ends_a_line(self) -> None:
        assert entries("[Tunnel a]\r\nTTL=5\r\n\r\nTOS=6\r\n") == [("TTL", "5", 2), ("TOS", "6", 4)]

    def test_empty_text_has_no_sections(self) -> None:
        assert text.parse("", "f") == ([], [])


class TestRefusals:
    def test_line_without_equals_sign(self) -> None:
        assert findings("[Tunnel a]\nTTL\n") == ['f:2: expected "Option=value", got "TTL"']

    def test_colon_is_not_an_equals_sign(self) -> None:
        assert findings("[Tunnel a]\nRemote: fd00::1\nLocal: a=b\n") == [
            'f:2: expected "Option=value", got "Remote: fd00::1"',
            'f:3: expected "Option=value", got "Local: a=b"',
        ]

    def test_missing_option_name(self) -> None:
        assert findings("[Tunnel a]\n=5\n") == ['f:2: expected "Option=value", got "=5"']

    def test_continuation_of_a_refused_line_is_refused_with_it(self) -> None:
        content = "[Tunnel a]\nTTL=5\nRoute\n  10.0.0.0/8\n"
        sections, found = text.parse(content, "f")
        assert [str(p) for p in found] == ['f:3: expected "Option=value", got "Route"']
        assert [e.value for e in sections[0].entries] == ["5"]

    def test_continuation_of_a_section(self) -> None:
        assert findings("[Tunnel a]\n  10.0.0.0/8\n") == [
            'f:2: expected "Option=value", got "10.0.0.0/8"'
        ]

    def test_options_before_the_first_section_are_one_problem(self) -> None:
        assert findings("TTL=5\nTOS=6\n  7\n[Tunnel a]\n") == [
            'f:1: expected a section such as "[Tunnel NAME]" before the first option, got "TTL=5"'
        ]

    @pytest.mark.parametrize(
        "header", ["[Tunnel a", "[Tunnel a#b]", "[]", "[ ]", "[[Tunnel a]]", "[Tunnel a] TTL=5"]
    )
    def test_broken_section_keeps_its_options_from_the_section_above(self, header: str) -> None:
        sections, found = text.parse(f"[Tunnel x]\nTTL=5\n{header}\nTTL=6\n", "f")
        assert [str(p) for p in found] == [
            f'f:3: expected a section such as "[Tunnel NAME]", got "{header}"'
        ]
        assert [(s.name, len(s.entries)) for s in sections] == [("Tunnel x", 1)]

    def test_every_repeated_name_is_kept_apart(self) -> None:
        content = "[Daemon]\nA=1\nA=2\nA=3\n[Daemon]\nA=4\n"
        sections, found = text.parse(content, "f")
        assert not found
        assert [(s.name, s.repeats, [e.value for e in s.entries]) for s in sections] == [
            ("Daemon", False, ["1", "2", "3"]),
            ("Daemon", True, ["4"]),
        ]

    def test_repeated_option_keeps_its_continuation(self) -> None:
        assert entries("[Tunnel a]\nA=1\nA=2\n 3\n") == [("A", "1", 2), ("A", "2\n3", 3)]

    def test_what_a_later_iniconfig_may_object_to(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def stricter(path: str, *, data: str) -> None:
            raise ParseError(path, 1, "too strange")

        monkeypatch.setattr(text, "IniConfig", stricter)
        assert findings("[Tunnel a]\nTTL=5\n") == ["f:2: expected INI text: too strange"]

    def test_repeated_broken_sections_are_kept_apart(self) -> None:
        assert len(findings("[\nA=1\n[\nA=1\n")) == 2

    @pytest.mark.parametrize("character", "\x00\x07\x0b\x0c\r\x1b\x7f\x85\u2028\u2029")
    def test_control_character(self, character: str) -> None:
        assert findings(f"[Tunnel a]\nTTL=5{character}6\n") == [
            f"f:2: expected text, got the control character U+{ord(character):04X}"
            + (" (lines end with LF or CRLF)" if character == "\r" else "")
        ]


class TestFiles:
    def test_missing_file(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path / "gred.conf") == [
            "gred.conf: cannot be read: No such file or directory"
        ]

    def test_directory_instead_of_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "gred.conf").mkdir()
        assert problems_of(tmp_path / "gred.conf") == ["gred.conf: cannot be read: Is a directory"]

    def test_root_directory_instead_of_a_file(self) -> None:
        assert [p.message for p in text.read(Path("/"))[1]] == ["/: cannot be read: Is a directory"]

    def test_file_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "gred.conf").write_text("")
        assert problems_of(tmp_path / "gred.conf" / "a.conf") == [
            "a.conf: cannot be read: Not a directory"
        ]

    def test_name_with_a_nul(self, tmp_path: Path) -> None:
        assert problems_of(tmp_path / "a\0.conf") == [
            "a\\x00.conf: cannot be read: the name has a NUL in it"
        ]

    def test_name_that_is_not_utf_8_can_be_printed(self, tmp_path: Path) -> None:
        path = tmp_path / os.fsdecode(b"\xff.conf")
        path.write_text("[Tunnel a]\nTTL=0\n")
        (problem,) = problems_of(path)
        assert problem.startswith("\\xff.conf:2: [Tunnel a] TTL: ")
        assert problem.encode()

    def test_huge_file(self) -> None:
        assert [p.message for p in text.read(Path("/dev/zero"))[1]] == [
            "/dev/zero: expected at most 4 MiB, got more"
        ]

    def test_bytes_that_are_not_utf_8(self, tmp_path: Path) -> None:
        path = tmp_path / "gred.conf"
        path.write_bytes(b"[Tunnel a]\nTTL=5\n# caf\xe9\n")
        assert problems_of(path) == ["gred.conf:3: expected UTF-8 text, got the byte 0xe9"]

    def test_utf_16(self, tmp_path: Path) -> None:
        path = tmp_path / "gred.conf"
        path.write_text("[Tunnel a]\n", encoding="utf-16")
        assert problems_of(path) == [
            "gred.conf:1: expected UTF-8 text, got the byte 0xff (it is UTF-16: save it as UTF-8)"
        ]

    def test_byte_order_mark_is_no_problem(self, tmp_path: Path) -> None:
        path = tmp_path / "gred.conf"
        path.write_text("[Tunnel a]\nTTL=0\n", encoding="utf-8-sig")
        assert problems_of(path) == [
            'gred.conf:2: [Tunnel a] TTL: expected 1..255 or inherit, got "0"'
        ]

    def test_text_outside_ascii_is_fine_in_comments(self, tmp_path: Path) -> None:
        assert load_text(tmp_path, "# café\n[Tunnel a]\nTTL=5 # naïve\n").tunnels[0].ttl == 5

    def test_finding_is_printable_and_short(self, tmp_path: Path) -> None:
        bidi = "[Tunnel a]\nTTL=\u202e5\n" + f"[Tunnel b]\nTTL={'9' * 5000}\nRemote=fd00::1\n"
        first, second = problems(tmp_path, bidi)
        assert first.endswith('got "\\u202e5" (it has the invisible character U+202E)')
        assert second.endswith(f'got "{"9" * 57}..."')
