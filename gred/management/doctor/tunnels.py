"""Looks at each configured tunnel: its interface, its addresses, the way to its remotes.

Asks the kernel and files; changes nothing and sends nothing. What cannot be seen is left unknown.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from gred.config.model import IPAddress, IPInterface, IPNetwork, TunnelConfig
from gred.control.errors import words
from gred.control.interfaces import compare
from gred.control.kernel import messages, settings, xfrm
from gred.control.kernel.drivers import has_carrier, hears, offloads
from gred.control.kernel.namespaces import inside
from gred.control.kernel.netlink import Netlink
from gred.control.kernel.parts import Actual, InterfaceSettings
from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.control.kernel.shields import is_shield
from gred.control.mtu import DEFAULT_ROUTE_MTU, carries_ipv6, overhead, tunnel_mtu
from gred.control.overlaps import Overlaps
from gred.management import check
from gred.management.doctor import networkd
from gred.management.doctor.facts import IPsec, Remote, Tunnel, Underlay, Unseen
from gred.management.doctor.filters import is_there
from gred.management.naming import Resolved

T = TypeVar("T")

_DEVICES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class _Space:
    """What the interfaces of one network namespace are and have."""

    names: dict[int, str]
    networks: dict[str, list[IPInterface]]


def look(names: Resolved, root: Path) -> tuple[Tunnel, ...] | Unseen:
    """Return what each tunnel is, and what it would be."""
    ipsec = _tables()
    # Where IPsec may want a state, no socket may be connected.
    is_plain = not isinstance(ipsec, Unseen) and not ipsec.policies
    kernel = Netlink(connects=is_plain)
    try:
        return tuple(_Looking(kernel, names, root, ipsec).tunnels())
    except OSError as error:
        return Unseen(f"netlink: {words(error)}")


def underlays(tunnels: Sequence[Tunnel]) -> tuple[Underlay, ...]:
    """Return the devices that outer packets of *tunnels* come and go by."""
    wanted = dict.fromkeys(
        name
        for tunnel in tunnels
        for name in (*(remote.device for remote in tunnel.remotes), tunnel.local_device)
        if name and name not in {other.name for other in tunnels}
    )
    kernel = Netlink()
    try:
        indexes = {name: index for index, name in kernel.links().items()}
        actual = _actual(kernel, [indexes[name] for name in wanted if name in indexes])
    except OSError:
        return ()
    return tuple(
        _underlay(name, actual[indexes[name]].mtu)
        for name in wanted
        if name in indexes and indexes[name] in actual
    )


def _tables() -> xfrm.Tables | Unseen:
    if not is_there("xfrm_user"):
        return xfrm.Tables()
    try:
        return xfrm.tables()
    except OSError as error:
        return Unseen(f"policies: {words(error)}")


def _actual(kernel: Netlink, indexes: Iterable[int]) -> dict[int, Actual]:
    wanted = [InterfaceSettings(place="", index=index, name="", mtu=0) for index in indexes]
    return kernel.actual(wanted, None)


def _underlay(name: str, mtu: int) -> Underlay:
    try:
        features: dict[str, bool] | Unseen = offloads(name)
    except OSError as error:
        features = Unseen(f"offloads: {words(error)}")
    return Underlay(
        name=name,
        mtu=mtu,
        rp_filter=_try(lambda: settings.rp_filter(name)) or 0,
        offloads=features,
        physical=(_DEVICES / name / "device").exists(),
        hears=_try(lambda: hears(name)) is not False,
    )


def _try(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except OSError:
        return None


class _Looking:
    """One look at all tunnels; what is the same for several is asked once."""

    def __init__(
        self, kernel: Netlink, names: Resolved, root: Path, ipsec: xfrm.Tables | Unseen
    ) -> None:
        self._kernel = kernel
        self._config, self._unresolved = names.config, names.unknown
        self._root = root
        self._files = networkd.files(root)
        self._spaces: dict[str | None, _Space | None] = {None: self._space(None)}
        here = self._spaces[None] or _Space({}, {})
        self._names = here.names
        self._indexes = {name: index for index, name in here.names.items()}
        self._steered = kernel.versions_with_gre_rules()
        self._own = kernel.interface_addresses()
        self._ipsec = ipsec

    def tunnels(self) -> list[Tunnel]:
        view = check.look(self._config, self._kernel)
        loops = {
            loop.tunnel.name: loop
            for loop in check.loops(self._config, view)
            if loop.certain or not self._has_better(loop.tunnel)
        }
        return [self._tunnel(config, loops.get(config.name)) for config in self._config.tunnels]

    def _has_better(self, config: TunnelConfig) -> bool:
        """Tell whether a route of the kernel's goes before the configured ones to a remote."""
        remote = config.remote
        lengths = [
            network.prefixlen
            for other in self._config.tunnels
            for network in (*other.routes, *(own.network for own in other.addresses))
            if remote is not None and remote in network
        ]
        if remote is None or not lengths:
            return False
        with Rtnetlink() as kernel:
            answer = kernel.exchange(
                [messages.route_query(RouteQuery(remote), as_configured=True)]
            )[0]
        return not answer.error and messages.read_prefix_length(answer) > max(lengths)

    def _space(self, namespace: str | None) -> _Space | None:
        try:
            return _Space(self._kernel.links(namespace), self._kernel.networks(namespace))
        except OSError:
            return None

    def _tunnel(self, config: TunnelConfig, loop: check.Loop | None) -> Tunnel:
        local, missing = self._local(config)
        remotes = self._remotes(config, local if not missing else None)
        route_mtu = remotes[0].mtu if config.remote is not None and remotes else None
        computed = tunnel_mtu(config, route_mtu or DEFAULT_ROUTE_MTU)
        if config.namespace not in self._spaces:
            self._spaces[config.namespace] = self._space(config.namespace)
        space = self._spaces[config.namespace]
        exists, up, mtu, lacks = self._interface(config, space, computed)
        overlapping = Overlaps(space.networks).of(config.name, config.addresses) if space else ()
        versions = sorted({network.version for network in config.routes})
        tunnels = {other.name for other in self._config.tunnels}
        beside = {"lo", *tunnels, *(remote.device for remote in remotes)}
        return Tunnel(
            name=config.name,
            where=str(config.location),
            mode=config.mode,
            port=config.port if config.transport == "udp" else None,
            remote_port=config.remote_port if config.transport == "udp" else None,
            namespace=config.namespace,
            local=local,
            local_interface=config.local_interface,
            local_device=self._device_of(local),
            local_missing=missing,
            unresolved=self._unresolved.get(config.name, ""),
            remotes=remotes,
            loop=() if loop is None else loop.way,
            loop_certain=loop is not None and loop.certain,
            steered=config.family in self._steered,
            exists=exists,
            up=up,
            carrier=self._inside(config, lambda: has_carrier(config.name)) if exists else None,
            asks=_asked(config),
            follows_carrier=config.keepalive is not None and config.carrier == "keepalive",
            ipv6_follows_carrier=self._inside(
                config, lambda: settings.ipv6_follows_carrier(config.name)
            )
            if carries_ipv6(config)
            else None,
            missing=lacks,
            mtu_configured=config.mtu,
            mtu_computed=computed,
            mtu=mtu,
            overhead=overhead(config),
            fragments=not config.discover_path_mtu,
            routes=config.routes,
            rp_filter=self._inside(config, lambda: settings.rp_filter(config.name)),
            elsewhere=self._elsewhere(config) if exists and config.namespace is None else (),
            overlaps=tuple(overlapping),
            forwarding={
                str(version): state
                for version in versions
                if (state := self._inside(config, _forwards(version))) is not None
            },
            between=space is not None
            and any(
                own.version in versions and not own.ip.is_link_local
                for name, addresses in space.networks.items()
                if name not in beside
                for own in addresses
            ),
            network_file=None
            if config.namespace is not None
            else networkd.matching(config.name, config.mode, self._files, self._root),
        )

    def _inside(self, config: TunnelConfig, work: Callable[[], T]) -> T | None:
        return _try(lambda: inside(config.namespace, work))

    def _local(self, config: TunnelConfig) -> tuple[IPAddress | None, str]:
        """Return the local address in use, and why there is none."""
        if (interface := config.local_interface) is not None:
            index = self._indexes.get(interface)
            if index is None:
                return None, f"there is no interface {interface}"
            usable = [
                address
                for address in self._own.get(index, [])
                if address.version == config.family
                and (config.underlay_device or address.version == 4 or not address.is_link_local)
            ]
            if not usable:
                return None, f"interface {interface} has no IPv{config.family} address"
            return usable[0], ""
        if (local := config.local) is None:
            return None, ""
        device = self._indexes.get(config.underlay_device or "", 0)
        present = self._kernel.local_addresses([local]) or (
            device and self._kernel.local_addresses([local], device)
        )
        return local, "" if present else f"no interface has {local}"

    def _device_of(self, address: IPAddress | None) -> str:
        for index, own in self._own.items():
            if address is not None and address in own:
                return self._names.get(index, "")
        return ""

    def _remotes(self, config: TunnelConfig, source: IPAddress | None) -> tuple[Remote, ...]:
        addresses = [peer for _network, peer in config.peers]
        if config.remote is not None:
            addresses = [config.remote]
        addresses = list(dict.fromkeys(addresses))
        device = self._indexes.get(config.underlay_device or "", 0)
        if config.underlay_device is not None and not device:
            reason = f"there is no interface {config.underlay_device}"
            return tuple(Remote(address=address, no_route=reason) for address in addresses)
        mark = config.firewall_mark or 0
        # Beside a source IPv6 takes the device for a wish only.
        asked_source = None if config.family == 6 and device else source
        queries = [RouteQuery(address, asked_source, device, mark) for address in addresses]
        plain = [RouteQuery(address) for address in addresses]
        routes = self._kernel.routes_to([*queries, *plain])
        return tuple(
            self._remote(config, query, source, route, back)
            for query, route, back in zip(
                queries, routes[: len(queries)], routes[len(queries) :], strict=True
            )
        )

    def _remote(
        self,
        config: TunnelConfig,
        query: RouteQuery,
        source: IPAddress | None,
        route: Route,
        back: Route,
    ) -> Remote:
        if isinstance(route, NoRoute):
            return Remote(address=query.destination, no_route=route.reason)
        return Remote(
            address=query.destination,
            device=self._names.get(route.oif, str(route.oif)),
            gateway=route.gateway,
            source=source or route.prefsrc,
            mtu=route.mtu,
            learned_mtu=_learned(query),
            back=self._names.get(way_back(query, route, back), ""),
            ipsec=self._protection(query, source or route.prefsrc)
            if config.transport == "ip"
            else Unseen("of UDP not looked at"),
        )

    def _protection(self, query: RouteQuery, source: IPAddress | None) -> IPsec | Unseen:
        if isinstance(self._ipsec, Unseen):
            return self._ipsec
        policy = self._ipsec.outbound(source, query.destination)
        inbound = self._ipsec.inbound(query.destination, source)
        has_state = policy is not None and self._ipsec.has_state(policy, query.destination)
        largest, error = None, ""
        if self._ipsec.policies and (policy is None or not policy.ends or has_state):
            # Otherwise the kernel would ask for a state, and the IKE daemon would send. Without
            # policies there is nothing to hear, and other gred would see the socket.
            try:
                told = xfrm.largest(source, query.destination, device=query.device, mark=query.mark)
            except OSError as refused:
                error = f"not asked: {words(refused)} (needs CAP_NET_RAW)"
            else:
                if isinstance(told, OSError):
                    error = words(told)
                else:
                    largest = told
        return IPsec(
            policy=_kind(policy),
            inbound=_kind(inbound),
            state=has_state and bool(policy and policy.ends),
            largest=largest,
            error=error,
        )

    def _interface(
        self, config: TunnelConfig, space: _Space | None, computed: int
    ) -> tuple[bool | None, bool | None, int | None, str]:
        """Return whether the interface exists and is up, its MTU, and what it lacks, in words."""
        if space is None:
            return None, None, None, ""
        index = {name: number for number, name in space.names.items()}.get(config.name)
        if index is None:
            return False, None, None, ""
        wanted = InterfaceSettings(
            place="",
            index=index,
            name=config.name,
            mtu=computed,
            addresses=config.addresses,
            routes=config.routes,
            mac_address=config.mac_address,
            namespace=config.namespace,
        )
        actual = _try(lambda: self._kernel.actual([wanted], config.namespace).get(index))
        if actual is None:
            return True, None, None, ""
        # What its MTU should be is a finding of its own.
        found = compare(replace(wanted, mtu=actual.mtu), actual)
        return True, actual.up, actual.mtu, "" if found.down else found.sentence

    def _elsewhere(self, config: TunnelConfig) -> tuple[IPNetwork, ...]:
        """Return the networks of the tunnel that this host routes by another interface."""
        index = self._indexes.get(config.name)
        networks = list(dict.fromkeys([*config.routes, *(a.network for a in config.addresses)]))
        # The first address beyond that of the network itself, where there is one.
        inner = [network[min(1, network.num_addresses - 1)] for network in networks]
        own = {address.ip for address in config.addresses}
        asked = [
            (network, address)
            for network, address in zip(networks, inner, strict=True)
            if address not in own
        ]
        try:
            answers = self._kernel.routes_to([(address, None) for _network, address in asked])
        except OSError:
            return ()
        return tuple(
            network
            for (network, _address), answer in zip(asked, answers, strict=True)
            if isinstance(answer, RouteInfo) and answer.oif != index
        )


