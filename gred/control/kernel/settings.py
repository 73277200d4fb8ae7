"""Settings of the network namespace of the calling thread, as /proc/sys/net has them. Only read.

Which of two settings counts is the kernel's rule (Documentation/networking/ip-sysctl.rst).
"""

from pathlib import Path

_SETTINGS = Path("/proc/sys/net")


def number(*names: str) -> int:
    """Return the setting net.NAME.NAME... Raises OSError; ENOENT: there is none of that name."""
    text = _SETTINGS.joinpath(*names).read_text().strip()
    try:
        return int(text)
    except ValueError as error:
        raise OSError(f"net.{'.'.join(names)} is {text!r}") from error


def rp_filter(device: str) -> int:
    """Return how an interface filters by the reverse path: 0 not, 1 strictly, 2 loosely.

    The larger of its own setting and that of all counts; what is not there yet gets the default.
    """
    every = number("ipv4", "conf", "all", "rp_filter")
    try:
        return max(every, number("ipv4", "conf", device, "rp_filter"))
    except FileNotFoundError:
        return max(every, number("ipv4", "conf", "default", "rp_filter"))


def forwards(version: int) -> bool:
    """Return whether this host forwards packets of an IP version between its interfaces."""
    return bool(number(f"ipv{version}", "conf", "all", "forwarding"))


def ipv6_follows_carrier(device: str) -> bool:
    """Return whether IPv6 routes through an interface are dead while it has no carrier.

    Of one that is not there yet: whether they would be.
    """
    try:
        return bool(number("ipv6", "conf", device, "ignore_routes_with_linkdown"))
    except FileNotFoundError:
        return bool(number("ipv6", "conf", "default", "ignore_routes_with_linkdown"))
