"""``gred check``: a configuration in full, and what gred would do with it, in ip(8) terms.

Nothing here changes anything. The kernel is asked for routes and addresses; where it cannot be
asked, what it would have said is left out.
"""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gred.config import Config, ConfigurationError, TunnelConfig, load, render
from gred.config.model import IPAddress
from gred.config.problems import display
from gred.control import mtu
from gred.control.errors import ExitCode
from gred.control.kernel.parts import Kernel
from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.control.overlaps import shared
from gred.control.paths import cycles
from gred.control.probing import is_probing
from gred.control.receivers import Others, Receivers, kernels, rivals
from gred.control.twins import Claim, claim
from gred.management import account, terms
from gred.management.logs import complain


def check(path: Path, *, quiet: bool = False) -> int:
    """Validate *path*; print the effective configuration and the plan; return the exit code.

    What is printed is itself a configuration: all but the options is comment. *quiet*: nothing is
    printed but what is wrong, and the kernel is not asked.
    """
    config = read(path)
    if config is None:
        return int(ExitCode.BAD_CONFIGURATION)
    if quiet:
        return int(ExitCode.OK)
    from gred.management import naming  # noqa: PLC0415 - the daemon has its own way

    kernel = _kernel()
    written, names = config, naming.resolve(config)
    config = names.config
    view = replace(look(config, kernel), unresolved=names.unknown, found=names.found)
    if kernel is not None:
        view = replace(view, others=Receivers().look())
    plan = [f"# {line}".rstrip() for line in describe(config, view)]
    print(render(written), *plan, sep="\n")
    for warning in (*warnings(config, view), *programs(config), *account.complaints(path)):
        print(f"warning: {warning}", file=sys.stderr)
    return int(ExitCode.OK)


