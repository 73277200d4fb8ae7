"""What somebody meant: the message says it, whatever the mistake."""

from pathlib import Path

import pytest

from gred.config import hints
from tests.config.files import problems

BASE = "[Tunnel t]\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Remote=[2001:db8::1]", "without brackets: 2001:db8::1"),
        ("Remote=[2001:db8::1]:47", "without brackets and port: 2001:db8::1"),
        ("Remote=host.example:47", "GRE has no ports: host.example"),
        ("Remote=none", 'for any address write "any"'),
        ("Peers=10.0.0.2@host.example", "names are not resolved here"),
        ("KeepaliveTarget=host.example", "names are not resolved here"),
        ("Remote=192.0.2.1:47", "GRE has no ports: 192.0.2.1"),
        ("Remote=192.0.2.1/24", "an address without a prefix: 192.0.2.1"),
        ("Remote=010.0.0.1", "without leading zeros: 10.0.0.1"),
        ("Remote=192.0.2.1, 192.0.2.2", "Peers= instead"),
        ("Remote=*", 'for any address write "any"'),
        ('Remote="192.0.2.1"', "without quotes: 192.0.2.1"),
        ("Remote=\u201c192.0.2.1\u201d", "without quotes: 192.0.2.1"),
        ("Remote=192.0.2.1\u200b", "the invisible character U+200B"),
        ("Remote=192.0.2.1 \\", "without a backslash"),
        ("Remote=192.0.2.1 ; far", 'begins with a blank and "#"'),
        ("Remote=192.0.2.1 // far", 'begins with a blank and "#"'),
        ("Remote=%eth0", "only Local= takes %INTERFACE"),
        ("Remote=fe80::1%eth0", "write fe80::1, and Device=eth0"),
        ("Local=eth0", "write %eth0)"),
        ("Local=enp3s0.100", "write %enp3s0.100)"),
        ("Local=gateway", "write %gateway; only Remote= takes a name"),
        ("Address=10.0.0.1/255.255.255.0", "a prefix instead of a netmask: 10.0.0.1/24"),
        ("Address=[2001:db8::1]/64", "without brackets: 2001:db8::1/64"),
        ("Address=dhcp", "fixed addresses"),
        ("Address=10.0.0.1/24 dev t", "a list of addresses with prefixes and nothing else"),
        ("Address=10.0.0.1/24 255.255.255.0", "a prefix instead of a netmask"),
        ("Route=default", "0.0.0.0/0, or ::/0 for IPv6"),
        ("Route=10.0.0.0/8 via 10.0.0.1", "a list of addresses with prefixes and nothing else"),
        ("Route=10.0.0.1/24", "host bits are set; the network is 10.0.0.0/24"),
        ("TTL=64s", "a number without a unit: 64"),
        ("MTUBytes=1400B", "a number without a unit: 1400"),
        ("MTUBytes=9K", "a number without a unit)"),
        ("Key=042", "without leading zeros: 42"),
        ("Key=2a", "begins with 0x: 0x2a"),
        ("TOS=AF41", "AF41 is 0x88"),
        ("TOS=ef", "EF is 0xb8"),
        ("Mode=GRE", "gre, in small letters"),
        ("Mode=ip6gre", "gre, with IPv6 addresses"),
        ("PacketSocket=yes", "auto uses it"),
        ("MACAddress=02-00-00-00-00-01", "as in 02:00:00:00:00:01"),
        ("MACAddress=0200.0000.0001", "as in 02:00:00:00:00:01"),
        ("Name=gre1", "the name stands in the section: [Tunnel NAME]"),
        ("Kind=gre", "it is Mode= here"),
        ("Description=x", 'begins with "#" is a comment'),
        ("CopyDSCP=yes", "TOS=inherit"),
        ("Gateway=10.0.0.1", "is a Route="),
    ],
)
def test_the_message_says_what_is_meant(tmp_path: Path, line: str, words: str) -> None:
    found = problems(tmp_path, f"{BASE}{line}\n")
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("[NetDev]", "it is systemd's; expected [Daemon] or [Tunnel NAME]"),
        ("[Match]", "it is systemd's"),
        ("[Network]", "it is systemd's"),
        ("[Interface]", "it is WireGuard's"),
        ("[gre1]", "expected [Tunnel gre1], or [Daemon]"),
        ("[tunnel gre1]", "expected [Tunnel gre1]"),
        ("[Tunnel]", "expected [Tunnel NAME]"),
        ('[Tunnel "gre1"]', "without blanks, quotes"),
    ],
)
def test_so_does_that_of_a_section(tmp_path: Path, section: str, words: str) -> None:
    found = problems(tmp_path, f"{section}\n")
    assert any(words in problem for problem in found), found


@pytest.mark.parametrize("good", ["\tRemote=192.0.2.1", "Remote = 192.0.2.1\t", "Key = 0x2a"])
def test_what_can_be_understood_is(tmp_path: Path, good: str) -> None:
    assert problems(tmp_path, f"\ufeff{BASE}{good}\r\n") == []


@pytest.mark.parametrize(
    "tells", [hints.address, hints.local, hints.prefix, hints.number, hints.zone, hints.mac_address]
)
def test_no_hint_repeats_a_long_text_or_one_that_a_terminal_obeys(tells: object) -> None:
    assert callable(tells)
    for text in ("x" * 5000, "9" * 5000, '"' + "a" * 5000, "fe80::1%\x1b[31m", "\x1b[31m"):
        said = tells(text)
        assert len(said) < 120
        assert said.isprintable()
