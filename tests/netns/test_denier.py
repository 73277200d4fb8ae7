"""Who refuses: a real firewall, a real IPsec policy, a real route, and nobody."""

import subprocess
from ipaddress import ip_address

import pytest

from gred.control.kernel.denier import FIREWALL, POLICY, ROUTE, UNKNOWN, who_refuses
from gred.dataplane.tunnels import TunnelParameters
from tests import require
from tests.dataplane.namespaces import in_new_namespace

ENDS = TunnelParameters(family=4, local=ip_address("127.0.0.2"), remote=ip_address("127.0.0.3"))
AWAY = TunnelParameters(family=4, local=None, remote=ip_address("192.0.2.3"))


def asked(parameters: TunnelParameters, *commands: str) -> str:
    """Ask in a new namespace in which *commands* were run."""
    require.root()

    def ask() -> str:
        for command in commands:
            subprocess.run(command.split(), check=True)
        return who_refuses(parameters)

    return in_new_namespace(ask)


@pytest.mark.parametrize("protocol", ["", " proto gre"])
def test_an_ipsec_policy_is_named(protocol: str) -> None:
    selector = f"src 192.0.2.2/32 dst 192.0.2.3/32{protocol}"
    commands = (
        "ip link add v0 type veth peer name v1",
        "ip address add 192.0.2.2/24 dev v0",
        "ip link set v1 up",
        "ip link set v0 up",
        f"ip xfrm policy add {selector} dir out action block",
    )
    parameters = TunnelParameters(family=4, local=ip_address("192.0.2.2"), remote=AWAY.remote)
    assert asked(parameters, *commands) == POLICY
    assert asked(parameters, *commands[:-1]) == FIREWALL


def test_a_route_is_named() -> None:
    assert asked(AWAY, "ip route add prohibit 192.0.2.0/24") == ROUTE


def test_else_it_is_a_firewall() -> None:
    assert asked(ENDS) == FIREWALL


def test_what_cannot_be_known_is_not_said() -> None:
    assert asked(TunnelParameters(family=4, local=None, remote=None)) == UNKNOWN
    assert asked(AWAY) == UNKNOWN
