"""Which IPv6 link-local address an interface has, the same at each start. Pure but for one file.

Routing protocols know their neighbours by it: ``neighbor fe80::1`` must stay true, and a router
whose address is another one after each restart is a stranger. The kernel would give a TUN device a
random one, and would send from that though an address was configured; so it is asked for none.
"""

import socket
from functools import cache
from hashlib import blake2s
from ipaddress import IPv4Address, IPv4Network, IPv6Interface
from pathlib import Path

from gred.config.model import TunnelConfig
from gred.control.mtu import carries_ipv6

_MACHINE_ID = Path("/etc/machine-id")  # machine-id(5)
_PREFIX = bytes((0xFE, 0x80, 0, 0, 0, 0, 0, 0))  # RFC 4291 §2.5.6

# What is not unique everywhere, as __ipv6_isatap_ifid in the kernel sees it.
_NOT_UNIQUE = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "224.0.0.0/4",
        "255.255.255.255/32",
    )
]


def link_local(config: TunnelConfig) -> IPv6Interface | None:
    """Return the link-local address to give the interface beside those that are configured.

    None where one is configured, and where no IPv6 is carried: with an address the kernel would
    send router solicitations and reports of its groups through the tunnel.
    """
    configured = any(own.version == 6 and own.ip.is_link_local for own in config.addresses)
    if configured or not carries_ipv6(config):
        return None
    return IPv6Interface((_PREFIX + _identifier(config), 64))


def _identifier(config: TunnelConfig) -> bytes:
    if config.mac_address is not None:
        return _from_mac_address(bytes.fromhex(config.mac_address.replace(":", "")))
    if isinstance(config.local, IPv4Address):
        return _from_ipv4(config.local)
    return _from_configuration(config, _secret())


def _from_mac_address(mac: bytes) -> bytes:
    """Return the modified EUI-64, as the kernel makes it. RFC 4291 appendix A."""
    return bytes((mac[0] ^ 0x02, *mac[1:3], 0xFF, 0xFE, *mac[3:]))


def _from_ipv4(address: IPv4Address) -> bytes:
    """Return what the kernel's GRE makes of it (addrconf_ifid_gre). RFC 5214 §6.1."""
    unique = not any(address in network for network in _NOT_UNIQUE)
    return bytes((0x02 if unique else 0, 0, 0x5E, 0xFE)) + address.packed


def _from_configuration(config: TunnelConfig, secret: bytes) -> bytes:
    """Return a hash of what names the tunnel, in the manner of RFC 7217 §5.

    An address that is found at run time is no part of it: it may be another one at the next start.
    """
    remote = config.remote_name or config.remote
    parts = (config.name, config.local_interface, config.local, remote, config.input_key)
    text = "\0".join("" if part is None else str(part) for part in parts)
    digest = bytearray(blake2s(text.encode(), key=secret, digest_size=8).digest())
    digest[0] &= 0xFC  # neither universal nor a group: made up. RFC 4291 §2.5.1
    digest[0] |= 0x04  # and never zero, which would be the subnet's routers. RFC 4291 §2.6.1
    return bytes(digest)


@cache
def _secret() -> bytes:
    """Return what is this machine's own: two of one configuration must not have one address."""
    try:
        own = _MACHINE_ID.read_bytes()
    except OSError:
        own = b""
    return blake2s(own.strip() or socket.gethostname().encode()).digest()
