"""Interfaces as they are to be against what they are: the difference, the changes to end it. Pure.

The first configuration, a repair, and another configuration are the same function; they differ in
what was given before. What somebody else has added is left alone, whatever it is. Nothing here
decides whether a change may be made now (upkeep.py).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface

from gred.config.model import IPInterface, IPNetwork
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
from gred.control.kernel.parts import Actual, Held, InterfaceSettings, Prefix, held, prefix
from gred.control.mtu import FLOOR_IPV6

# TUN's own default is 500. The loop serves other tunnels while this queue fills; a full queue
# drops, and bulk TCP fills 500 easily. Larger costs 8 bytes an entry, used or not.
TRANSMIT_QUEUE = 2000

_SHOWN = 3  # of one kind, in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What an interface lacks. *mtu*, *mac_address*: what is there instead; None: as it is to be.

    *down*: it is set down, and nothing else was looked at.
    """

    wanted: InterfaceSettings
    down: bool = False
    addresses: tuple[IPInterface, ...] = ()
    routes: tuple[IPNetwork, ...] = ()
    mtu: int | None = None
    mac_address: str | None = None

    @property
    def incomplete(self) -> bool:
        """Whether anything but being up is missing."""
        altered = self.mtu is not None or self.mac_address is not None
        return altered or bool(self.addresses or self.routes)

    @property
    def sentence(self) -> str:
        """What is not as it is to be, in words; empty when all is."""
        return self._words("is", "are")

    @property
    def past(self) -> str:
        """The same of what was not."""
        return self._words("was", "were")

    def _words(self, one: str, many: str) -> str:
        if self.down:
            up = f"ip link set dev {self.wanted.name} up"
            return f"the interface {one} set down (to end it: {up})"
        parts = []
        for noun, nouns, items in (
            ("address", "addresses", self.addresses),
            ("route", "routes", self.routes),
        ):
            if items:
                subject = f"{noun if len(items) == 1 else nouns} {_listed(items)}"
                parts.append(f"{subject} {one if len(items) == 1 else many} missing")
        if self.mtu is not None:
            parts.append(f"the MTU {one} {self.mtu}, not {self.wanted.mtu}")
        if self.mac_address is not None:
            now, then = self.mac_address, self.wanted.mac_address
            parts.append(f"the MAC address {one} {now}, not {then}")
        return ", ".join(parts)

    def without(self, other: "Difference") -> "Difference":
        """Return what is missing here and not in *other*."""
        return replace(
            self,
            addresses=tuple(own for own in self.addresses if own not in other.addresses),
            routes=tuple(route for route in self.routes if route not in other.routes),
            mtu=None if other.mtu is not None else self.mtu,
            mac_address=None if other.mac_address is not None else self.mac_address,
        )

    def of(self, changes: Iterable[Change]) -> "Difference":
        """Return that part of it which *changes* end."""
        wanted = set(changes)
        return replace(
            self,
            addresses=tuple(own for own in self.addresses if AddAddress(own) in wanted),
            routes=tuple(route for route in self.routes if self._route_change(route) in wanted),
            mtu=self.mtu if SetMtu(self.wanted.mtu) in wanted else None,
            mac_address=self.mac_address
            if SetMacAddress(self.wanted.mac_address or "") in wanted
            else None,
        )

    def _route_change(self, route: IPNetwork) -> Change:
        connected = self.wanted.connected.get(route)
        return AddRoute(route) if connected is None else AddConnected(connected)


def compare(wanted: InterfaceSettings, actual: Actual) -> Difference:
    """Return what is not as *wanted*. Of an interface that is down nothing else is looked at."""
    if not actual.up:
        return Difference(wanted=wanted, down=True)
    is_mac = wanted.mac_address is None or _mac(actual) == wanted.mac_address
    return Difference(
        wanted=wanted,
        addresses=tuple(own for own in wanted.all_addresses if held(own) not in actual.addresses),
        routes=tuple(_missing_routes(wanted, actual)),
        mtu=None if actual.mtu == wanted.mtu else actual.mtu,
        mac_address=None if is_mac else _mac(actual),
    )


def changes(
    wanted: InterfaceSettings, actual: Actual, given: InterfaceSettings | None = None
) -> list[Change]:
    """Return the changes that make *actual* as *wanted*, in their order, and no others.

    *given*: what the interface was given before, None if nothing: what of it is wanted no more is
    removed, and whether the interface is up is somebody else's will from then on. While it is down
    there are no routes.
    """
    first = given is None
    done = [*_link_changes(wanted, actual, first=first)]
    if wanted.alias and wanted.alias != (given.alias if given else ""):
        done.append(SetAlias(wanted.alias))
    if wanted.follows_carrier and not (given and given.follows_carrier):
        done.append(FollowCarrier())
    if wanted.mtu < FLOOR_IPV6 <= actual.mtu:
        actual = _without_ipv6(actual)  # the kernel takes it away with the MTU
    addresses = _address_plan(wanted, actual, given)
    before = given.own_routes if given else []
    stays = set(wanted.own_routes) - {
        route for route in wanted.own_routes if prefix(route) in addresses.unsure
    }
    done += [
        RemoveRoute(route)
        for route in before
        if route not in stays and prefix(route) in actual.routes
    ]
    done += addresses.changes
    if first and not actual.up:
        done.append(SetUp(multicast=_is_quiet(wanted, actual)))
    elif not actual.up:
        return done
    if actual.in_vrf:
        return done  # where they are to be now is not known
    present = actual.routes - addresses.gone - addresses.unsure
    reached = {one.network for one in addresses.kept} - _reached_anew(addresses.changes)
    done += [
        AddConnected(own)
        for network, own in wanted.connected.items()
        if prefix(network) in reached and prefix(network) not in present
    ]
    done += [AddRoute(route) for route in wanted.own_routes if prefix(route) not in present]
    return done


