"""One interface as Linux keeps it, in memory: what each change does to it besides what was asked.

Adding and removing addresses makes and removes routes (fib_add_ifaddr, fib_del_ifaddr,
fib_disable_ip, addrconf_ifdown); setting it down and a small MTU do (NETDEV_DOWN, IPV6_MIN_MTU).
"""

from dataclasses import dataclass, field
from ipaddress import ip_interface

from gred.config.model import IPInterface, IPNetwork
from gred.control.errors import SetupError
from gred.control.kernel.changes import (
    AddAddress,
    AddConnected,
    AddRoute,
    Change,
    FollowCarrier,
    LeaveGroups,
    NoLinkLocal,
    RemoveAddress,
    RemoveRoute,
    SetAlias,
    SetMacAddress,
    SetMtu,
    SetQueue,
    SetUp,
)
from gred.control.kernel.parts import Actual, Held, Prefix, held, prefix

MADE = held(ip_interface("fe80::1234:5678:9abc:def0/64"))
IPV6_MTU_MIN = 1280


@dataclass
class Interface:
    """Addresses in the order they came: the first IPv4 address of a network is its primary."""

    up: bool = False
    mtu: int = 1500
    addresses: list[Held] = field(default_factory=list)
    routes: set[Prefix] = field(default_factory=set)
    mac_address: bytes = bytes.fromhex("020000000001")
    queue: int = 500
    alias: str = ""
    makes_link_local: bool = True
    has_ipv6: bool = True
    in_vrf: bool = False
    router: bool = False
    promotes: bool = False
    refuses: dict[object, str] = field(default_factory=dict)
    """Addresses and networks that may not be added, as they are written, and why."""
    ordered: list[Change] = field(default_factory=list)

    def actual(self) -> Actual:
        return Actual(
            up=self.up,
            mtu=self.mtu,
            addresses=frozenset(self.addresses),
            routes=frozenset(self.routes),
            mac_address=self.mac_address,
            queue=self.queue,
            made=frozenset({MADE} & set(self.addresses)),
            secondary=frozenset(
                one
                for number, one in enumerate(self.addresses)
                if len(one.address) == 4
                and one.network in {other.network for other in self.addresses[:number]}
            ),
            in_vrf=self.in_vrf,
            router=self.router,
        )

    def change(self, place: str, change: Change) -> SetupError | None:
        """Do it, or return why not."""
        self.ordered.append(change)
        if why := self._do(change):
            return SetupError(f"{place}: cannot do {change}: {why}")
        return None

    def _do(self, change: Change) -> str:
        match change:
            case SetMtu(mtu):
                if str(mtu) in self.refuses:
                    return self.refuses[str(mtu)]
                self.set_mtu(mtu)
            case SetMacAddress(mac):
                self.mac_address = bytes.fromhex(mac.replace(":", ""))
            case SetQueue(length):
                self.queue = length
            case SetAlias(alias):
                self.alias = alias
            case LeaveGroups():
                assert not self.up
                self.mtu = IPV6_MTU_MIN - 1
            case NoLinkLocal():
                self.makes_link_local = False
            case FollowCarrier():
                pass  # what becomes of routes without a carrier is not modelled
            case AddAddress(address):
                return self._add(address)
            case RemoveAddress(address):
                # A secondary may have gone with its primary.
                for one in [one for one in self.addresses if one[:2] == held(address)[:2]]:
                    self.remove(one)
            case SetUp():
                self.set_up()
            case AddRoute(network) | AddConnected(network=network):
                return self._route(network)
            case RemoveRoute(network):
                assert prefix(network) in self.routes, "nobody removes what is not there"
                self.routes.discard(prefix(network))
        return ""

    # What gred and somebody else do alike.

    def set_mtu(self, mtu: int) -> None:
        before, self.mtu = self.mtu, mtu
        if mtu < IPV6_MTU_MIN <= before:
            self._lose_ipv6()
            self.makes_link_local = True
        elif before < IPV6_MTU_MIN <= mtu and self.up:
            self._make_link_local()

    def set_up(self) -> None:
        self.up = True
        self.routes |= {one.network for one in self.addresses if _is_connected(one)}
        self._make_link_local()

    def set_down(self) -> None:
        self.up = False
        self.routes.clear()
        self._lose_ipv6()

    def remove(self, one: Held) -> None:
        """Take an address away, and what goes with it."""
        secondaries = []
        if len(one.address) == 4:
            same = [other for other in self.addresses if other.network == one.network]
            if same[0] == one:
                secondaries = same[1:]
        kept = [other for other in self.addresses if other != one]
        if not self.promotes:
            kept = [other for other in kept if other not in secondaries]
        self.addresses = kept
        if one.network not in {other.network for other in kept}:
            self.routes.discard(one.network)
        if len(one.address) == 4 and not any(len(other.address) == 4 for other in kept):
            self.routes = {route for route in self.routes if len(route[0]) != 4}

    def flush(self) -> None:
        """Take all addresses away, as ``ip addr flush`` does."""
        while self.addresses:
            self.remove(self.addresses[0])

    def take(self, *texts: str) -> None:
        """Take addresses and networks away, as they are written."""
        for own in map(ip_interface, texts):
            if _is_network(own):
                self.routes.remove(prefix(own.network))
            else:
                self.remove(held(own))

    def give(self, *texts: str) -> None:
        """Give it addresses and networks, as they are written."""
        for own in map(ip_interface, texts):
            refused = self._route(own.network) if _is_network(own) else self._add(own)
            assert not refused

    def _add(self, address: IPInterface) -> str:
        one = held(address)
        if str(address) in self.refuses:
            return self.refuses[str(address)]
        if len(one.address) == 16 and (not self.has_ipv6 or self.mtu < IPV6_MTU_MIN):
            return "IPv6 is disabled on this device"
        for other in self.addresses:
            if other.address == one.address and len(one.address) == 16:
                return "" if other == one else "File exists"
            if other[:2] == one[:2]:
                return "" if other == one else "File exists"
        is_secondary = address.version == 4 and one.network in {o.network for o in self.addresses}
        self.addresses.append(one)
        if self.up and _is_connected(one) and not is_secondary:
            self.routes.add(one.network)
        return ""

    def _route(self, network: IPNetwork) -> str:
        if not self.up:
            return "Network is down"
        if str(network) in self.refuses:
            return self.refuses[str(network)]
        if network.version == 6 and (not self.has_ipv6 or self.mtu < IPV6_MTU_MIN):
            return "IPv6 is disabled on this device"
        if prefix(network) in self.routes:
            return "File exists"
        self.routes.add(prefix(network))
        return ""

    def _make_link_local(self) -> None:
        if self.makes_link_local and self.has_ipv6 and self.mtu >= IPV6_MTU_MIN:
            self.addresses.append(MADE)
            self.routes.add(MADE.network)

    def _lose_ipv6(self) -> None:
        self.addresses = [one for one in self.addresses if len(one.address) == 4]
        self.routes = {route for route in self.routes if len(route[0]) == 4}


def _is_connected(one: Held) -> bool:
    return one.length < 8 * len(one.address)


def _is_network(own: IPInterface) -> bool:
    return own.ip == own.network.network_address and own.network.prefixlen < own.max_prefixlen
