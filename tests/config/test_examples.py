"""The example files load, and two of them make the two ends of one tunnel."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from gred.config import TunnelConfig, load
from tests.config.files import load_text

EXAMPLES = Path(__file__).parents[2] / "conf" / "examples"


def only_tunnel(name: str) -> TunnelConfig:
    (tunnel,) = load(EXAMPLES / name).tunnels
    return tunnel


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.conf")), ids=lambda path: path.name)
def test_example_loads(path: Path) -> None:
    assert load(path).tunnels


@pytest.mark.parametrize("name", ["tunnel-1", "tunnel-2"])
def test_examples_are_two_ends_of_one_tunnel(name: str) -> None:
    left, right = only_tunnel(f"{name}-left.conf"), only_tunnel(f"{name}-right.conf")
    assert (left.name, left.local, left.remote) == (right.name, right.remote, right.local)
    assert (left.input_key, left.output_key) == (right.output_key, right.input_key)


def test_ends_of_the_first_tunnel_are_in_one_inner_network() -> None:
    left, right = only_tunnel("tunnel-1-left.conf"), only_tunnel("tunnel-1-right.conf")
    assert left.addresses[0].network == right.addresses[0].network
    assert left.addresses != right.addresses
    assert (left.local, left.remote) == (ip_address("192.168.1.10"), ip_address("192.168.1.13"))


def test_each_end_of_the_second_tunnel_has_a_route_to_the_other_network() -> None:
    left, right = only_tunnel("tunnel-2-left.conf"), only_tunnel("tunnel-2-right.conf")
    assert left.routes == (right.addresses[0].network,)
    assert right.routes == (left.addresses[0].network,)


@pytest.mark.parametrize("side", ["left", "right"])
def test_second_tunnel_fits_beside_the_first(side: str, tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        (EXAMPLES / f"tunnel-1-{side}.conf").read_text(),
        second=(EXAMPLES / f"tunnel-2-{side}.conf").read_text(),
    )
    assert [tunnel.name for tunnel in config.tunnels] == ["Tunnel-1", "Tunnel-2"]


def test_documented_example_loads(tmp_path: Path) -> None:
    text = (EXAMPLES.parents[1] / "docs" / "configuration.md").read_text()
    (example,) = re.findall(r"```ini\n(.*?)```", text, re.DOTALL)
    (tunnel,) = load_text(tmp_path, example).tunnels
    assert (tunnel.name, len(tunnel.addresses), len(tunnel.routes)) == ("nyc", 2, 2)


def test_keyed_tunnels_share_their_ends() -> None:
    office, storage = load(EXAMPLES / "keyed.conf").tunnels
    assert (office.local, office.remote) == (storage.local, storage.remote)
    assert (office.input_key, storage.input_key) == (42, 300)
