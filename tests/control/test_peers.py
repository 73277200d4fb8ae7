"""Which remotes a tunnel has, and what is behind each."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

from gred.control.peers import Peer, peers
from gred.control.tunnel import Tunnel
from tests.control.fakes import OTHER_REMOTE, REMOTE, FakeAttachment, FakeDevice, FakeKernel, tunnel

FAR = ip_address(OTHER_REMOTE)


def test_a_tunnel_between_two_ends_has_one() -> None:
    one = Tunnel(tunnel())
    (peer,) = peers(one, 10.0)
    assert peer == Peer(tunnel="t1", inner=None, remote=REMOTE, origin="configured", heard=None)


def test_configured_ones_come_before_learned_ones() -> None:
    config = replace(
        tunnel(remote=None),
        peers=((ip_network("10.1.0.0/16"), ip_address(REMOTE)),),
        learn_peers=True,
    )
    one = Tunnel(config)
    assert [(peer.inner, peer.origin) for peer in peers(one, 10.0)] == [
        ("10.1.0.0/16", "configured")
    ]
    one.attachment = FakeAttachment(
        FakeDevice(FakeKernel(), "t1", 10), one.parameters(), learned=[FAR]
    )
    configured, learned = peers(one, 10.0)
    assert (configured.remote, configured.heard) == (REMOTE, None)
    assert (learned.inner, learned.remote, learned.heard) == ("10.9.0.1", OTHER_REMOTE, 10.0)
