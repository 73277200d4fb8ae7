"""Who on this host refuses a tunnel's outer packets: asked of the kernel, when it has happened.

The kernel refuses a send in one word, EPERM, for an IPsec policy as for a firewall. Connecting a
socket asks policies and routes and no firewall, and sends nothing. Nothing here is on the path of a
packet.
"""

import errno
import socket

from gred.dataplane.layout import Transport
from gred.dataplane.linux import SO_MARK
from gred.dataplane.tunnels import TunnelParameters
from gred.wire.gre import IPPROTO_GRE

UNKNOWN = "a firewall or an IPsec policy of this host"
FIREWALL = "a firewall of this host"
POLICY = "an IPsec policy of this host"
ROUTE = "a route of this host (of type prohibit)"


def who_refuses(parameters: TunnelParameters) -> str:
    """Return who refuses packets from the tunnel's local address to its remote one, in words."""
    local, remote = parameters.local, parameters.remote
    if remote is None:
        return UNKNOWN
    family = socket.AF_INET if remote.version == 4 else socket.AF_INET6
    try:
        kind, protocol = socket.SOCK_RAW, IPPROTO_GRE
        if parameters.transport is Transport.UDP:
            kind, protocol = socket.SOCK_DGRAM, socket.IPPROTO_UDP
        with socket.socket(family, kind, protocol) as probe:
            if parameters.firewall_mark:
                probe.setsockopt(socket.SOL_SOCKET, SO_MARK, parameters.firewall_mark)
            if local is not None:
                probe.bind((str(local), 0))
            code = probe.connect_ex((str(remote), parameters.destination_port))
    except OSError:
        return UNKNOWN
    return {0: FIREWALL, errno.EPERM: POLICY, errno.EACCES: ROUTE}.get(code, UNKNOWN)