def as_given(actual: Actual, given: InterfaceSettings) -> Actual:
    """Return *actual* as it would be if nothing were missing of what was *given*."""
    mac = given.mac_address
    return replace(
        actual,
        mtu=given.mtu,
        addresses=actual.addresses | set(map(held, given.all_addresses)),
        routes=actual.routes | set(map(prefix, (*given.own_routes, *given.connected))),
        mac_address=actual.mac_address if mac is None else bytes.fromhex(mac.replace(":", "")),
        made=frozenset(),
    )


def _link_changes(wanted: InterfaceSettings, actual: Actual, *, first: bool) -> Iterator[Change]:
    mtu = actual.mtu
    if first and not actual.up and _is_quiet(wanted, actual):
        yield LeaveGroups()
        mtu = 0
    if mtu != wanted.mtu:
        yield SetMtu(wanted.mtu)
    # Before "up", where changing the queue is cheap; later it is the administrator's.
    if first and actual.queue != TRANSMIT_QUEUE:
        yield SetQueue(TRANSMIT_QUEUE)
    if wanted.mac_address is not None and _mac(actual) != wanted.mac_address:
        yield SetMacAddress(wanted.mac_address)
    # Below the least MTU of IPv6 the kernel has forgotten that it is to make none.
    unwanted = actual.made - set(map(held, wanted.all_addresses))
    if first or unwanted or actual.mtu < FLOOR_IPV6 <= wanted.mtu:
        yield NoLinkLocal()


@dataclass(frozen=True, slots=True)
class _Addresses:
    """Changes to addresses. *kept*: those that stay throughout. *gone*: routes that go with others.

    *unsure*: routes of which that depends on settings of the kernel.
    """

    changes: list[Change]
    kept: frozenset[Held]
    gone: frozenset[Prefix] = frozenset()
    unsure: frozenset[Prefix] = frozenset()


def _address_plan(
    wanted: InterfaceSettings, actual: Actual, given: InterfaceSettings | None
) -> _Addresses:
    """Return the changes to addresses; what can be is added before anything is removed.

    For the kernel takes the IPv4 routes away with the last IPv4 address, and, unless
    promote_secondaries=1, those of a network with the first of them.
    """
    wanted_now = {held(own): own for own in wanted.all_addresses}
    missing = {one: own for one, own in wanted_now.items() if one not in actual.addresses}
    given_before = set(map(held, given.all_addresses)) if given else set()
    removed = (actual.addresses & given_before | actual.made) - wanted_now.keys()
    # The same address of another scope, and over IPv6 of another prefix, leaves it no room.
    removed |= {
        one
        for one in actual.addresses - wanted_now.keys()
        for other in missing
        if one.address == other.address and (not _is_ipv4(one) or one.length == other.length)
    }
    later = {
        one: own
        for one, own in missing.items()
        if any(
            one.address == other.address or (_is_ipv4(one) and one.network == other.network)
            for other in removed
        )
    }
    early = {one: own for one, own in missing.items() if one not in later}
    networks = {one.network for one in removed - actual.secondary if _is_ipv4(one)}
    again = {one for one in actual.addresses - removed if one.network in networks}
    kept = actual.addresses - removed - again
    done: list[Change] = [*map(AddAddress, early.values())]
    done += [RemoveAddress(ip_interface(one[:2])) for one in sorted(removed)]
    done += [AddAddress(wanted_now.get(one) or ip_interface(one[:2])) for one in sorted(again)]
    done += map(AddAddress, later.values())
    gone = {one.network for one in removed} - {one.network for one in kept}
    ipv4 = frozenset(route for route in actual.routes if len(route[0]) == 4)
    if not networks or any(map(_is_ipv4, kept | early.keys())):
        return _Addresses(done, kept, frozenset(gone))
    if again:
        return _Addresses(done, kept, frozenset(gone), ipv4)
    return _Addresses(done, kept, ipv4 | gone)


def _is_ipv4(one: Held) -> bool:
    return len(one.address) == 4


def _reached_anew(done: Iterable[Change]) -> set[Prefix]:
    """Return the networks whose routes come with each IPv6 address in them that is added.

    Over IPv4 they come with the first address alone.
    """
    return {
        prefix(change.address.network)
        for change in done
        if isinstance(change, AddAddress) and change.address.version == 6
    }


def _missing_routes(wanted: InterfaceSettings, actual: Actual) -> Iterator[IPNetwork]:
    """Yield the routes that are missing, but for those that come with a missing address."""
    reached = {one.network for one in actual.addresses}
    if not actual.in_vrf:
        for network in wanted.connected:
            if prefix(network) in reached and prefix(network) not in actual.routes:
                yield network
    for route in wanted.own_routes:
        if prefix(route) not in actual.routes:
            yield route


def _without_ipv6(actual: Actual) -> Actual:
    return replace(
        actual,
        addresses=frozenset(one for one in actual.addresses if len(one.address) == 4),
        routes=frozenset(route for route in actual.routes if len(route[0]) == 4),
        made=frozenset(),
    )


def _is_quiet(wanted: InterfaceSettings, actual: Actual) -> bool:
    """Whether it must not report the groups of IPv6 routers: it carries no IPv6."""
    return actual.router and not wanted.ipv6


def _mac(actual: Actual) -> str:
    return actual.mac_address.hex(":")


def _listed(items: Sequence[object]) -> str:
    shown = [str(item) for item in items[:_SHOWN]]
    shown += [f"{len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return " and ".join(shown)
