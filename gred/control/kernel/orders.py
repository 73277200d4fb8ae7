"""How each change to an interface is ordered of the kernel, and what a refusal means.

Blocks while the kernel answers; keeps nothing. Nothing here decides what is to be changed, or in
which order.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gred.config.model import IPInterface, IPNetwork
from gred.control.errors import ExitCode, SetupError, words
from gred.control.kernel import messages
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
from gred.control.kernel.parts import InterfaceSettings, Refusals
from gred.control.kernel.rtnetlink import Answer, Rtnetlink
from gred.control.mtu import FLOOR_IPV6

_FORWARDING = Path("/proc/sys/net/ipv6/conf/default/forwarding")

# What the kernel says of a thing that is there already, or is gone already.
_THERE = frozenset({errno.EEXIST})
_HOMELESS = frozenset({errno.EINVAL})  # the address went meanwhile, which is to be seen next
_GONE = frozenset({errno.EADDRNOTAVAIL, errno.ESRCH, errno.ENOENT})


@dataclass(frozen=True, slots=True)
class Order:
    """One request; *what* it does in words, for a refusal. *fine*: errors that are none."""

    request: bytes
    what: str
    fine: frozenset[int] = frozenset()
    remedy: Callable[[int], str] = lambda _errno: ""


def give(
    groups: Sequence[tuple[InterfaceSettings, Sequence[Change]]], namespace: str | None
) -> list[Refusals]:
    """Order the changes to interfaces of one namespace, all at once; return what was refused."""
    orders = [[_order(change, settings) for change in changes] for settings, changes in groups]
    try:
        with Rtnetlink(namespace) as kernel:
            answers = iter(kernel.exchange([order.request for some in orders for order in some]))
    except OSError as error:
        finding = f"cannot speak to the kernel over netlink: {words(error)}"
        return [
            dict.fromkeys(changes, SetupError(f"{settings.place}: {finding}"))
            for settings, changes in groups
        ]
    return [
        dict(_refusals(settings, changes, some, list(islice(answers, len(some)))))
        for (settings, changes), some in zip(groups, orders, strict=True)
    ]


def forwards_ipv6() -> bool:
    """Whether a new interface belongs to a router; where it is not known, it may."""
    try:
        return _FORWARDING.read_text().strip() != "0"
    except FileNotFoundError:  # no IPv6, or no /proc
        return False
    except OSError:
        return True


def _order(change: Change, settings: InterfaceSettings) -> Order:
    index = settings.index
    match change:
        case SetMtu(mtu):
            return Order(messages.link(index, attributes=[("IFLA_MTU", mtu)]), f"set MTU {mtu}")
        case SetMacAddress(mac):
            request = messages.link(index, attributes=[("IFLA_ADDRESS", mac)])
            return Order(request, f"set MAC address {mac}")
        case SetQueue(length):
            request = messages.link(index, attributes=[("IFLA_TXQLEN", length)])
            return Order(request, f"set the queue to {length} packets")
        case SetAlias(alias):
            return Order(messages.link(index, attributes=[("IFLA_IFALIAS", alias)]), "set alias")
        case LeaveGroups():
            # On a router the kernel has let it join the group of all routers (ipv6_add_dev), and
            # would report that through a tunnel that carries no IPv6. Below IPv6's least MTU it
            # forgets all it knows of IPv6 there, and begins anew above it: without multicast, no
            # group is joined. Where it fails there are four packets more.
            attributes = [("IFLA_MTU", FLOOR_IPV6 - 1)]
            request = messages.link(index, attributes=attributes, multicast=False)
            return Order(request, "leave the groups of IPv6 routers")
        case NoLinkLocal():
            return Order(messages.no_link_local(index), "switch link-local addresses off")
        case FollowCarrier():
            return Order(messages.follow_carrier(index), "let routes follow the carrier")
        case AddAddress(address):
            request, remedy = messages.add_address(index, address), _address_remedy(address)
            return Order(request, f"add address {address}", _THERE, remedy)
        case RemoveAddress(address):
            return Order(messages.remove_address(index, address), f"remove {address}", _GONE)
        case SetUp(multicast):
            request = messages.link(index, up=True, multicast=True if multicast else None)
            return Order(request, f"set interface {settings.name} up")
        case AddRoute(network):
            request, remedy = messages.add_route(index, network), _route_remedy(network)
            return Order(request, f"add route {network}", remedy=remedy)
        case AddConnected(address):
            request = messages.add_connected(index, address)
            return Order(request, f"add route {address.network}", _THERE | _HOMELESS)
        case RemoveRoute(network):
            return Order(messages.remove_route(index, network), f"remove route {network}", _GONE)


def _refusals(
    settings: InterfaceSettings,
    changes: Sequence[Change],
    orders: Sequence[Order],
    answers: Sequence[Answer],
) -> Iterator[tuple[Change, SetupError]]:
    for change, order, answer in zip(changes, orders, answers, strict=True):
        if answer.error and answer.error not in order.fine:
            yield change, _refusal(order, answer, settings)


def _refusal(order: Order, answer: Answer, settings: InterfaceSettings) -> SetupError:
    remedy, code = order.remedy(answer.error), ExitCode.FAILURE
    if answer.error == errno.EPERM:
        remedy = " (gred needs CAP_NET_ADMIN)"
        # What may not be done in another namespace may be done here.
        code = ExitCode.NO_PERMISSION if settings.namespace is None else ExitCode.FAILURE
    return SetupError(f"{settings.place}: cannot {order.what}: {answer.finding}{remedy}", code)


def _address_remedy(address: IPInterface) -> Callable[[int], str]:
    def remedy(error: int) -> str:
        if address.version == 6 and error in {errno.EACCES, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:
            return " (switch IPv6 on: sysctl net.ipv6.conf.default.disable_ipv6=0)"
        return ""

    return remedy


def _route_remedy(route: IPNetwork) -> Callable[[int], str]:
    def remedy(error: int) -> str:
        if error == errno.EEXIST:
            return f" (another route has it: ip -{route.version} route show {route})"
        if route.version == 6 and error in {errno.EACCES, errno.EOPNOTSUPP, errno.ENODEV}:
            return " (switch IPv6 on: sysctl net.ipv6.conf.default.disable_ipv6=0)"
        return ""

    return remedy
