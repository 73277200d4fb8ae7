"""What the kernel itself would send to a remote in one piece, asked for one packet it has refused.

A sender that does not use the kernel's path MTUs is told the device's MTU and no other. Where IPsec
wraps the packet up once more there is less room, and only a connected socket is told how much. No
packet is sent or received here.
"""

import socket
import struct

from gred.dataplane.layout import Transport
from gred.dataplane.linux import IP_MTU, IPPROTO_GRE, IPV6_MTU, SO_BINDTOIFINDEX, SO_MARK
from gred.dataplane.tunnels import IPAddress, TunnelParameters
from gred.dataplane.underlay.sockets import make_deaf


def kernel_mtu(parameters: TunnelParameters, remote: IPAddress | None) -> int:
    """Return the longest outer packet to *remote* in bytes, or 0 where the kernel does not say."""
    if remote is None:
        return 0
    is_ipv6 = parameters.family == 6
    level, option = (socket.IPPROTO_IPV6, IPV6_MTU) if is_ipv6 else (socket.IPPROTO_IP, IP_MTU)
    in_udp = parameters.transport is Transport.UDP
    kind = socket.SOCK_DGRAM if in_udp else socket.SOCK_RAW
    protocol = socket.IPPROTO_UDP if in_udp else IPPROTO_GRE
    try:
        family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
        flags = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        with socket.socket(family, kind | flags, protocol) as asked:
            make_deaf(asked)
            if parameters.firewall_mark:
                asked.setsockopt(
                    socket.SOL_SOCKET, SO_MARK, struct.pack("=I", parameters.firewall_mark)
                )
            if parameters.interface:
                asked.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, parameters.interface)
            if parameters.local is not None:
                asked.bind((str(parameters.local), 0))
            asked.connect((str(remote), parameters.destination_port))
            return asked.getsockopt(level, option)
    except OSError:
        return 0