def read(path: Path) -> Config | None:
    """Load *path*, or say on stderr everything that is wrong with it."""
    try:
        return load(path)
    except ConfigurationError as error:
        for problem in error.problems:
            complain(str(problem))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the kernel says of the addresses in a configuration; empty where it was not asked."""

    links: dict[int, str] = field(default_factory=dict)
    routes: dict[str, Route] = field(default_factory=dict)  # by the name of the tunnel
    foreign: frozenset[IPAddress] = frozenset()  # configured as local, not found on this host
    others: Others = field(default_factory=Others)  # who else takes GRE
    shared: dict[str, list[str]] = field(default_factory=dict)  # tunnel -> what others have too
    addresses: dict[str, list[IPAddress]] = field(default_factory=dict)  # by interface, best first
    found: Mapping[str, Sequence[IPAddress]] = field(default_factory=dict)  # what names have now
    unresolved: Mapping[str, str] = field(default_factory=dict)  # tunnel -> why its name has none


def look(config: Config, kernel: Kernel | None) -> View:
    """Ask *kernel* what the plan depends on."""
    if kernel is None:
        return View()
    ends = [(tunnel, tunnel.remote) for tunnel in config.tunnels]
    routed = [(tunnel, remote) for tunnel, remote in ends if remote is not None]
    locals_ = {tunnel.local for tunnel in config.tunnels if tunnel.local is not None}
    try:
        links = kernel.links()
        indexes = {name: index for index, name in links.items()}
        answers = kernel.routes_to(
            [
                RouteQuery(
                    remote,
                    tunnel.local,
                    indexes.get(tunnel.underlay_device or "", 0),
                    tunnel.firewall_mark or 0,
                )
                for tunnel, remote in routed
            ]
        )
        return View(
            links=links,
            routes={
                tunnel.name: answer for (tunnel, _), answer in zip(routed, answers, strict=True)
            },
            foreign=frozenset(locals_ - kernel.local_addresses(locals_)),
            shared=_shared(kernel, config),
            addresses={
                links.get(index, ""): own for index, own in kernel.interface_addresses().items()
            },
        )
    except OSError:
        return View()


def _shared(kernel: Kernel, config: Config) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for tunnel, sentence in shared(kernel, config.tunnels):
        found.setdefault(tunnel.name, []).append(sentence)
    return found


def describe(config: Config, view: View) -> Iterator[str]:
    """Yield what gred would do, a line each."""
    if not config.tunnels:
        yield "No tunnels: gred would wait for a configuration that has some."
        return
    yield "What gred does with this, in ip(8) terms. It all goes when gred stops."
    for tunnel in config.tunnels:
        route = view.routes.get(tunnel.name)
        yield ""
        yield f"{tunnel.name}: {terms.outer(tunnel)}"
        yield from (f"  {line}" for line in terms.making(tunnel, _mtu(tunnel, route)))
        if found := view.found.get(tunnel.name):
            yield f"  {tunnel.remote_name} has {', '.join(map(str, found))} now{_again(tunnel)}"
        yield f"  {_arithmetic(tunnel, route)}"
        yield from (f"  {line}" for line in _asking(tunnel))
        if isinstance(route, RouteInfo):
            device = view.links.get(route.oif, str(route.oif))
            via = f" via {route.gateway}" if route.gateway else ""
            source = f" src {route.prefsrc}" if route.prefsrc and not tunnel.local else ""
            yield f"  outer packets now leave{via} dev {device}{source}"


def warnings(config: Config, view: View) -> Iterator[str]:
    """Yield what is no error of the configuration, and would keep packets from passing now."""
    if not config.tunnels:
        yield f"{config.file}: no tunnels configured"
    for tunnel in config.tunnels:
        where = f"{tunnel.location}: [Tunnel {tunnel.name}]"
        yield from tunnel.notes
        for sentence in view.shared.get(tunnel.name, []):
            yield f"{tunnel.place('Address')}: [Tunnel {tunnel.name}] Address: {sentence}"
        route = view.routes.get(tunnel.name)
        if tunnel.local in view.foreign:
            yield f"{where} Local: no interface has {tunnel.local} now"
        if why := view.unresolved.get(tunnel.name):
            yield f"{tunnel.place('Remote')}: [Tunnel {tunnel.name}] Remote: {why}"
        if isinstance(route, NoRoute):
            yield f"{where} Remote: no route to {tunnel.remote} now: {route.reason}"
        if tunnel.name in view.links.values():
            yield f"{where}: interface {tunnel.name} exists now (of a gred that runs?)"
    yield from _loops(config, view)
    yield from _twins(config, view)
    yield from _others(config, view)


def programs(config: Config) -> Iterator[str]:
    """Yield what keeps programs of PostUp= and its like from running, a line each."""
    written = [
        (tunnel, option, Path(command[0]))
        for tunnel in config.tunnels
        for option, command in (
            ("PostUp", tunnel.post_up),
            ("PreDown", tunnel.pre_down),
            ("OnStateChange", tunnel.on_state_change),
        )
        if command
    ]
    if not written:
        return
    bad = account.unrunnable(dict.fromkeys(program for _tunnel, _option, program in written))
    for tunnel, option, program in written:
        if program in bad:
            where = f"{tunnel.place(option)}: [Tunnel {tunnel.name}] {option}"
            yield f"{where}: {display(program)}: {bad[program]}"


def _twins(config: Config, view: View) -> Iterator[str]:
    """Find tunnels whose local addresses may come to the same: one of them would be held down."""
    now: dict[Claim, TunnelConfig] = {}
    ever: dict[Claim, list[TunnelConfig]] = {}
    for tunnel in config.tunnels:
        if tunnel.local is None and tunnel.local_interface is None:
            continue
        where = f"{tunnel.location}: [Tunnel {tunnel.name}] Local:"
        local = _local_now(tunnel, view)
        others = ever.setdefault(claim(tunnel, None), [])
        other = now.setdefault(claim(tunnel, local), tunnel) if local is not None else tunnel
        if other is not tunnel:
            yield f"{where} {local} is that of [Tunnel {other.name}] now: this one is held down"
        else:
            for one in others:
                # Two interfaces as a rule have two addresses; that one gets a given one may be.
                if (one.local_interface is None) != (tunnel.local_interface is None):
                    address = one.local or tunnel.local
                    interface = one.local_interface or tunnel.local_interface
                    yield (
                        f"{where} while {interface} has {address},"
                        f" [Tunnel {one.name}] takes the same packets and this one is held down"
                    )
        others.append(tunnel)


def _others(config: Config, view: View) -> Iterator[str]:
    """Tell who else takes GRE on this host, and which of the tunnels would be held down."""
    yield from view.others.words
    # What runs already may well be this very configuration.
    claims = [
        (tunnel.name, claim(tunnel, _local_now(tunnel, view)))
        for tunnel in config.tunnels
        if tunnel.name not in view.links.values()
    ]
    ethernet = {tunnel.name for tunnel in config.tunnels if tunnel.mode == "gretap"}
    held = rivals(claims, (math.inf, ""), view.others.parties)
    held |= kernels(claims, ethernet, view.others.links)
    for tunnel in config.tunnels:
        if tunnel.name in held:
            yield f"{tunnel.location}: [Tunnel {tunnel.name}]: {held[tunnel.name]}"


def _local_now(tunnel: TunnelConfig, view: View) -> IPAddress | None:
    if tunnel.local_interface is None:
        return tunnel.local
    own = view.addresses.get(tunnel.local_interface, [])
    return next((address for address in own if address.version == tunnel.family), None)


@dataclass(frozen=True, slots=True)
class Loop:
    """A tunnel whose outer packets come back to it: *way* are the tunnels passed, itself last.

    *certain*: so it is now. Otherwise it will be, unless there is a more specific route.
    """

    tunnel: TunnelConfig
    way: tuple[str, ...]
    certain: bool


def loops(config: Config, view: View) -> Iterator[Loop]:
    """Find tunnels whose outer packets would come back to them.

    Of a tunnel whose interface exists the kernel knows. Of others a route in the configuration is
    believed: it will be there, and wins unless the kernel has a more specific one.
    """
    number = {tunnel.name: index for index, tunnel in enumerate(config.tunnels)}
    leads: dict[int, int] = {}
    running = set(view.links.values())
    for tunnel in config.tunnels:
        route = view.routes.get(tunnel.name)
        next_name = None if tunnel.name in running else _entered(config, tunnel)
        if next_name is None and isinstance(route, RouteInfo):
            next_name = view.links.get(route.oif)
        if next_name in number:
            leads[number[tunnel.name]] = number[next_name]
    for start, ring in cycles(leads).items():
        names = [config.tunnels[index].name for index in ring]
        yield Loop(config.tunnels[start], (*names[1:], names[0]), running.issuperset(names))


def _loops(config: Config, view: View) -> Iterator[str]:
    for loop in loops(config, view):
        tunnel, way = loop.tunnel, " > ".join(loop.way)
        yield (
            f"{tunnel.location}: [Tunnel {tunnel.name}] Remote: {tunnel.remote}"
            + (f" is routed into {way}" if loop.certain else f" would be routed into {way}")
            + (": give it" if loop.certain else ", unless it has")
            + " a route of its own beside the tunnel"
        )


def _entered(config: Config, tunnel: TunnelConfig) -> str | None:
    """Return the tunnel that the configured routes send *tunnel*'s outer packets into."""
    best: tuple[int, str] | None = None
    for other in config.tunnels:
        networks = [*other.routes, *(address.network for address in other.addresses)]
        for network in networks:
            if tunnel.remote is not None and tunnel.remote in network:
                best = max(best or (-1, ""), (network.prefixlen, other.name))
    return best[1] if best else None


