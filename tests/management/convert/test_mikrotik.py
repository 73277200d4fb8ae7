"""Commands of RouterOS, as ``export`` prints them and as people type them."""

from pathlib import Path
from typing import Any

import pytest

from tests.management.convert.reading import converted, loaded, said

GRE = "/interface gre add name=gre1 local-address=192.0.2.1 remote-address=192.0.2.2 {}"
EXPORT = """\
# 2026-01-02 03:04:05 by RouterOS 7.16
/interface gre
add local-address=192.0.2.1 mtu=1400 name="gre 1" remote-address=\\
    192.0.2.2 !keepalive
/ip address
add address=10.1.2.1/24 interface="gre 1" network=10.1.2.0
/ipv6 address
add address=fd00:1::1/64 interface="gre 1"
/ip route
add dst-address=20.1.3.0/24 gateway="gre 1"
add dst-address=20.1.4.0/24 gateway=10.1.2.2%"gre 1"
"""


def test_export(tmp_path: Path) -> None:
    done = converted(EXPORT)
    assert "called gre 1 there, which no interface can be called" in said(done)
    tunnel = loaded(done, tmp_path)["gre-1"]
    assert (str(tunnel.local), str(tunnel.remote)) == ("192.0.2.1", "192.0.2.2")
    assert (tunnel.mtu, tunnel.keepalive) == (1400, None)
    assert list(map(str, tunnel.addresses)) == ["10.1.2.1/24", "fd00:1::1/64"]
    assert "20.1.3.0/24" in map(str, tunnel.routes)


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        ("", {"keepalive": 10.0, "keepalive_retries": 10}),  # on unless !keepalive
        ("keepalive=5s,3", {"keepalive": 5.0, "keepalive_retries": 3}),
        ("keepalive=1m,3", {"keepalive": 60.0}),
        ("keepalive=00:00:05,3", {"keepalive": 5.0}),
        ("!keepalive", {"keepalive": None}),
        ("mtu=auto dscp=inherit allow-fast-path=no", {"mtu": None, "tos": None}),
        ("dscp=46", {"tos": 184}),
        ("clamp-tcp-mss=no", {"clamp_mss": False}),
        ("dont-fragment=no", {"discover_path_mtu": False, "ignore_dont_fragment": True}),
        ("dont-fragment=inherit", {"discover_path_mtu": False, "ignore_dont_fragment": False}),
    ],
)
def test_words(words: str, fields: dict[str, Any], tmp_path: Path) -> None:
    done = converted(GRE.format(words))
    assert said(done) == ""
    tunnel = loaded(done, tmp_path)["gre1"]
    assert {name: getattr(tunnel, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/interface eoip add name=e tunnel-id=3", "line 2: no equivalent: /interface eoip add"),
        ("/interface eoip\nadd name=e tunnel-id=3", "EoIP is not there"),
        ("/interface bridge port add interface=gre1", "it makes no GRE tunnel"),
        ("/ip address add address=10.0.0.1/8 interface=ether1", "no GRE tunnel was made of that"),
        ("/ip route add dst-address=20.0.0.0/8 gateway=192.0.2.254", "its gateway is no GRE tun"),
        (
            "/ip route add dst-address=20.0.0.0/8 gateway=gre1 distance=5",
            "no equivalent: distance=5 of /ip route",
        ),
        ("nonsense", "no equivalent: nonsense"),
    ],
)
def test_what_cannot_be_said_is_said(line: str, words: str, tmp_path: Path) -> None:
    done = converted(f"{GRE.format('')}\n{line}\n")
    assert words in said(done)
    assert "gre1" in loaded(done, tmp_path)


@pytest.mark.parametrize(
    ("words", "remark"),
    [
        ("ipsec-secret=hidden", "ipsec-secret: GRE encrypts nothing"),
        ('comment="to me"', "it is described as: to me"),
        ("disabled=yes", "gred sets its tunnels up"),
        ("loop-protect=on", "no equivalent: loop-protect=on"),
    ],
)
def test_words_without_equivalent(words: str, remark: str) -> None:
    done = converted(GRE.format(words))
    assert remark in said(done)
    assert "hidden" not in done.text
