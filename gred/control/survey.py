"""Looks at all tunnels at once, as the kernel sees them. Blocks: for threads only.

Asks; changes nothing and decides nothing but what a tunnel's surroundings are.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gred.config.model import IPAddress, TunnelConfig
from gred.control.kernel.parts import Actual, Device, InterfaceSettings, Kernel
from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.control.paths import cycles
from gred.control.protection import Flow, Protection, judge, unknown, wants_ipsec


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """What outer packets leave from, where the configuration only names it.

    *local*: the address in use; None is any, or *no_local* says why there is none. *device*: index
    of the interface they leave through; 0 is none, or *no_device* says why it is not known.
    *filtered*: why netfilter may look at them one by one; empty if it does not. *group_device*:
    index of the device that joins the group, where the remote is one; None: there is none, now that
    the device or the address is gone, or no route leads there. *protection*: what IPsec does to
    them; None: nothing, and nothing is wanted.
    """

    local: IPAddress | None = None
    no_local: str = ""
    device: int = 0
    no_device: str = ""
    filtered: str = ""
    group_device: int | None = None
    protection: Protection | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What a tunnel's surroundings are.

    *alive*: its interface exists, where gred put it or where it was moved to. *here*: it is where
    gred put it. *local_present*: its local address is one of this host, or any. *route*: to its
    remote; None without a remote. *loop*: the interfaces its packets pass until they are back;
    empty if never. *inside*: a hash of what its interface is; None if it was not looked at.
    """

    alive: bool = True
    here: bool = True
    local_present: bool = True
    route: Route | None = None
    loop: tuple[str, ...] = ()
    binding: Binding = Binding()
    inside: int | None = None


def survey(
    kernel: Kernel, tunnels: Sequence[tuple[TunnelConfig, Device]]
) -> dict[str, Observation]:
    """Return an observation for each tunnel, by name. Raises OSError or SetupError."""
    configs = [config for config, _device in tunnels]
    names = kernel.links()
    elsewhere = _elsewhere(kernel, {device.namespace for _config, device in tunnels})
    bindings = _bindings(kernel, configs, names)
    present = _present(kernel, bindings)
    routes = _routes(kernel, configs, bindings, present)
    leaves_by = {
        device.index: route.oif
        for config, device in tunnels
        # In another namespace an index is another interface's, and no outer packet comes there.
        if device.namespace is None and isinstance(route := routes.get(config.name), RouteInfo)
    }
    loops = cycles(leaves_by)
    protections = _protections(kernel, configs, bindings, routes)
    steered = _steered(kernel, routes, looping=bool(loops))
    seen = {}
    for config, device in tunnels:
        here = device.index in (names if device.namespace is None else elsewhere[device.namespace])
        binding = replace(bindings[config.name], protection=protections.get(config.name))
        route = routes.get(config.name)
        loop: tuple[int, ...] = ()
        if config.remote is not None and config.remote.version in steered:
            # Rules for GRE alone lead somewhere a look-up does not show: neither "no route" nor
            # "loop" is known to be true.
            route = None if isinstance(route, NoRoute) and not binding.no_device else route
        elif device.namespace is None:
            loop = loops.get(device.index, ())
        if config.remote is not None and config.remote.is_multicast:
            binding = replace(binding, group_device=_group_device(binding, route, loop))
        seen[config.name] = Observation(
            alive=here or _is_attached(kernel, device),
            here=here,
            local_present=config.name in present,
            route=route,
            loop=tuple(names.get(index, str(index)) for index in loop),
            binding=binding,
        )
    return seen


def interfaces(kernel: Kernel, wanted: Iterable[InterfaceSettings]) -> dict[str, Actual]:
    """Ask for all interfaces of each namespace at once; return what they are, by name.

    Those that are not where they are *wanted* are left out. Raises OSError.
    """
    found: dict[str, Actual] = {}
    by_namespace: dict[str | None, list[InterfaceSettings]] = {}
    for settings in wanted:
        by_namespace.setdefault(settings.namespace, []).append(settings)
    for namespace, here in by_namespace.items():
        try:
            actual = kernel.actual(here, namespace)
        except OSError:
            if namespace is None:
                raise
            continue  # it is gone, with all that was in it
        for settings in here:
            if settings.index in actual:
                found[settings.name] = actual[settings.index]
    return found


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


