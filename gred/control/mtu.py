"""MTU arithmetic. Pure: numbers in, numbers out; no route is looked up and no device is touched.

MTU of the tunnel = MTU of the route to the remote
                  - outer header (IPv4 20, IPv6 40)
                  - 8 with Transport=udp
                  - GRE header   (4, and 4 for each of checksum, key, sequence number we send)
                  - 16 for a tunnel encapsulation limit over IPv6
                  - 14 for the Ethernet header inside, in gretap mode

1500 - 20 - 4             = 1476      plain
1500 - 20 - 4 - 4         = 1472      with a key
1500 - 20 - 4 - 4 - 4 - 4 = 1464      with key, checksum and sequence numbers
1500 - 40 - 4             = 1456      over IPv6
1500 - 20 - 8 - 4         = 1468      in UDP
1500 - 20 - 4 - 14        = 1462      gretap
"""

from gred.config.model import TunnelConfig

OUTER_LENGTH = {4: 20, 6: 40}  # no options are sent. RFC 791 §3.1, RFC 8200 §3
UDP_LENGTH = 8  # RFC 768
GRE_LENGTH = 4  # RFC 2784 §2.1
GRE_OPTION_LENGTH = 4  # checksum with Reserved1, key, sequence number. RFC 2784 §2.1, RFC 2890 §2

# A destination options header, RFC 2473 §4.1.1, is 8 bytes. The kernel counts it twice when it
# checks a raw socket's datagram against the MTU (ip6_append_data): the other 8 stay unused.
ENCAPSULATION_LIMIT_LENGTH = 16
ETHERNET_LENGTH = 14  # addresses and type, without VLAN tags: the MTU of a device counts without

FLOOR_IPV4 = 68  # every IPv4 link carries it unfragmented. RFC 791 §3.2
FLOOR_IPV6 = 1280  # below it the kernel takes IPv6 off the interface. RFC 8200 §5

DEFAULT_ROUTE_MTU = 1500  # Ethernet's: assumed while there is no remote or no route to it

_LONGEST_PACKET = {4: 65535, 6: 65535 + 40}  # IPv6's payload length leaves its own header out


def carries_ipv6(config: TunnelConfig) -> bool:
    """Whether the configuration wants IPv6 inside the tunnel."""
    return any(inner.version == 6 for inner in (*config.addresses, *config.routes))


def overhead(config: TunnelConfig) -> int:
    """Return how many bytes the inner packet must leave free of what the path carries.

    In gretap mode the Ethernet header is one of them, as it is not part of the interface's MTU.
    """
    options = (
        config.output_checksum,
        config.output_key is not None,
        config.output_sequence,
    )
    length = OUTER_LENGTH[config.family] + GRE_LENGTH + GRE_OPTION_LENGTH * sum(options)
    if config.transport == "udp":
        length += UDP_LENGTH
    if config.encapsulation_limit is not None:
        length += ENCAPSULATION_LIMIT_LENGTH
    if config.mode == "gretap":
        length += ETHERNET_LENGTH
    return length


def tunnel_mtu(config: TunnelConfig, route_mtu: int) -> int:
    """Return the MTU of the tunnel interface: the configured one, or what *route_mtu* leaves.

    Never below the floor of the inner protocols, never above what one outer packet can hold.
    """
    if config.mtu is not None:
        return config.mtu
    outermost = min(route_mtu, _LONGEST_PACKET[config.family])
    floor = FLOOR_IPV6 if carries_ipv6(config) else FLOOR_IPV4
    return max(outermost - overhead(config), floor)
