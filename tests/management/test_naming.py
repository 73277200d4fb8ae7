"""What the names of a configuration stand for, for those who only look at it."""

import socket
import threading
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from gred.config import Config
from gred.config.model import IPAddress
from gred.control.resolver import Lookup
from gred.management import check, naming
from gred.management.show.command import of_tunnel
from tests.config.files import load_text
from tests.management.test_check import view

TEXT = "[Tunnel t]\nLocal=192.0.2.1\nRemote=vpn.example\n"


def config(tmp_path: Path, text: str = TEXT) -> Config:
    return load_text(tmp_path, text)


def answer(*addresses: str) -> Lookup:
    return lambda _host, _version: [ip_address(address) for address in addresses]


def test_the_first_address_that_may_be_used_stands_for_the_name(tmp_path: Path) -> None:
    found = naming.resolve(config(tmp_path), answer("127.0.1.1", "192.0.2.2", "192.0.2.3"))
    (tunnel,) = found.config.tunnels
    assert tunnel.remote == ip_address("192.0.2.2")
    assert tunnel.remote_name == "vpn.example"
    assert found.found == {"t": [ip_address("192.0.2.2"), ip_address("192.0.2.3")]}
    assert found.unknown == {}


def test_without_names_nobody_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(host: str, version: int) -> list[IPAddress]:
        asked.append(host)
        return []

    written = config(tmp_path, "[Tunnel t]\nRemote=192.0.2.2")
    assert naming.resolve(written, ask).config is written
    assert asked == []


def unknown(_host: str, _version: int) -> list[IPAddress]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (unknown, "cannot resolve vpn.example: Name or service not known"),
        (answer(), "cannot use vpn.example: it has no address"),
        (answer("192.0.2.1"), "cannot use vpn.example: it has 192.0.2.1 (expected another"),
    ],
)
def test_a_name_without_an_address_is_told(tmp_path: Path, ask: Lookup, why: str) -> None:
    written = config(tmp_path)
    found = naming.resolve(written, ask)
    assert found.config == written
    assert found.unknown["t"].startswith(why)


def test_what_is_not_answered_in_time_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naming, "PATIENCE_SECONDS", 0.01)
    go = threading.Event()

    def ask(_host: str, _version: int) -> list[IPAddress]:
        go.wait(60)
        return []

    found = naming.resolve(config(tmp_path), ask)
    go.set()
    assert found.unknown == {"t": "cannot resolve vpn.example: no answer"}


def test_check_says_what_a_name_has_and_when_it_is_asked_again(tmp_path: Path) -> None:
    found = naming.resolve(config(tmp_path), answer("192.0.2.2", "192.0.2.3"))
    seen = replace(view(found.config), found=found.found)
    lines = [line.strip() for line in check.describe(found.config, seen)]
    assert "t: gre local 192.0.2.1 remote 192.0.2.2 ttl 64 tos inherit" in lines
    assert "vpn.example has 192.0.2.2, 192.0.2.3 now; it is resolved again every 60 s" in lines


def test_check_warns_of_a_name_without_an_address(tmp_path: Path) -> None:
    found = naming.resolve(config(tmp_path), unknown)
    seen = replace(view(found.config), unresolved=found.unknown)
    assert (
        f"{tmp_path}/gred.conf:3: [Tunnel t] Remote:"
        " cannot resolve vpn.example: Name or service not known"
    ) in list(check.warnings(found.config, seen))


def test_the_other_end_of_a_name_has_no_address_here(tmp_path: Path) -> None:
    (tunnel,) = config(tmp_path).tunnels
    _text, notes = of_tunnel(tunnel, "gred")
    assert notes == ["vpn.example is the other end: its address belongs in place of any"]
