"""Questions and orders to the kernel about interfaces, addresses, routes and rules.

Every method blocks for a moment and keeps nothing: call it in a thread (`asyncio.to_thread`).
Nothing here decides what ought to be; what an interface is ordered to become is in orders.py.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from secrets import randbits

from gred.config.model import IPAddress, IPInterface
from gred.control.errors import SetupError
from gred.control.kernel import dumps, messages, netfilter, orders
from gred.control.kernel.messages import FoundRoute
from gred.control.kernel.parts import Actual, Device, InterfaceSettings, Prefix, prefix
from gred.control.kernel.routes import NoRoute, Route, RouteInfo, RouteQuery
from gred.control.kernel.rtnetlink import Rtnetlink
from gred.control.mtu import DEFAULT_ROUTE_MTU
from gred.control.path_mtu import LIFETIME
from gred.dataplane.underlay import (
    IPV6_ADDR_PREFERENCES,
    IPV6_PREFER_SRC_PUBLIC,
    SO_BINDTOIFINDEX,
    SO_MARK,
)

_DISCARD = 9  # a port, RFC 863: any will do
_TUNGETIFF = 0x800454D2
_IFREQ_SIZE = 40
_NAME_SIZE = 16


class Netlink:
    """The real `gred.control.kernel.parts.Kernel`. Has no state of its own."""

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
            fcntl.ioctl(device.fileno(), _TUNGETIFF, request)
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
            else _chosen(_route_info(route, mtus), RouteQuery(*query))
            for route, query in zip(found, queries, strict=True)
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

    def configure(self, interfaces: Sequence[InterfaceSettings]) -> list[SetupError | None]:
        """Give each interface MTU, queue, addresses, up, routes; return what was refused of each.

        All orders are sent whatever becomes of the earlier ones, those of all interfaces in one
        batch: the caller deletes the interfaces that were refused something.
        """
        refused: list[SetupError | None] = [None] * len(interfaces)
        places: dict[str | None, list[int]] = {}
        for place, settings in enumerate(interfaces):
            places.setdefault(settings.namespace, []).append(place)
        for namespace, here in places.items():
            found = orders.configure([interfaces[place] for place in here], namespace)
            for place, refusal in zip(here, found, strict=True):
                refused[place] = refusal
        return refused

    def actual(
        self, wanted: Sequence[InterfaceSettings], namespace: str | None
    ) -> dict[int, Actual]:
        """Return what interfaces in one namespace are, by index. Raises OSError.

        Each kind of thing is listed once for all. Of routes the kernel lists those of one origin:
        a host may have a million of others'. One that is not among them is asked for by itself.
        """
        indexes = {settings.index for settings in wanted}
        with Rtnetlink(namespace, strict=True) as kernel:
            links = dumps.read_links(kernel.dump(messages.links_query()), indexes)
            addresses = dumps.read_addresses(kernel.dump(messages.addresses_query()), indexes)
            routes = dict[int, frozenset[Prefix]]()
            versions = {route.version for settings in wanted for route in settings.own_routes}
            for version in versions:
                listed = kernel.dump(messages.own_routes_query(version))
                for index, more in dumps.read_routes(listed, indexes).items():
                    routes[index] = routes.get(index, frozenset()) | more
            found = {
                index: Actual(
                    up, mtu, addresses.get(index, frozenset()), routes.get(index, frozenset())
                )
                for index, (up, mtu) in links.items()
            }
            return found | _with_others_routes(kernel, wanted, found)

    def set_mtus(
        self, mtus: Mapping[int, int], namespace: str | None = None
    ) -> dict[int, SetupError]:
        """Set the MTU of interfaces: index -> bytes; return what was refused, by index."""
        wanted = [
            orders.Order(
                messages.link(index, attributes=[("IFLA_MTU", mtu)]),
                f"interface {index}",
                f"set MTU {mtu}",
            )
            for index, mtu in mtus.items()
        ]
        found = orders.give([[order] for order in wanted], namespace)
        return {
            index: refusal
            for index, refusal in zip(mtus, found, strict=True)
            if refusal is not None
        }

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


def _with_others_routes(
    kernel: Rtnetlink, wanted: Sequence[InterfaceSettings], found: Mapping[int, Actual]
) -> dict[int, Actual]:
    """Return those of *found* to which *wanted* routes lead that somebody else has made anew."""
    missing = [
        (settings.index, route)
        for settings in wanted
        if settings.index in found and found[settings.index].up
        for route in settings.own_routes
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


def _route_info(route: FoundRoute, device_mtus: Mapping[int, int]) -> RouteInfo:
    return RouteInfo(
        oif=route.oif,
        mtu=route.mtu or device_mtus.get(route.oif, DEFAULT_ROUTE_MTU),
        prefsrc=route.prefsrc,
        gateway=route.gateway,
    )
