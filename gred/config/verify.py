"""What no single value can tell: tunnels that clash, addresses that make no sense together.

Each check is a generator over values that were read without a problem; it knows no text and asks
no kernel. What only the running system can tell (a name that is taken, an address that is not
there, a route that changed) is the control plane's.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Generic, TypeVar

from gred.config.model import UDP_PORT, Config, IPAddress, IPNetwork, Location, TunnelConfig
from gred.config.problems import Problem

ETHERNET_MTU_MAX = 65521  # 64 KiB less the Ethernet header: the kernel's limit for a TAP device
IPV6_MTU_MIN = 1280  # every link that carries IPv6 has at least this MTU. RFC 8200 section 5
_T = TypeVar("_T")
_ME = "got its own name"
_BROADCAST = IPv4Address("255.255.255.255")
_NETMASKS = IPv4Network("255.0.0.0/8")  # reserved: no host has such an address. RFC 1112 §4


def verify(config: Config) -> list[Problem]:
    """Return what is wrong with *config* as a whole; nothing is raised."""
    problems: list[Problem] = []
    for tunnel in config.tunnels:
        for check in (
            _endpoints,
            _underlay,
            _transport,
            _overlay,
            _routes_to_remote,
            _mtu,
            _contradictions,
            _peers,
            _protocol,
            _allowed_sources,
            _keepalive,
            _keepalive_target,
            _probe_mtu,
            _ipsec,
        ):
            problems += check(tunnel)
    problems += _receivable(config.tunnels)
    problems += _shared_with_clear(config.tunnels)
    problems += _used_once(config.tunnels, "Address", _own_addresses)
    problems += _used_once(config.tunnels, "Route", _own_routes)
    return problems


def repeated_names(names: Iterable[tuple[str, Location]]) -> list[Problem]:
    """Return a problem for each tunnel name that an earlier one has, in whatever file."""
    first: dict[str, Location] = {}
    return [
        Problem(
            location,
            f"Tunnel {name}",
            None,
            f"expected a name of its own, got the name of the tunnel at {first[name]}",
        )
        for name, location in names
        if name and first.setdefault(name, location) is not location
    ]


def refuse_remote(tunnel: TunnelConfig) -> str:
    """Return why ``tunnel.remote``, found at run time, cannot be its other end; empty if it can."""
    if tunnel.remote is not None and tunnel.remote.is_multicast:
        return "expected a unicast address, got a multicast group"
    problems = [*_endpoints(tunnel), *_routes_to_remote(tunnel)]
    return next((problem.message for problem in problems), "")


def _problem(tunnel: TunnelConfig, option: str, message: str) -> Problem:
    return Problem(tunnel.place(option), f"Tunnel {tunnel.name}", option, message)


def _endpoints(tunnel: TunnelConfig) -> Iterator[Problem]:
    local, remote = tunnel.local, tunnel.remote
    sensible = True
    for option, address in (("Local", local), ("Remote", remote)):
        if address is not None and (reason := _refuse_endpoint(option, tunnel, address)):
            sensible = False
            yield _problem(tunnel, option, reason)
    if not sensible or remote is None:
        return
    if local is None:
        if remote.is_loopback and tunnel.local_interface is None:
            yield _problem(
                tunnel, "Local", f"expected a loopback address, as Remote={remote} is one, got any"
            )
    elif local.version != remote.version:
        yield _problem(
            tunnel,
            "Remote",
            f"expected an IPv{local.version} address, as Local={local} is one, got {remote}",
        )
    elif local == remote:
        yield _problem(tunnel, "Remote", f"expected another address than Local=, got {remote} too")
    elif local.is_loopback != remote.is_loopback:
        yield _problem(
            tunnel,
            "Remote",
            "expected two loopback addresses or none: what one end sends never reaches the other, "
            f"got Local={local} and Remote={remote}",
        )


def _refuse_endpoint(option: str, tunnel: TunnelConfig, address: IPAddress) -> str:
    """Return why *address* cannot be an end of a tunnel; empty if it can."""
    if address.is_unspecified:
        return f'expected an address, got {address} (write "any" for any address)'
    if address == _BROADCAST:
        return f"expected a unicast address, got the broadcast address {address}"
    if address.is_multicast:
        if option == "Local":
            return f"expected a unicast address, got the multicast group {address}"
        if tunnel.local is None and tunnel.local_interface is None:
            return f"a tunnel to the group {address} needs Local= too: it tells which link joins"
        if isinstance(address, IPv6Address) and tunnel.underlay_device is None:
            return f"a tunnel to the IPv6 group {address} needs Device= too"
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return f"expected {address.ipv4_mapped} for an IPv4 end, got {address}"
        if address.is_link_local and tunnel.underlay_device is None:
            return (
                f"expected an address that is valid beyond one link, got {address} "
                "(a link-local end needs Device=)"
            )
    return ""


def _protocol(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.protocol is not None and tunnel.mode == "gretap":
        yield _problem(
            tunnel, "Protocol", "expected Mode=gre: gretap carries Ethernet and no other"
        )


def _allowed_sources(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.allowed_sources and tunnel.mode == "gretap":
        yield _problem(
            tunnel, "AllowedSources", "expected Mode=gre: of Ethernet no inner sources are checked"
        )


def _peers(tunnel: TunnelConfig) -> Iterator[Problem]:
    """Many remotes instead of one."""
    option = "Peers" if tunnel.peers else "LearnPeers"
    if not tunnel.peers and not tunnel.learn_peers:
        return
    if tunnel.has_remote:
        yield _problem(tunnel, option, f"expected no Remote= beside it, got {tunnel.far_end}")
    if tunnel.mode == "gretap":
        yield _problem(tunnel, option, "expected Mode=gre: peers are found by inner IP addresses")
    if tunnel.learn_peers and tunnel.input_key is None:
        yield _problem(
            tunnel,
            "LearnPeers",
            "expected a key (Key= or InputKey=): without one, whoever sends is believed",
        )
    versions = {outer.version for _, outer in tunnel.peers}
    if tunnel.local is not None:
        versions.add(tunnel.local.version)
    if len(versions) > 1:
        yield _problem(tunnel, "Peers", "expected outer addresses of one IP version, got two")
    for _, outer in tunnel.peers:
        if outer.is_multicast or outer.is_unspecified or outer == tunnel.local:
            yield _problem(tunnel, "Peers", f"expected the address of another host, got {outer}")
    for (network, outer), times in Counter(tunnel.peers).items():
        if times > 1:
            yield _problem(tunnel, "Peers", f"expected {network}@{outer} once, got it twice")
    for network, places in Counter(network for network, _ in set(tunnel.peers)).items():
        if places > 1 and not network.is_multicast:
            yield _problem(
                tunnel,
                "Peers",
                f"expected one outer address for {network}, got {places} "
                "(only what is multicast can be sent to several)",
            )


def _keepalive(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.keepalive is None:
        return
    if tunnel.remote is not None and tunnel.remote.is_multicast:
        yield _problem(
            tunnel, "Keepalive", f"expected one host to answer, got the group {tunnel.remote}"
        )
    elif not tunnel.has_remote and not tunnel.peers:
        yield _problem(tunnel, "Keepalive", "expected Remote= or Peers= with it: who is to answer")


def _keepalive_target(tunnel: TunnelConfig) -> Iterator[Problem]:
    option, target = "KeepaliveTarget", tunnel.keepalive_target
    if target is None:
        return
    if tunnel.keepalive is None and tunnel.probe_mtu != "yes":
        yield _problem(tunnel, option, "expected Keepalive= with it: how often to ask")
    if not tunnel.has_remote:
        yield _problem(tunnel, option, "expected Remote= with it: one host to answer")
    if tunnel.mode == "gretap":
        yield _problem(tunnel, option, "expected Mode=gre: who has the address is not asked")
    if target.is_unspecified or target.is_multicast or target == _BROADCAST:
        yield _problem(tunnel, option, f"expected the inner address of one host, got {target}")
    elif any(target == own.ip for own in tunnel.addresses):
        yield _problem(
            tunnel, option, f"expected the address of the other end, got our own, {target}"
        )
    elif tunnel.remote == target:
        yield _problem(
            tunnel, option, f"expected an address inside the tunnel, got Remote=, {target}"
        )
    elif tunnel.echo_source is None:
        yield _problem(
            tunnel,
            option,
            f"expected an IPv{target.version} Address= to ask {target} from, got none",
        )


def _probe_mtu(tunnel: TunnelConfig) -> Iterator[Problem]:
    option = "ProbeMTU"
    if tunnel.probe_mtu != "yes":
        return
    if not tunnel.discover_path_mtu:
        yield _problem(
            tunnel,
            option,
            "expected DiscoverPathMTU=yes with it: with no, routers may fragment probes",
        )
    if tunnel.remote is not None and tunnel.remote.is_multicast:
        yield _problem(
            tunnel, option, f"expected one host to answer, got the group {tunnel.remote}"
        )
    elif not tunnel.has_remote and not tunnel.peers:
        yield _problem(tunnel, option, "expected Remote= or Peers= with it: who is to answer")


def _ipsec(tunnel: TunnelConfig) -> Iterator[Problem]:
    """Refuse what the kernel cannot be told beforehand: to whom nothing may pass in clear."""
    if tunnel.ipsec == "no":
        return
    if tunnel.transport != "ip":
        yield _problem(tunnel, "IPsec", "expected Transport=ip with it: UDP is not guarded yet")
    elif not tunnel.has_remote:
        who = "peers" if tunnel.peers or tunnel.learn_peers else "any"
        yield _problem(
            tunnel,
            "IPsec",
            f"expected Remote= with it, got {who}: protection is asked for between two addresses,"
            " so make it a tunnel for each of them",
        )
    elif tunnel.remote is not None and tunnel.remote.is_multicast:
        yield _problem(tunnel, "IPsec", f"expected one other end, got the group {tunnel.remote}")
    elif tunnel.remote is not None and tunnel.remote.is_loopback:
        yield _problem(
            tunnel, "IPsec", "expected another host: of the loopback IPsec protects nothing"
        )


def _shared_with_clear(tunnels: Sequence[TunnelConfig]) -> Iterator[Problem]:
    """Find tunnels without IPsec to a host to which another one wants nothing to be in clear.

    The kernel does not tell two tunnels to one host apart, whatever their keys.
    """
    guarded = {
        tunnel.remote or tunnel.remote_name: tunnel for tunnel in tunnels if tunnel.ipsec != "no"
    }
    for tunnel in tunnels:
        if tunnel.ipsec != "no" or tunnel.transport != "ip":
            continue
        remotes = (tunnel.remote, tunnel.remote_name, *(outer for _, outer in tunnel.peers))
        for remote in dict.fromkeys(remotes):
            other = None if remote is None else guarded.get(remote)
            if other is not None:
                yield _problem(
                    tunnel,
                    "IPsec",
                    f"expected IPsec=require, as [Tunnel {other.name}] at {other.place('IPsec')}"
                    f" lets nothing pass in clear to and from {remote}",
                )


def _underlay(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.local_interface == tunnel.name:
        yield _problem(tunnel, "Local", f"expected another interface than the tunnel's own, {_ME}")
    if tunnel.underlay_device == tunnel.name and tunnel.namespace is None:
        yield _problem(tunnel, "Device", f"expected another interface than the tunnel's own, {_ME}")
    if tunnel.family == 4 and (tunnel.remote_name is None or tunnel.local is not None):
        for option, value in (
            ("IPv6FlowLabel", tunnel.flow_label),
            ("EncapsulationLimit", tunnel.encapsulation_limit),
        ):
            if value is not None:
                yield _problem(
                    tunnel,
                    option,
                    f"expected an IPv6 Local or Remote with it, got {option}={value} alone",
                )


def _transport(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.transport != "udp":
        for option, value, default in (
            ("Port", tunnel.port, UDP_PORT),
            ("RemotePort", tunnel.remote_port, UDP_PORT),
            ("SourcePort", tunnel.source_port, None),
            ("UDPChecksum", tunnel.udp_checksum, True),
        ):
            if value != default:
                yield _problem(tunnel, option, "expected Transport=udp with it")
        return
    if tunnel.remote is not None and tunnel.remote.is_multicast:
        yield _problem(
            tunnel, "Transport", f"expected ip, as Remote= is a group, {tunnel.remote}, got udp"
        )


def _contradictions(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.ignore_dont_fragment and tunnel.discover_path_mtu:
        yield _problem(
            tunnel,
            "IgnoreDontFragment",
            "expected DiscoverPathMTU=no with it: with yes, Don't Fragment is set in any case",
        )
    if tunnel.mac_address is not None and tunnel.mode != "gretap":
        yield _problem(
            tunnel,
            "MACAddress",
            f"expected Mode=gretap with it: a {tunnel.mode} interface has no MAC address",
        )


def _overlay(tunnel: TunnelConfig) -> Iterator[Problem]:
    for interface in tunnel.addresses:
        address = interface.ip
        if address.is_unspecified or address.is_multicast or address == _BROADCAST:
            yield _problem(tunnel, "Address", f"expected unicast addresses, got {interface}")
        elif address in _NETMASKS:
            yield _problem(
                tunnel,
                "Address",
                f"expected unicast addresses, got {address} (a prefix instead of a netmask)",
            )


def _routes_to_remote(tunnel: TunnelConfig) -> Iterator[Problem]:
    """Find what would carry the tunnel's own outer packets into the tunnel.

    A default route is let through: it is there to be overruled, by a route to the remote too.
    Whether there is one, only the running system knows. It also knows where a device, a mark or
    another namespace leads: then such a route is no mistake.
    """
    remote = tunnel.remote
    if remote is None or _leads_elsewhere(tunnel):
        return
    why = f"{remote}: the tunnel would carry its own outer packets"
    for route in tunnel.routes:
        if route.prefixlen > 0 and remote in route:
            yield _problem(
                tunnel, "Route", f"expected networks without the Remote, got {route} with {why}"
            )
    for interface in tunnel.addresses:
        if interface.network.prefixlen > 0 and remote in interface.network:
            yield _problem(
                tunnel,
                "Address",
                f"expected prefixes without the Remote, got {interface} with {why}",
            )


def _leads_elsewhere(tunnel: TunnelConfig) -> bool:
    """Whether outer packets are routed by other routes than all packets of this host."""
    deciders = (tunnel.underlay_device, tunnel.firewall_mark, tunnel.namespace)
    return any(decider is not None for decider in deciders)


def _mtu(tunnel: TunnelConfig) -> Iterator[Problem]:
    if tunnel.mode == "gretap" and tunnel.mtu is not None and tunnel.mtu > ETHERNET_MTU_MAX:
        yield _problem(
            tunnel,
            "MTUBytes",
            f"expected at most {ETHERNET_MTU_MAX} with Mode=gretap, got {tunnel.mtu}",
        )
    needs = [str(own) for own in (*tunnel.addresses, *tunnel.routes) if own.version == 6]
    if tunnel.mtu is not None and tunnel.mtu < IPV6_MTU_MIN and needs:
        yield _problem(
            tunnel,
            "MTUBytes",
            f"expected at least {IPV6_MTU_MIN}, as {needs[0]} is IPv6, got {tunnel.mtu}",
        )


def _receivable(tunnels: Iterable[TunnelConfig]) -> Iterator[Problem]:
    """Find tunnels that one received packet would fit equally well.

    Checksums and sequence numbers do not tell tunnels apart, as in the kernel (ip_tunnel_find).
    Neither do mode and device here, though there they do.
    """
    first: dict[object, TunnelConfig] = {}
    for tunnel in tunnels:
        local = f"%{tunnel.local_interface}" if tunnel.local_interface else tunnel.local
        ends = (local, tunnel.remote or tunnel.remote_name, tunnel.input_key)
        other = first.setdefault((*ends, tunnel.family, tunnel.transport), tunnel)
        if other is not tunnel:
            near, far = ("any" if end is None else end for end in ends[:2])
            key = "no key" if tunnel.input_key is None else f"key {tunnel.input_key}"
            yield Problem(
                tunnel.location,
                f"Tunnel {tunnel.name}",
                None,
                f"expected another Local, Remote or input key than [Tunnel {other.name}] at "
                f"{other.location}, got the same (local {near}, remote {far}, {key}): "
                "a received packet would fit both",
            )


def _own_addresses(tunnel: TunnelConfig) -> list["_Owned[IPAddress]"]:
    """Return the addresses that no other interface may have; IPv6 link-local ones are per link."""
    return [
        _Owned(own.ip, tunnel.namespace)
        for own in tunnel.addresses
        if own.version == 4 or not own.ip.is_link_local
    ]


def _own_routes(tunnel: TunnelConfig) -> list["_Owned[IPNetwork]"]:
    return [_Owned(route, tunnel.namespace) for route in tunnel.routes]


@dataclass(frozen=True, slots=True)
class _Owned(Generic[_T]):
    """Something that there may be once in a network namespace."""

    item: _T
    namespace: str | None


def _used_once(
    tunnels: Iterable[TunnelConfig],
    option: str,
    items: Callable[[TunnelConfig], Iterable[_Owned[_T]]],
) -> Iterator[Problem]:
    """Find what is written twice under *option*, in one tunnel or in two."""
    first: dict[_Owned[_T], TunnelConfig] = {}
    for tunnel in tunnels:
        for owned in items(tunnel):
            if owned in first:
                other = first[owned]
                where = f"[Tunnel {other.name}] at {other.place(option)}"
                yield _problem(
                    tunnel, option, f"expected each once, got {owned.item} again, after {where}"
                )
            first.setdefault(owned, tunnel)