def _mtu(tunnel: TunnelConfig, route: Route | None) -> int:
    return mtu.tunnel_mtu(
        tunnel, route.mtu if isinstance(route, RouteInfo) else mtu.DEFAULT_ROUTE_MTU
    )


def _arithmetic(tunnel: TunnelConfig, route: Route | None) -> str:
    if tunnel.mtu is not None:
        return f"mtu {tunnel.mtu}: configured"
    overhead = mtu.overhead(tunnel)
    known = isinstance(route, RouteInfo)
    path = route.mtu if isinstance(route, RouteInfo) else mtu.DEFAULT_ROUTE_MTU
    return (
        f"mtu {_mtu(tunnel, route)}: {path} of the route{'' if known else ' (assumed)'},"
        f" less {overhead} of outer and GRE header"
    )


def _again(tunnel: TunnelConfig) -> str:
    if tunnel.resolve_interval is None:
        return "; it is resolved again when the other end is lost"
    return f"; it is resolved again every {tunnel.resolve_interval:g} s"


def _asking(tunnel: TunnelConfig) -> Iterator[str]:
    """Say whom the tunnel asks for signs of life, and what follows."""
    who = ", ".join(map(str, dict.fromkeys(outer for _network, outer in tunnel.peers)))
    how = f"asks {tunnel.far_end if tunnel.has_remote else who} for a keepalive"
    if tunnel.keepalive_target is not None:
        how = f"pings {tunnel.keepalive_target} from {tunnel.echo_source}"
    if tunnel.keepalive is not None:
        silence = tunnel.keepalive * tunnel.keepalive_retries
        carrier = "no carrier" if tunnel.carrier == "keepalive" else "the carrier stays"
        yield f"{how} every {tunnel.keepalive:g} s; silent after {silence:g} s: {carrier}"
    if is_probing(tunnel):
        yield (
            "probes what the path carries while that is answered"
            if tunnel.keepalive is not None
            else f"{how}, to probe what the path carries"
        )


def _kernel() -> Kernel | None:
    """Return the kernel to ask, or ``None`` where netlink is not to be had."""
    try:
        from gred.control.kernel.netlink import Netlink  # noqa: PLC0415 - pyroute2 takes its time

        return Netlink()
    except (ImportError, OSError):
        return None
