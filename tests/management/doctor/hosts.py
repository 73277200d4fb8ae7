"""A host without a fault, in facts, for tests to plant one in."""

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from gred.management.doctor.facts import (
    Buffers,
    Capabilities,
    Codec,
    Configuration,
    Facts,
    Firewall,
    IPsec,
    KernelGre,
    Receivers,
    Remote,
    Service,
    Tun,
    Tunnel,
    Underlay,
)

REMOTE = Remote(
    address=ip_address("192.0.2.2"),
    device="eth0",
    source=ip_address("192.0.2.1"),
    mtu=1500,
    back="eth0",
    ipsec=IPsec(policy="none"),
)
TUNNEL = Tunnel(
    name="t",
    where="gred.conf:1",
    mode="gre",
    local=ip_address("192.0.2.1"),
    local_device="eth0",
    remotes=(REMOTE,),
    exists=False,
    mtu_computed=1476,
    overhead=24,
    rp_filter=0,
)
ETH0 = Underlay(
    name="eth0",
    mtu=1500,
    rp_filter=0,
    offloads={"tso": True, "gso": True, "gro": True, "lro": False},
    physical=True,
)
CLEAN = Facts(
    configuration=Configuration(file="/etc/gred/gred.conf"),
    tun=Tun(present=True, opens=True),
    capabilities=Capabilities(user="root"),
    codec=Codec(implementation="c"),
    kernel_gre=KernelGre(),
    receivers=Receivers(),
    firewall=Firewall(),
    buffers=Buffers(asked=8 << 20, limit=208 << 10),
    service=Service(),
    underlays=(ETH0,),
    tunnels=(TUNNEL,),
)


def tunnel(**changed: Any) -> Facts:
    """Return the host with its tunnel changed."""
    return replace(CLEAN, tunnels=(replace(TUNNEL, **changed),))


def remote(**changed: Any) -> Facts:
    """Return the host with its tunnel's remote changed."""
    return tunnel(remotes=(replace(REMOTE, **changed),))


def host(**changed: Any) -> Facts:
    """Return the host changed."""
    return replace(CLEAN, **changed)
