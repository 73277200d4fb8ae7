"""The other end of a tunnel: what changes sides, what is guessed, what is left out."""

from typing import Any

import pytest
from hypothesis import given

from gred.config import Location, TunnelConfig
from gred.config.model import IPInterface
from gred.config.options import SECTIONS
from gred.management.show.mirror import mirror
from tests.config.test_properties import TUNNELS, interfaces

ENDS = {"Local": "192.0.2.1", "Remote": "192.0.2.2"}


def tunnel(**options: str) -> TunnelConfig:
    values: dict[str, Any] = {}
    for name, text in (ENDS | options).items():
        values |= SECTIONS["Tunnel"][name].read(text)
    return TunnelConfig(name="t", location=Location("", 1), **values)


def other(**options: str) -> TunnelConfig:
    return mirror(tunnel(**options)).tunnel


def test_ends_and_keys_change_sides() -> None:
    far = other(InputKey="1", OutputKey="2")
    assert (str(far.local), str(far.remote)) == ("192.0.2.2", "192.0.2.1")
    assert (far.input_key, far.output_key) == (2, 1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"Checksum": "yes"}, ("require", True, False, False)),
        ({"OutputChecksum": "yes"}, ("require", False, False, False)),
        ({"InputChecksum": "require"}, ("accept", True, False, False)),
        ({"InputSequence": "yes"}, ("accept", False, False, True)),
        ({"OutputSequence": "yes"}, ("accept", False, True, False)),
    ],
)
def test_what_is_sent_here_is_required_there(options: dict[str, str], expected: object) -> None:
    far = other(**options)
    assert expected == (
        far.input_checksum,
        far.output_checksum,
        far.input_sequence,
        far.output_sequence,
    )


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("10.1.2.1/24", "10.1.2.2/24"),
        ("10.1.2.2/24", "10.1.2.1/24"),
        ("10.1.2.5/30", "10.1.2.6/30"),
        ("10.1.2.0/31", "10.1.2.1/31"),
        ("10.1.2.1/31", "10.1.2.0/31"),
        ("10.1.2.254/24", "10.1.2.253/24"),
        ("fd00::1/64", "fd00::2/64"),
        ("fd00::/127", "fd00::1/127"),
        ("fd00::/64", "fd00::1/64"),
        ("255.255.255.255/0", "255.255.255.254/0"),
    ],
)
def test_the_inner_address_is_the_other_host_of_the_pair(here: str, there: str) -> None:
    far = mirror(tunnel(Address=here))
    assert list(map(str, far.tunnel.addresses)) == [there]
    assert f"{there} is a guess" in " ".join(far.notes)


def test_an_address_with_a_peer_is_no_guess() -> None:
    far = mirror(tunnel(Address="10.9.0.1/32", Route="10.9.0.9/32, 20.0.0.0/8"))
    assert list(map(str, far.tunnel.addresses)) == ["10.9.0.9/32"]
    assert list(map(str, far.tunnel.routes)) == ["10.9.0.1/32"]
    assert "guess" not in " ".join(far.notes)


def test_the_target_of_keepalives_is_no_guess() -> None:
    far = mirror(tunnel(Address="10.9.0.1/24", Keepalive="5s", KeepaliveTarget="10.9.0.7"))
    assert list(map(str, far.tunnel.addresses)) == ["10.9.0.7/24"]
    assert str(far.tunnel.keepalive_target) == "10.9.0.1"
    assert "guess" not in " ".join(far.notes)


def test_an_address_alone_in_its_network_is_left_open() -> None:
    far = mirror(tunnel(Address="10.9.0.1/32"))
    assert far.tunnel.addresses == ()
    assert "10.9.0.1/32 has no network" in " ".join(far.notes)


def test_what_is_of_this_host_is_left_out() -> None:
    far = other(Device="eth0", FirewallMark="7", Namespace="x", MACAddress="none")
    assert (far.underlay_device, far.firewall_mark, far.namespace) == (None, None, None)


def test_open_ends_are_said() -> None:
    assert "Local= is %eth0: put the outer address" in " ".join(mirror(tunnel(Local="%eth0")).notes)
    assert "Remote= is any" in " ".join(mirror(tunnel(Remote="any")).notes)
    group = mirror(tunnel(Remote="224.0.0.9"))
    assert (group.tunnel.local, str(group.tunnel.remote)) == (None, "224.0.0.9")


def test_headers_that_differ_by_direction_fix_the_mtu() -> None:
    far = mirror(tunnel(OutputKey="1"))
    assert far.tunnel.mtu == 1472
    assert "give this end MTUBytes=1472, too" in " ".join(far.notes)
    assert other(Key="1").mtu is None


@given(one=TUNNELS)
def test_any_tunnel_has_another_end(one: TunnelConfig) -> None:
    far = mirror(one).tunnel
    assert (far.input_key, far.output_key) == (one.output_key, one.input_key)
    assert {own.network for own in far.addresses} <= {
        *(own.network for own in one.addresses),
        *one.routes,
    }


@given(own=interfaces())
def test_a_pair_is_a_pair_from_both_ends(own: IPInterface) -> None:
    """But where the last host of an odd network has no partner."""
    if own.network.num_addresses < 4 or own.ip.is_link_local:
        return
    number = int(own.ip) - int(own.network.network_address)
    if number == 0 or number >= own.network.num_addresses - 2:
        return
    there = other(Address=str(own))
    if there.addresses[0].ip.is_link_local:
        return
    assert other(Address=str(there.addresses[0])).addresses == (own,)