def way_back(query: RouteQuery, route: RouteInfo, back: Route) -> int:
    """Return the interface that the kernel finds on the way back; 0: nobody can tell.

    *back*: the route without mark and device, which a packet that arrives has not. In a VRF the way
    back is looked for in there as well: that is where a route leads by another device than asked.
    """
    if query.device and route.oif != query.device:
        return route.oif
    return back.oif if isinstance(back, RouteInfo) else 0


def _asked(config: TunnelConfig) -> str:
    """Say whom a tunnel asks for signs of life; empty: nobody."""
    if config.keepalive is None:
        return ""
    if config.remote is not None:
        return str(config.keepalive_target or config.remote)
    return f"{len({outer for _network, outer in config.peers})} remotes"


def _kind(policy: xfrm.Policy | None) -> str:
    if policy is None:
        return "none"
    if is_shield(policy):
        return "shield"
    if policy.blocks:
        return "block"
    return "protect" if policy.ends else "allow"


def _forwards(version: int) -> Callable[[], bool]:
    return lambda: settings.forwards(version)


def _learned(query: RouteQuery) -> int | None:
    """Return what the kernel has learned of the path's MTU, if anything."""
    try:
        with Rtnetlink() as kernel:
            answer = kernel.exchange([messages.route_query(query)])[0]
    except OSError:
        return None
    return None if answer.error else messages.read_learned_mtu(answer)
