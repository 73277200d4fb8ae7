"""Lets IPv6 routes be dead without a carrier. Changes nothing else.

Netlink can for IPv4 (FollowCarrier); for IPv6 there is /proc/sys only, where that may be written.
"""

from pathlib import Path

from gred.control.errors import words
from gred.control.kernel.namespaces import inside

_SETTING = "/proc/sys/net/ipv6/conf/{}/ignore_routes_with_linkdown"


def follow_carrier_ipv6(name: str, namespace: str | None) -> str:
    """Let IPv6 routes through interface *name* follow its carrier; return why they do not.

    They may do so already, by sysctl net.ipv6.conf.default.ignore_routes_with_linkdown=1. Blocks
    for a moment.
    """

    def write() -> None:
        setting = Path(_SETTING.format(name))
        if setting.read_text().strip() == "0":
            setting.write_text("1")

    try:
        inside(namespace, write)
    except FileNotFoundError:
        return ""  # it has no IPv6
    except OSError as error:
        return words(error)
    return ""
