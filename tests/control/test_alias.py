"""What an interface is called for people."""

from pathlib import Path

import pytest

from gred.control.alias import alias
from tests.config.files import load_text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("Local=192.0.2.1\nRemote=192.0.2.2\nKey=5", "GRE 192.0.2.1 -> 192.0.2.2 key 5 (gred)"),
        (
            "Remote=192.0.2.2\nTransport=udp\nRemotePort=5000",
            "GRE any -> 192.0.2.2 in UDP to 5000 (gred)",
        ),
        ("Remote=192.0.2.2", "GRE any -> 192.0.2.2 (gred)"),
        ("Local=%eth0\nRemote=192.0.2.2\nKey=0", "GRE %eth0 -> 192.0.2.2 key 0 (gred)"),
        (
            "Mode=gretap\nLocal=2001:db8::1\nRemote=2001:db8::2\nInputKey=1\nOutputKey=2",
            "GRETAP 2001:db8::1 -> 2001:db8::2 ikey 1 okey 2 (gred)",
        ),
        ("Local=192.0.2.1\nOutputKey=2", "GRE 192.0.2.1 -> any okey 2 (gred)"),
        (
            "Local=192.0.2.1\nPeers=10.1.0.0/16@192.0.2.2, 10.2.0.0/16@192.0.2.3",
            "GRE 192.0.2.1 -> 2 peers (gred)",
        ),
    ],
)
def test_it_says_what_is_configured(tmp_path: Path, options: str, expected: str) -> None:
    (tunnel,) = load_text(tmp_path, f"[Tunnel t1]\n{options}\n").tunnels
    assert alias(tunnel) == expected
