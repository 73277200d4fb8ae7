"""What an interface is ordered to become, in which order, and what a refusal means.

Blocks while the kernel answers; keeps nothing. Nothing here asks what is.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gred.config.model import IPInterface, IPNetwork
from gred.control.errors import ExitCode, SetupError, words
from gred.control.kernel import messages
from gred.control.kernel.namespaces import inside
from gred.control.kernel.parts import InterfaceSettings
from gred.control.kernel.rtnetlink import Answer, Rtnetlink
from gred.control.mtu import FLOOR_IPV6

# TUN's own default is 500. The loop serves other tunnels while this queue fills; a full queue
# drops, and bulk TCP fills 500 easily. Larger costs 8 bytes an entry, used or not.
TRANSMIT_QUEUE = 2000

_FORWARDING = Path("/proc/sys/net/ipv6/conf/default/forwarding")


@dataclass(frozen=True, slots=True)
class Order:
    """One request. Refused, it fails the set-up unless it is *optional*."""

    request: bytes
    place: str
    what: str
    optional: bool = False
    remedy: Callable[[int], str] = lambda _errno: ""


def configure(
    interfaces: Sequence[InterfaceSettings], namespace: str | None
) -> list[SetupError | None]:
    """Give interfaces of one namespace their settings; return what was refused of each."""
    try:
        router = any(not one.ipv6 for one in interfaces) and inside(namespace, _forwards_ipv6)
    except OSError:
        router = False  # a namespace that is gone is met again below
    orders = [_orders(one, quiet=router and not one.ipv6) for one in interfaces]
    return give(orders, namespace)


def give(groups: Sequence[Sequence[Order]], namespace: str | None) -> list[SetupError | None]:
    """Send all orders at once; return, for each group, the first refusal that matters."""
    orders = [order for group in groups for order in group]
    try:
        with Rtnetlink(namespace) as kernel:
            answers = iter(kernel.exchange([order.request for order in orders]))
    except OSError as error:
        return [
            SetupError(
                f"{group[-1].place}: cannot speak to the kernel over netlink: {words(error)}"
            )
            for group in groups
        ]
    return [_first_refusal(group, list(islice(answers, len(group))), namespace) for group in groups]


def _orders(settings: InterfaceSettings, *, quiet: bool) -> list[Order]:
    """Return what gives an interface its settings; *quiet*: it must not report IPv6 groups."""
    place, index = settings.place, settings.index
    orders = _leave_groups(index) if quiet else []
    orders += [
        Order(
            messages.link(index, attributes=[("IFLA_MTU", settings.mtu)]),
            place,
            f"set MTU {settings.mtu}",
        ),
        # Optional: not every kernel and sandbox can, and the tunnel works without. Before "up",
        # where changing the queue is cheap.
        Order(
            messages.link(index, attributes=[("IFLA_TXQLEN", TRANSMIT_QUEUE)]),
            place,
            "",
            optional=True,
        ),
    ]
    if settings.mac_address is not None:
        address = [("IFLA_ADDRESS", settings.mac_address)]
        what = f"set MAC address {settings.mac_address}"
        orders.append(Order(messages.link(index, attributes=address), place, what))
    # Optional: without IPv6 there is none to be had.
    orders.append(Order(messages.no_link_local(index), place, "", optional=True))
    orders += [
        Order(
            messages.add_address(index, address),
            place,
            f"add address {address}",
            remedy=_address_remedy(address),
        )
        for address in settings.addresses
    ]
    if settings.link_local is not None:
        added = messages.add_address(index, settings.link_local)
        orders.append(Order(added, place, "", optional=True))
    up = messages.link(index, up=True, multicast=True if quiet else None)
    orders.append(Order(up, place, f"set interface {settings.name} up"))
    orders += [
        Order(
            messages.add_route(index, route),
            place,
            f"add route {route}",
            remedy=_route_remedy(route),
        )
        for route in settings.own_routes
    ]
    return orders


def _first_refusal(
    orders: Sequence[Order], answers: Sequence[Answer], namespace: str | None
) -> SetupError | None:
    for order, answer in zip(orders, answers, strict=True):
        if answer.error and not order.optional:
            return _refusal(order, answer, namespace)
    return None


def _refusal(order: Order, answer: Answer, namespace: str | None) -> SetupError:
    remedy, code = order.remedy(answer.error), ExitCode.FAILURE
    if answer.error == errno.EPERM:
        remedy = " (gred needs CAP_NET_ADMIN)"
        # What may not be done in another namespace may be done here.
        code = ExitCode.NO_PERMISSION if namespace is None else ExitCode.FAILURE
    return SetupError(f"{order.place}: cannot {order.what}: {answer.finding}{remedy}", code)


def _forwards_ipv6() -> bool:
    """Whether a new interface belongs to a router; where it is not known, it may."""
    try:
        return _FORWARDING.read_text().strip() != "0"
    except FileNotFoundError:  # no IPv6, or no /proc
        return False
    except OSError:
        return True


def _leave_groups(index: int) -> list[Order]:
    """Return orders after which an interface that is down is in no IPv6 group but all nodes.

    On a router the kernel has let it join the group of all routers (ipv6_add_dev), and would
    report that through a tunnel that carries no IPv6. Below IPv6's least MTU it forgets all it
    knows of IPv6 there, and begins anew above it: without multicast, no group is joined. Optional:
    where it fails there are four packets more.
    """
    return [
        Order(
            messages.link(index, attributes=[("IFLA_MTU", FLOOR_IPV6 - 1)], multicast=False),
            "",
            "",
            optional=True,
        )
    ]


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
