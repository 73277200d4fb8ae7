"""Sends what asks the other end of a tunnel for an answer, padded to a size or as small as can be.

A keepalive, or an ICMP echo request where ``KeepaliveTarget=`` names an inner address. The answer
to a keepalive carries no padding: what follows an inner packet is cut where it is unpacked, so that
one direction is measured. That to an echo request carries all: both are.

Nothing here waits for the answer or decides when to ask.
"""

from gred.config.model import IPAddress, TunnelConfig
from gred.control.mtu import ETHERNET_LENGTH, overhead
from gred.control.parts import Plane
from gred.control.tunnel import Tunnel
from gred.wire.echo import build_echo_request
from gred.wire.gre import PROTOCOL_IPV4, PROTOCOL_IPV6
from gred.wire.keepalive import build_request


def ask(
    plane: Plane, tunnel: Tunnel, remote: IPAddress, cookie: bytes, number: int, *, size: int = 0
) -> bool:
    """Ask *remote*, an end of *tunnel*, to return *cookie*; return whether that was sent.

    *number*: of the request, for people who look at packets. *size*: of the outer packet, in bytes,
    which goes without fragmentation then; 0: as small as it gets.
    """
    config, attachment = tunnel.config, tunnel.attachment
    if attachment is None:
        return False
    outside, target, own = _headers(config), config.keepalive_target, config.echo_source
    if target is not None and own is not None:
        packet = build_echo_request(
            own,
            target,
            identifier=tunnel.echo or 0,
            sequence=number,
            trailer=cookie,
            size=size - outside,
        )
    else:
        here = tunnel.binding.local or tunnel.source
        if here is None:
            return False  # there is no address to answer to
        packet = build_request(
            remote, here, key=config.input_key, trailer=cookie, identification=number
        )
        packet += bytes(max(size - outside - len(packet), 0))
    protocol = PROTOCOL_IPV6 if packet[0] >> 4 == 6 else PROTOCOL_IPV4
    return plane.inject.payload(attachment, protocol, packet, remote=remote, whole=size > 0)


def _headers(config: TunnelConfig) -> int:
    """Return how many bytes come before what a GRE header of *config* is followed by."""
    return overhead(config) - (ETHERNET_LENGTH if config.mode == "gretap" else 0)
