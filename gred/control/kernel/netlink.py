"""Questions and orders to the kernel about interfaces, addresses, routes and rules.

Every method blocks for a moment and keeps nothing: call it in a thread (`asyncio.to_thread`).
Nothing here decides what ought to be; how changes are ordered is in orders.py.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from secrets import randbits

from gred.config.model import IPAddress, IPInterface
from gred.control.kernel import dumps, managers, messages, netfilter, orders, shields, xfrm
from gred.control.kernel.changes import Change
from gred.control.kernel.linux import (
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    TUNGETIFF,
)
from gred.control.kernel.messages import FoundRoute
from gred.control.kernel.namespaces import inside
from gred.control.kernel.parts import (
    Actual,
    Device,
    InterfaceSettings,
    Prefix,
    Refusals,
    prefix,
)
from gred.control.kernel.routes import (
    Delivery,
    Hop,
    MtuRoute,
    NoRoute,
    Route,
    RouteInfo,
    RouteQuery,
)
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.control.mtu import DEFAULT_ROUTE_MTU
from gred.control.path_mtu import LIFETIME
from gred.dataplane.linux import (
    IPV6_ADDR_PREFERENCES,
    IPV6_PREFER_SRC_PUBLIC,
    SO_BINDTOIFINDEX,
    SO_MARK,
)

_DISCARD = 9  # a port, RFC 863: any will do
_IFREQ_SIZE = 40
_NAME_SIZE = 16


class Netlink:
    """The real `gred.control.kernel.parts.Kernel`. Has no state of its own.

    *connects*: whether a socket may be connected to ask. That sends nothing, but where an IPsec
    policy wants a state that is not there, the kernel asks the IKE daemon for it.
    """

    def __init__(self, *, connects: bool = True) -> None:
        self._choose = _chosen if connects else _as_it_is

    def links(self, namespace: str | None = None) -> dict[int, str]:
        """Return the interfaces of a network namespace: index -> name. Raises OSError.

        Not if_nameindex(3): Python calls it without giving the interpreter away, which with 4,000
        interfaces stops packets for 45 ms.
        """
        with Rtnetlink(namespace) as kernel:
            return dumps.read_names(kernel.dump(messages.links_query()))

    def attached(self, device: Device) -> str | None:
        """Return the name of the interface behind *device*; None when it was deleted.

        The name is a new one after a rename, and that of another network namespace after a move.
        """
        request = bytearray(_IFREQ_SIZE)
        try:
            fcntl.ioctl(device.fileno(), TUNGETIFF, request)
        except OSError as error:
            if error.errno in {errno.EBADFD, errno.EBADF}:
                return None
            raise
        return os.fsdecode(bytes(request[:_NAME_SIZE]).split(b"\0", 1)[0])

    def local_addresses(self, addresses: Iterable[IPAddress], device: int = 0) -> set[IPAddress]:
        """Return those of *addresses* that are addresses of this host.

        With *device*, the index of a VRF or of an interface in one, those that it has.
        """
        asked = list(dict.fromkeys(addresses))
        queries = [RouteQuery(address, device=device) for address in asked]
        with Rtnetlink() as kernel:
            answers = kernel.exchange([messages.route_query(query) for query in queries])
        return {
            address
            for address, answer in zip(asked, answers, strict=True)
            if not answer.error and messages.read_route(answer).local
        }

    def interface_addresses(self) -> dict[int, list[IPAddress]]:
        """Return the addresses outer packets may come from: interface index -> best first."""
        with Rtnetlink() as kernel:
            return messages.read_addresses(kernel.dump(messages.addresses_query()))

    def networks(self, namespace: str | None = None) -> dict[str, list[IPInterface]]:
        """Return the addresses of a network namespace: interface name -> with their prefixes."""
        names = self.links(namespace)
        with Rtnetlink(namespace) as kernel:
            found = dumps.read_networks(kernel.dump(messages.addresses_query()))
        return {names[index]: own for index, own in found.items() if index in names}

    def route_to(self, destination: IPAddress, source: IPAddress | None = None) -> Route:
        """Return the route to *destination*, as the kernel would take it for *source*."""
        return self.routes_to([(destination, source)])[0]

    def routes_to(
        self, queries: Sequence[RouteQuery | tuple[IPAddress, IPAddress | None]]
    ) -> list[Route]:
        """Return the route for each query, or (destination, source).

        The kernel answers for no protocol in particular: rules that match GRE alone are not seen,
        see ``versions_with_gre_rules``.
        """
        asked = [RouteQuery(*query) for query in queries]
        with Rtnetlink() as kernel:
            answers = kernel.exchange([messages.route_query(query) for query in asked])
            found = [
                answer.finding if answer.error else messages.read_route(answer)
                for answer in answers
            ]
            _uncover(kernel, asked, found)
            outputs = {route.oif for route in found if not isinstance(route, str)} - {0}
            mtus = _device_mtus(kernel, sorted(outputs))
        return [
            NoRoute(route)
            if isinstance(route, str)
            else self._choose(_route_info(route, mtus), RouteQuery(*query))
            for route, query in zip(found, queries, strict=True)
        ]

    def hop(self, query: RouteQuery) -> Hop | None:
        """Return whom packets are handed to; None: there is no route. Raises OSError."""
        (route,) = self.routes_to([query])
        if isinstance(route, NoRoute):
            return None
        address = route.gateway or query.destination
        with Rtnetlink() as kernel:
            (answer,) = kernel.exchange([messages.neighbour_query(route.oif, address)])
        state = 0 if answer.error else messages.read_neighbour(answer)
        if state & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP):
            return Hop(address, answers=True)
        is_asked = state & (NUD_FAILED | NUD_INCOMPLETE | NUD_PROBE)
        return Hop(address, answers=False if is_asked else None)

    def delivery(
        self, index: int, source: IPAddress, destination: IPAddress, namespace: str | None
    ) -> Delivery:
        """Return what becomes of a packet that comes in by interface *index*.

        Routing's reasons alone: what netfilter does is not asked. Raises OSError.
        """
        queries = [
            messages.arrival_query(index, source, destination),
            messages.route_query(RouteQuery(source)),
        ]
        with Rtnetlink(namespace) as kernel:
            answer, back = kernel.exchange(queries)
        if not back.error and messages.read_route(back).local:
            return Delivery("own")  # whatever else there is
        if answer.error == errno.EHOSTUNREACH:
            return Delivery("forwarding")
        if answer.error in {errno.EXDEV, errno.EINVAL}:  # the latter from Linux 6.13 on
            return Delivery("filtered")
        if answer.error:
            return Delivery("route")
        if messages.read_route(answer).local:
            leaves = 0 if back.error else messages.read_route(back).oif
            if leaves == index:
                return Delivery("", here=True)
            way = inside(namespace, lambda: socket.if_indextoname(leaves)) if leaves else ""
            return Delivery("elsewhere", way)
        # For IPv6 the look-up does not ask whether this host forwards.
        is_forwarded = destination.version == 4 or inside(namespace, _forwards_ipv6)
        return Delivery("" if is_forwarded else "forwarding")

    def mtu_routes(self, version: int) -> list[MtuRoute]:
        """Return the routes of an IP version that were given an MTU, whatever their table.

        None where there is no such IP version. Raises OSError.
        """
        query = messages.mtu_routes_query(version)
        with Rtnetlink(strict=True) as kernel:
            return dumps.read_mtu_routes(kernel.dump_some(query, dumps.HAS_MTU))

    def route_mtus(self, queries: Sequence[RouteQuery]) -> list[int | None]:
        """Return the MTU that the route of each query was given, in bytes; None: none, no route.

        What the kernel has learned of a path, and the MTU of the device, are no part of it.
        """
        with Rtnetlink() as kernel:
            answers = kernel.exchange(
                [messages.route_query(query, as_configured=True) for query in queries]
            )
        return [
            None if answer.error else dumps.read_route_mtu(answer.message) for answer in answers
        ]

    def versions_with_gre_rules(self) -> set[int]:
        """Return the IP versions (4, 6) in which some routing rule selects GRE by protocol.

        ``ip rule add ipproto gre`` may lead outer packets elsewhere than a look-up says: the kernel
        looks routes up for TCP, UDP and ICMP only.
        """
        versions = set()
        with Rtnetlink() as kernel:
            for version in messages.FAMILY:
                try:
                    rules = kernel.dump(messages.rules_query(version))
                except OSError:
                    continue  # a kernel without policy routing, or without this IP version
                if any(messages.selects_gre(rule) for rule in rules):
                    versions.add(version)
        return versions

    def filtered(self) -> Mapping[int, str]:
        """Return the IP versions whose outgoing packets netfilter looks at one by one."""
        return netfilter.filtered()

    def ipsec(self) -> xfrm.Tables:
        """Return the IPsec policies and associations of this host. Raises OSError."""
        return xfrm.tables()

    def told_mtu(self, query: RouteQuery) -> int | OSError:
        """Return the longest packet that a connected socket is told of, IPsec included."""
        return xfrm.largest(query.source, query.destination, device=query.device, mark=query.mark)

    def shield(self, remotes: Collection[IPAddress], owner: int) -> Mapping[IPAddress, OSError]:
        """Let no GRE pass in clear to and from *remotes*; return what was refused of it."""
        return shields.put(remotes, owner)

    def unshield(self, remotes: Collection[IPAddress]) -> Mapping[IPAddress, OSError]:
        """Take that back."""
        return shields.take(remotes)

    def transmit_drops(self, namespace: str | None = None) -> dict[int, int]:
        """Return what the interfaces of a namespace could not queue: index -> packets so far.

        Raises OSError, also where the kernel does not tell (before Linux 4.7).
        """
        with Rtnetlink(namespace) as kernel:
            answers = kernel.dump(messages.statistics_query())
        return dict(map(messages.read_transmit_drops, answers))

    def path_mtu_lifetime(self, version: int) -> float:
        """Return for how many seconds this host believes in what it has learned of a path."""
        try:
            return float(Path(f"/proc/sys/net/ipv{version}/route/mtu_expires").read_text())
        except (OSError, ValueError):
            return LIFETIME

    def actual(
        self, wanted: Sequence[InterfaceSettings], namespace: str | None
    ) -> dict[int, Actual]:
        """Return what interfaces in one namespace are, by index. Raises OSError.

        Each kind of thing is listed once for all. Of routes the kernel lists those of two origins:
        a host may have a million of others'. One that is not among them is asked for by itself.
        """
        indexes = {settings.index for settings in wanted}
        with Rtnetlink(namespace, strict=True) as kernel:
            links = dumps.read_links(kernel.dump(messages.links_query()), indexes)
            # Before the addresses: a route that goes with its address in between is not missing.
            routes = _routes(kernel, wanted, indexes)
            addresses = dumps.read_addresses(kernel.dump(messages.addresses_query()), indexes)
            found = {}
            for index, link in links.items():
                own = addresses.get(index, dumps.Addresses())
                found[index] = Actual(
                    up=link.up,
                    mtu=link.mtu,
                    addresses=frozenset(own.own),
                    routes=routes.get(index, frozenset()),
                    mac_address=link.mac_address,
                    queue=link.queue,
                    made=frozenset(own.made),
                    secondary=frozenset(own.secondary),
                    in_vrf=link.in_vrf,
                )
            found |= _with_others_routes(kernel, wanted, found)
        # Asked only where it matters: before an interface without IPv6 is set up.
        silent = [
            settings.index
            for settings in wanted
            if not settings.ipv6 and settings.index in found and not found[settings.index].up
        ]
        is_router = bool(silent) and inside(namespace, orders.forwards_ipv6)
        if is_router:
            found |= {index: replace(found[index], router=True) for index in silent}
        return found

    def change(
        self, work: Sequence[tuple[InterfaceSettings, Sequence[Change]]], /
    ) -> list[Refusals]:
        """Change interfaces, each in the order that is given; return what was refused of each.

        All orders are sent whatever becomes of the earlier ones, those of all interfaces in one
        batch.
        """
        refused: list[Refusals] = [{}] * len(work)
        places: dict[str | None, list[int]] = {}
        for place, (settings, _changes) in enumerate(work):
            places.setdefault(settings.namespace, []).append(place)
        for namespace, here in places.items():
            found = orders.give([work[place] for place in here], namespace)
            for place, refusals in zip(here, found, strict=True):
                refused[place] = refusals
        return refused

    def manager(self, settings: InterfaceSettings) -> str:
        """Return who else says that it configures an interface; empty: nobody does."""
        # What is told is told of this network namespace.
        return managers.manager(settings.index) if settings.namespace is None else ""

    def delete(self, devices: Sequence[Device]) -> None:
        """Delete the interfaces of *devices*, all at once; what is gone already is left out.

        Raises the first OSError after all namespaces had their turn.

        Closing a TUN descriptor deletes its interface too, but waits for an RCU grace period each
        time: some 20 ms, one after another. A link group goes in one. The group is given only now,
        so that the administrator is free to use link groups while the tunnels live.
        """
        problems = []
        for namespace in dict.fromkeys(device.namespace for device in devices):
            here = [device for device in devices if device.namespace == namespace]
            try:
                self._delete(here, namespace)
            except OSError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    def _delete(self, devices: Sequence[Device], namespace: str | None) -> None:
        try:
            names = self.links(namespace)
        except FileNotFoundError:
            return  # the namespace is gone, and its interfaces with it
        # By index and name: a device that was moved to another namespace has an index there.
        indexes = [
            device.index
            for device in devices
            if device.index in names and names[device.index] == self.attached(device)
        ]
        if not indexes:
            return
        group = 1 << 31 | randbits(31)  # never 0, the default group of all interfaces
        join = [messages.link(index, attributes=[("IFLA_GROUP", group)]) for index in indexes]
        with Rtnetlink(namespace) as kernel:
            joined = kernel.exchange(join)
            if all(answer.error for answer in joined):
                return  # each was deleted meanwhile, or may not be touched: closing will do
            answer = kernel.exchange([messages.delete_group(group)])[0]
        if answer.error:
            raise OSError(answer.error, f"cannot delete link group {group}: {answer.finding}")


def _forwards_ipv6() -> bool:
    try:
        return Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text().strip() != "0"
    except OSError:
        return True  # it is not known


def _routes(
    kernel: Rtnetlink, wanted: Sequence[InterfaceSettings], indexes: Collection[int]
) -> dict[int, frozenset[Prefix]]:
    """Return where routes lead that gred or an address has made, by the *indexes* of interfaces."""
    asked = {(route.version, False) for settings in wanted for route in settings.own_routes}
    asked |= {(route.version, True) for settings in wanted for route in settings.connected}
    found = dict[int, frozenset[Prefix]]()
    for version, connected in asked:
        listed = kernel.dump(messages.own_routes_query(version, connected=connected))
        for index, more in dumps.read_routes(listed, indexes).items():
            found[index] = found.get(index, frozenset()) | more
    return found


def _with_others_routes(
    kernel: Rtnetlink, wanted: Sequence[InterfaceSettings], found: Mapping[int, Actual]
) -> dict[int, Actual]:
    """Return those of *found* to which *wanted* routes lead that somebody else has made anew."""
    missing = [
        (settings.index, route)
        for settings in wanted
        if settings.index in found and found[settings.index].up
        for route in (*settings.own_routes, *settings.connected)
        if prefix(route) not in found[settings.index].routes
    ]
    answers = kernel.exchange([messages.fib_query(route) for _index, route in missing])
    more = dict[int, Actual]()
    for (index, route), answer in zip(missing, answers, strict=True):
        if not answer.error and dumps.leads_to(answer.message, index, prefix(route)):
            before = more.get(index, found[index])
            more[index] = replace(before, routes=before.routes | {prefix(route)})
    return more


def _uncover(
    kernel: Rtnetlink, queries: Sequence[RouteQuery], found: list[str | FoundRoute]
) -> None:
    """Put the MTUs in that routes were given, where what the kernel has learned hides them."""
    hidden = [
        number
        for number, route in enumerate(found)
        if not isinstance(route, str) and route.has_learned
    ]
    asked = [messages.route_query(queries[number], as_configured=True) for number in hidden]
    for number, answer in zip(hidden, kernel.exchange(asked), strict=True):
        route = found[number]
        if not isinstance(route, str) and not answer.error:
            found[number] = replace(route, mtu=messages.read_route(answer).mtu)


def _device_mtus(kernel: Rtnetlink, indexes: Sequence[int]) -> dict[int, int]:
    answers = kernel.exchange([messages.link_query(index) for index in indexes])
    return {
        index: mtu
        for index, answer in zip(indexes, answers, strict=True)
        if not answer.error and (mtu := messages.read_mtu(answer))
    }


def _chosen(route: RouteInfo, query: RouteQuery) -> RouteInfo:
    """Return *route* with the source that the data plane's IPv6 sockets get: a public one.

    For the kernel's own answer to a look-up the host's settings count, which may prefer temporary
    addresses. To connect sends nothing.
    """
    if query.destination.version == 4 or query.source is not None:
        return route
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
            asked.setsockopt(socket.IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, IPV6_PREFER_SRC_PUBLIC)
            if query.mark:
                asked.setsockopt(socket.SOL_SOCKET, SO_MARK, query.mark)
            if query.device:
                asked.setsockopt(socket.SOL_SOCKET, SO_BINDTOIFINDEX, query.device)
            asked.connect((str(query.destination), _DISCARD, 0, query.device))
            return replace(route, prefsrc=IPv6Address(asked.getsockname()[0].split("%")[0]))
    except OSError:
        return route


def _as_it_is(route: RouteInfo, _query: RouteQuery) -> RouteInfo:
    return route


def _route_info(route: FoundRoute, device_mtus: Mapping[int, int]) -> RouteInfo:
    return RouteInfo(
        oif=route.oif,
        mtu=route.mtu or device_mtus.get(route.oif, DEFAULT_ROUTE_MTU),
        prefsrc=route.prefsrc,
        gateway=route.gateway,
    )
