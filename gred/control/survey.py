"""Looks at all tunnels at once, as the kernel sees them. Blocks: for threads only.

Asks; changes nothing and decides nothing but what a tunnel's surroundings are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from gred.config.model import IPAddress, TunnelConfig
from gred.control.interfaces import Difference
from gred.control.kernel.parts import Device, Kernel
from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.control.paths import cycles


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What outer packets leave from, where the configuration only names it.

    *local*: the address in use; None is any, or *no_local* says why there is none. *device*: index
    of the interface they leave through; 0 is none, or *no_device* says why it is not known.
    *filtered*: why netfilter may look at them one by one; empty if it does not. *group_device*:
    index of the device that joins the group, where the remote is one; None: there is none, now that
    the device or the address is gone, or no route leads there.
    """

    local: IPAddress | None = None
    no_local: str = ""
    device: int = 0
    no_device: str = ""
    filtered: str = ""
    group_device: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tunnel's surroundings are.

    *alive*: its interface exists, where gred put it or where it was moved to. *here*: it is where
    gred put it. *local_present*: its local address is one of this host, or any. *route*: to its
    remote; None without a remote. *loop*: the interfaces its packets pass until they are back;
    empty if never. *difference*: what its interface lacks; None if it was not looked at.
    """

    alive: bool = True
    here: bool = True
    local_present: bool = True
    route: Route | None = None
    loop: tuple[str, ...] = ()
    standing: Standing = Standing()
    difference: Difference | None = None


def survey(
    kernel: Kernel, tunnels: Sequence[tuple[TunnelConfig, Device]]
) -> dict[str, Observation]:
    """Return an observation for each tunnel, by name. Raises OSError or SetupError."""
    configs = [config for config, _device in tunnels]
    names = kernel.links()
    elsewhere = _elsewhere(kernel, {device.namespace for _config, device in tunnels})
    standings = _standings(kernel, configs, names)
    present = _present(kernel, standings)
    routes = _routes(kernel, configs, standings, present)
    leaves_by = {
        device.index: route.oif
        for config, device in tunnels
        # In another namespace an index is another interface's, and no outer packet comes there.
        if device.namespace is None and isinstance(route := routes.get(config.name), RouteInfo)
    }
    loops = cycles(leaves_by)
    steered = _steered(kernel, routes, looping=bool(loops))
    seen = {}
    for config, device in tunnels:
        here = device.index in (names if device.namespace is None else elsewhere[device.namespace])
        standing = standings[config.name]
        route = routes.get(config.name)
        loop: tuple[int, ...] = ()
        if config.remote is not None and config.remote.version in steered:
            # Rules for GRE alone lead somewhere a look-up does not show: neither "no route" nor
            # "loop" is known to be true.
            route = None if isinstance(route, NoRoute) and not standing.no_device else route
        elif device.namespace is None:
            loop = loops.get(device.index, ())
        if config.remote is not None and config.remote.is_multicast:
            standing = replace(standing, group_device=_group_device(standing, route, loop))
        seen[config.name] = Observation(
            alive=here or _is_attached(kernel, device),
            here=here,
            local_present=config.name in present,
            route=route,
            loop=tuple(names.get(index, str(index)) for index in loop),
            standing=standing,
        )
    return seen


def _is_attached(kernel: Kernel, device: Device) -> bool:
    try:
        return kernel.attached(device) is not None
    except OSError:
        return False  # one that cannot even be asked carries nothing


def _elsewhere(kernel: Kernel, namespaces: Collection[str | None]) -> dict[str, Collection[int]]:
    """Return the interfaces of other namespaces; none of one that is gone."""
    found: dict[str, Collection[int]] = {}
    for namespace in namespaces:
        if namespace is not None:
            try:
                found[namespace] = kernel.links(namespace)
            except OSError:
                found[namespace] = ()
    return found


def _standings(
    kernel: Kernel, configs: Sequence[TunnelConfig], names: dict[int, str]
) -> dict[str, Standing]:
    indexes = {name: index for index, name in names.items()}
    follows = any(config.local_interface is not None for config in configs)
    addresses = kernel.interface_addresses() if follows else {}
    filtered = kernel.filtered() if any(config.packet_socket for config in configs) else {}
    found = {}
    for config in configs:
        local, no_local = config.local, ""
        if (interface := config.local_interface) is not None:
            # Link-local addresses are of use only where the way out is given.
            usable = [
                address
                for address in addresses.get(indexes.get(interface, 0), [])
                if address.version == config.family
                and (config.device is not None or address.version == 4 or not address.is_link_local)
            ]
            local = next(iter(usable), None)
            if interface not in indexes:
                no_local = f"there is no interface {interface}"
            elif local is None:
                no_local = f"interface {interface} has no IPv{config.family} address"
        device, no_device = 0, ""
        if config.device is not None:
            device = indexes.get(config.device, 0)
            no_device = "" if device else f"there is no interface {config.device}"
        found[config.name] = Standing(
            local=local,
            no_local=no_local,
            device=device,
            no_device=no_device,
            filtered=filtered.get(config.family, ""),
        )
    return found


def _present(kernel: Kernel, standings: dict[str, Standing]) -> set[str]:
    """Return the tunnels whose local address is one of this host, or in their VRF, or any."""
    asked = {standing.local for standing in standings.values() if standing.local is not None}
    own = kernel.local_addresses(asked)
    found = set()
    for name, standing in standings.items():
        local, device = standing.local, standing.device
        if local is None:
            present = not standing.no_local
        else:
            present = local in own or bool(device and kernel.local_addresses([local], device))
        if present:
            found.add(name)
    return found


def _routes(
    kernel: Kernel,
    configs: Sequence[TunnelConfig],
    standings: Mapping[str, Standing],
    present: Collection[str],
) -> dict[str, Route]:
    """Return the route of each tunnel that has a remote; each distinct one is asked for once."""
    routes: dict[str, Route] = {}
    queries: dict[str, RouteQuery] = {}
    for config in configs:
        standing = standings[config.name]
        if config.remote is None:
            continue
        if standing.no_device:
            routes[config.name] = NoRoute(standing.no_device)
            continue
        # A source that is not there has no route at all; where the packets would go still counts.
        # And beside a source IPv6 takes the device for a wish only.
        strict = config.family == 6 and standing.device
        source = standing.local if config.name in present and not strict else None
        mark = config.firewall_mark or 0
        queries[config.name] = RouteQuery(config.remote, source, standing.device, mark)
    distinct = list(dict.fromkeys(queries.values()))
    answers = dict(zip(distinct, kernel.routes_to(distinct), strict=True))
    return routes | {name: answers[query] for name, query in queries.items()}


def _group_device(standing: Standing, route: Route | None, loop: Sequence[int]) -> int | None:
    if standing.device:
        return standing.device
    if standing.no_device or loop or not isinstance(route, RouteInfo):
        return None
    return route.oif


def _steered(kernel: Kernel, routes: Mapping[str, Route], *, looping: bool) -> set[int]:
    """Return the IP versions with routing rules for GRE; asked only when it makes a difference."""
    if looping or any(isinstance(route, NoRoute) for route in routes.values()):
        return kernel.versions_with_gre_rules()
    return set()
