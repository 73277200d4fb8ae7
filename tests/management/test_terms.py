"""Tunnels, and differences between two configurations, in the words of ip(8)."""

from pathlib import Path

import pytest

from gred.config import Config, load
from gred.control.reload import plan
from gred.management import terms

ONE = "[Tunnel t1]\nLocal=192.0.2.1\nRemote=192.0.2.2\nAddress=10.0.0.1/24\n"
TYPE = "ip link set dev t1 type gre local 192.0.2.1 remote"


def config(path: Path, text: str) -> Config:
    file = path / "gred.conf"
    file.write_text(text)
    return load(file)


def reload(path: Path, before: str, after: str) -> dict[str, tuple[str, ...]]:
    old, new = config(path, before), config(path, after)
    return terms.reload(plan(old, new), old.tunnels, new.tunnels)


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ("", "Key=5\n", [f"{TYPE} 192.0.2.2 key 5 ttl 64 tos inherit"]),
        ("Key=5\n", "", [f"{TYPE} 192.0.2.2 ttl 64 tos inherit"]),
        ("", "MTUBytes=1400\n", ["ip link set dev t1 mtu 1400"]),
        ("MTUBytes=1400\n", "", ["ip link set dev t1 mtu auto"]),
        (
            "Route=10.8.0.0/16\n",
            "Route=10.9.0.0/16\n",
            ["ip route delete 10.8.0.0/16 dev t1", "ip route add 10.9.0.0/16 dev t1"],
        ),
        ("", "Keepalive=10s\n", []),
    ],
)
def test_a_change(tmp_path: Path, before: str, after: str, lines: list[str]) -> None:
    assert reload(tmp_path, ONE + before, ONE + after) == {"t1": tuple(lines)}


def test_an_address_changes_its_own_only(tmp_path: Path) -> None:
    after = ONE.replace("10.0.0.1/24", "10.0.0.1/24, 10.1.0.1/24")
    assert reload(tmp_path, ONE, after) == {"t1": ("ip address add 10.1.0.1/24 dev t1",)}
    assert reload(tmp_path, after, ONE) == {"t1": ("ip address delete 10.1.0.1/24 dev t1",)}


def test_one_that_goes_and_one_that_comes(tmp_path: Path) -> None:
    found = reload(tmp_path, ONE, ONE.replace("t1", "t2"))
    assert found["t1"] == ("ip link delete dev t1",)
    assert found["t2"][0] == "ip tuntap add dev t2 mode tun"
    assert found["t2"][1] == "ip link set dev t2 mtu auto up"
    assert "ip address add 10.0.0.1/24 dev t2" in found["t2"]


def test_one_that_is_made_anew_in_a_namespace(tmp_path: Path) -> None:
    (found,) = reload(tmp_path, ONE, f"{ONE}Namespace=blue\n").values()
    assert found[0] == "ip link delete dev t1"
    assert "ip -n blue address add 10.0.0.1/24 dev t1" in found


def test_what_is_behind_which_remote(tmp_path: Path) -> None:
    hub = "[Tunnel t1]\nLocal=192.0.2.1\nPeers=10.1.0.0/16@192.0.2.2"
    found = reload(tmp_path, f"{hub}, 10.2.0.0/16@192.0.2.3\n", f"{hub}, 10.3.0.0/16@192.0.2.3\n")
    assert found == {
        "t1": ("no longer behind 192.0.2.3: 10.2.0.0/16", "behind 192.0.2.3: 10.3.0.0/16")
    }