def _bindings(
    kernel: Kernel, configs: Sequence[TunnelConfig], names: dict[int, str]
) -> dict[str, Binding]:
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
                and (config.underlay_device or address.version == 4 or not address.is_link_local)
            ]
            local = next(iter(usable), None)
            if interface not in indexes:
                no_local = f"there is no interface {interface}"
            elif local is None:
                no_local = f"interface {interface} has no IPv{config.family} address"
        device, no_device = 0, ""
        if config.underlay_device is not None:
            device = indexes.get(config.underlay_device, 0)
            no_device = "" if device else f"there is no interface {config.underlay_device}"
        found[config.name] = Binding(
            local=local,
            no_local=no_local,
            device=device,
            no_device=no_device,
            filtered=filtered.get(config.family, ""),
        )
    return found


def _present(kernel: Kernel, bindings: dict[str, Binding]) -> set[str]:
    """Return the tunnels whose local address is one of this host, or in their VRF, or any."""
    asked = {binding.local for binding in bindings.values() if binding.local is not None}
    own = kernel.local_addresses(asked)
    found = set()
    for name, binding in bindings.items():
        local, device = binding.local, binding.device
        if local is None:
            present = not binding.no_local
        else:
            present = local in own or bool(device and kernel.local_addresses([local], device))
        if present:
            found.add(name)
    return found


def _routes(
    kernel: Kernel,
    configs: Sequence[TunnelConfig],
    bindings: Mapping[str, Binding],
    present: Collection[str],
) -> dict[str, Route]:
    """Return the route of each tunnel that has a remote; each distinct one is asked for once."""
    routes: dict[str, Route] = {}
    queries: dict[str, RouteQuery] = {}
    for config in configs:
        binding = bindings[config.name]
        if config.remote is None:
            continue
        if binding.no_device:
            routes[config.name] = NoRoute(binding.no_device)
            continue
        # A source that is not there has no route at all; where the packets would go still counts.
        # And beside a source IPv6 takes the device for a wish only.
        strict = config.family == 6 and binding.device
        source = binding.local if config.name in present and not strict else None
        mark = config.firewall_mark or 0
        queries[config.name] = RouteQuery(config.remote, source, binding.device, mark)
    distinct = list(dict.fromkeys(queries.values()))
    answers = dict(zip(distinct, kernel.routes_to(distinct), strict=True))
    return routes | {name: answers[query] for name, query in queries.items()}


def _protections(
    kernel: Kernel,
    configs: Sequence[TunnelConfig],
    bindings: Mapping[str, Binding],
    routes: Mapping[str, Route],
) -> dict[str, Protection]:
    """Return what IPsec does to the packets of tunnels with one remote, where it does anything.

    Of those that require it all are asked for; of others only those that an association is used
    for: to ask for the rest would have an IKE daemon make one.
    """
    asked = [config for config in configs if _may_be_protected(config)]
    if not asked:
        return {}
    try:
        tables = kernel.ipsec()
    except OSError as error:
        return {one.name: unknown(error) for one in asked if one.ipsec != "no"}
    found = {}
    for config in asked:
        binding, route, remote = bindings[config.name], routes.get(config.name), config.remote
        if remote is None:
            continue
        local, device, mtu = binding.local, 0, None
        if isinstance(route, RouteInfo):
            local, device, mtu = local or route.prefsrc, route.oif, route.mtu
        mark = config.firewall_mark or 0
        flow = Flow(local, remote, device, mark, mtu)
        if config.ipsec != "no" or wants_ipsec(tables, flow):
            query = RouteQuery(remote, binding.local, binding.device, mark)
            found[config.name] = judge(tables, flow, kernel.told_mtu(query))
    return found


def _may_be_protected(config: TunnelConfig) -> bool:
    is_one = config.remote is not None and not config.remote.is_multicast
    return is_one and config.transport == "ip"


def _group_device(binding: Binding, route: Route | None, loop: Sequence[int]) -> int | None:
    if binding.device:
        return binding.device
    if binding.no_device or loop or not isinstance(route, RouteInfo):
        return None
    return route.oif


def _steered(kernel: Kernel, routes: Mapping[str, Route], *, looping: bool) -> set[int]:
    """Return the IP versions with routing rules for GRE; asked only when it makes a difference."""
    if looping or any(isinstance(route, NoRoute) for route in routes.values()):
        return kernel.versions_with_gre_rules()
    return set()
