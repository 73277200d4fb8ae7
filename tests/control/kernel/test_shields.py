"""Block policies, ordered and found again. With a real kernel: tests/netns/test_ipsec.py."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from gred.config.model import IPAddress
from gred.control.kernel import shields
from gred.control.kernel.shields import is_shield, shielded
from gred.control.kernel.xfrm import Policy, Tables, read_policies

OUT, IN = 1, 0
REMOTES: list[IPAddress] = [IPv4Address("192.0.2.2"), IPv6Address("2001:db8::2")]


def ordered(remote: IPAddress, direction: int, owner: int) -> Policy:
    """Read what is ordered as if the kernel had listed it."""
    (found,) = read_policies([bytes(16) + shields._new(remote, direction, owner)])
    return found


@pytest.mark.parametrize("remote", REMOTES)
def test_what_is_ordered_is_found_again(remote: IPAddress) -> None:
    both = ordered(remote, OUT, 0x12345), ordered(remote, IN, 0x12345)
    assert all(policy.blocks and policy.protocol == 47 for policy in both)
    assert both[0].selects(None, remote)
    assert both[1].selects(remote, None)
    assert min(policy.priority for policy in both) > 400_000, "below an IKE daemon's"
    assert shielded(Tables(both)) == shielded(Tables(both), 0x2345) == {remote: 2}
    assert shielded(Tables(both), 0x2346) == {}, "another gred's"
    assert shielded(Tables(both[:1])) == {remote: 1}


def test_nobody_elses_is_taken_for_one() -> None:
    own = ordered(REMOTES[0], OUT, 7)
    assert is_shield(own)
    for other in (
        replace(own, priority=366975),
        replace(own, blocks=False),
        replace(own, protocol=0),
        replace(own, source=ip_network("192.0.2.1")),
        replace(own, destination=ip_network("192.0.2.0/24")),
    ):
        assert not is_shield(other)
