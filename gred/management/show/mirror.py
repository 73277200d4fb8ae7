"""A tunnel -> the tunnel at its other end, so that both agree. Pure.

Ends, keys, checksums and sequence numbers change sides; what each end may choose alone (TTL, TOS,
Don't Fragment, MTU, keepalives) is the same at both; what is about this host is left out. The other
end's inner address is guessed: hosts 1 and 2 of a network are a pair, 3 and 4 are, and so on.
"""

from dataclasses import dataclass, replace
from ipaddress import ip_interface

from gred.config.model import IPAddress, IPInterface, IPNetwork, Location, TunnelConfig
from gred.control import mtu


@dataclass(frozen=True, slots=True)
class Opposite:
    """The other end, and sentences about what was guessed and what is not known here."""

    tunnel: TunnelConfig
    notes: tuple[str, ...]


def mirror(tunnel: TunnelConfig) -> Opposite:
    """Return the other end of *tunnel*."""
    notes: list[str] = []
    addresses, routes = _inner(tunnel, notes)
    other = TunnelConfig(
        name=tunnel.name,
        location=Location("", 1),
        mode=tunnel.mode,
        transport=tunnel.transport,
        port=tunnel.remote_port,
        remote_port=tunnel.port,
        source_port=tunnel.source_port,
        udp_checksum=tunnel.udp_checksum,
        local=_other_local(tunnel, notes),
        remote=_other_remote(tunnel, notes),
        addresses=addresses,
        routes=routes,
        input_key=tunnel.output_key,
        output_key=tunnel.input_key,
        input_checksum="require" if tunnel.output_checksum else "accept",
        output_checksum=tunnel.input_checksum == "require",
        input_sequence=tunnel.output_sequence,
        output_sequence=tunnel.input_sequence,
        ttl=tunnel.ttl,
        tos=tunnel.tos,
        discover_path_mtu=tunnel.discover_path_mtu,
        ignore_dont_fragment=tunnel.ignore_dont_fragment,
        encapsulation_limit=tunnel.encapsulation_limit,
        mtu=tunnel.mtu,
        protocol=tunnel.protocol,
        keepalive=tunnel.keepalive,
        keepalive_retries=tunnel.keepalive_retries,
        keepalive_target=tunnel.echo_source,
    )
    longest = max(mtu.overhead(tunnel), mtu.overhead(other))
    if tunnel.mtu is None and mtu.overhead(tunnel) != mtu.overhead(other):
        size = mtu.DEFAULT_ROUTE_MTU - longest
        other = replace(other, mtu=size)
        notes.append(
            f"headers differ by direction: MTU {size} suits both where the path carries"
            f" {mtu.DEFAULT_ROUTE_MTU}; give this end MTUBytes={size}, too"
        )
    if other.remote is None:
        other = replace(other, keepalive=None, keepalive_target=None)
    return Opposite(other, tuple(notes))


def _is_group(address: IPAddress | None) -> bool:
    return address is not None and address.is_multicast


def _other_local(tunnel: TunnelConfig, notes: list[str]) -> IPAddress | None:
    if _is_group(tunnel.remote):
        notes.append("the outer address of the other end is not known here: it has a group")
        return None
    if tunnel.remote_name is not None:
        notes.append(f"{tunnel.remote_name} is the other end: its address belongs in place of any")
    elif tunnel.remote is None:
        notes.append("Remote= is any: the outer address of the other end is not known here")
    return tunnel.remote


def _other_remote(tunnel: TunnelConfig, notes: list[str]) -> IPAddress | None:
    if _is_group(tunnel.remote):
        return tunnel.remote
    if tunnel.local is None:
        local = f"%{tunnel.local_interface}" if tunnel.local_interface else "any"
        notes.append(f"Local= is {local}: put the outer address of this end in place of any")
    return tunnel.local


def _inner(
    tunnel: TunnelConfig, notes: list[str]
) -> tuple[tuple[IPInterface, ...], tuple[IPNetwork, ...]]:
    """Return addresses and routes of the other end."""
    addresses: list[IPInterface] = []
    routes: list[IPNetwork] = []
    hosts = [route for route in tunnel.routes if route.prefixlen == route.max_prefixlen]
    for own in tunnel.addresses:
        if own.version == 6 and own.ip.is_link_local:
            continue
        named = tunnel.keepalive_target
        far = next((host for host in hosts if host.version == own.version), None)
        if own.network.prefixlen == own.max_prefixlen:
            if far is None:
                notes.append(f"{own} has no network: the inner address of the other end is open")
                continue
            hosts.remove(far)
            addresses.append(ip_interface(str(far)))
            routes.append(own.network)
        elif named is not None and named in own.network:
            addresses.append(ip_interface(f"{named}/{own.network.prefixlen}"))
        else:
            guess = _pair(own)
            addresses.append(guess)
            notes.append(f"{guess} is a guess: the host beside {own.ip} in {own.network}")
    if tunnel.addresses or tunnel.routes:
        notes.append("networks behind this end are routed there, too: this end does not know them")
    return tuple(addresses), tuple(routes)


def _pair(own: IPInterface) -> IPInterface:
    """Return the other host of the pair: 1 and 2, 3 and 4; of a /31 or /127, 0 and 1."""
    first = int(own.network.network_address)
    number, last = int(own.ip) - first, own.network.num_addresses - 1
    if last == 1:
        other = 1 - number
    else:
        last -= own.version == 4  # the broadcast address
        other = number + 1 if number % 2 or number == 0 else number - 1
        other = other if other <= last else number - 1
    kind = type(own.ip)
    return ip_interface((kind(first + other), own.network.prefixlen))
