"""Whether rules of iptables-legacy look at what this host sends. Changes nothing.

getsockopt(2) tells of a table, but makes one that is not there (xt_find_table_lock in the kernel's
net/netfilter/x_tables.c), and may load its module. So it is asked only about tables that the kernel
lists, in files that root alone may read. Who may not read them looks at the modules: one without a
user has no rules in any network namespace (do_replace in net/ipv4/netfilter/ip_tables.c counts).

Policies are not looked at: they are for all packets alike, see netfilter.py.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from gred.control.kernel.linux import (
    IPT_SO_GET_INFO,
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
)

RULES = "netfilter rules"

_NETWORK = Path("/proc/thread-self/net")
_MODULES = Path("/proc/modules")
# Address translation is decided once for a connection: table nat is none of these.
_TABLES = ("filter", "mangle", "raw", "security")
_FAMILIES = {
    4: ("ip", socket.AF_INET, socket.IPPROTO_IP),
    6: ("ip6", socket.AF_INET6, socket.IPPROTO_IPV6),
}
# struct ipt_getinfo of linux/netfilter_ipv4/ip_tables.h, and IPv6's: name, hooks that the table
# has, where in it the chain of each begins, where its policy is, number of entries, size.
_INFO = struct.Struct("=32sI5I5III")


def iptables_reasons() -> dict[int, str]:
    """Return the IP versions (4, 6) whose outgoing packets such rules may look at, and why.

    The kernel tells of no changes in them. Does not wait.
    """
    if not _NETWORK.exists():
        return dict.fromkeys(_FAMILIES, f"cannot see iptables tables: there is no {_NETWORK}")
    return {version: why for version in _FAMILIES if (why := _reason(version))}


def may_translate(version: int) -> bool:
    """Tell whether table nat may be in use. Raises OSError where nobody can tell."""
    prefix, _family, _level = _FAMILIES[version]
    try:
        return "nat" in (_NETWORK / f"{prefix}_tables_names").read_text().split()
    except FileNotFoundError:
        return False
    except PermissionError:
        used = dict(_used_modules(_MODULES.read_text().splitlines()))
        return used.get(f"{prefix}table_nat", f"{prefix}_tables" not in used)


def _reason(version: int) -> str:
    prefix, _family, _level = _FAMILIES[version]
    try:
        listed = (_NETWORK / f"{prefix}_tables_names").read_text().split()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _reason_by_modules(prefix, error)
    try:
        looks = any(_has_rules(version, table) for table in _TABLES if table in listed)
    except OSError as error:
        return _cannot_see(error)
    return RULES if looks else ""


def _reason_by_modules(prefix: str, refused: OSError) -> str:
    """Tell without the list of tables; *refused* is why it could not be read."""
    try:
        used = dict(_used_modules(_MODULES.read_text().splitlines()))
    except OSError:
        return _cannot_see(refused)
    if f"{prefix}_tables" not in used:
        return _cannot_see(refused)  # built in: no module tells
    return _cannot_see(refused) if _in_use(used, prefix) else ""


def _in_use(used: dict[str, bool], prefix: str) -> Collection[str]:
    return [table for table in _TABLES if used.get(f"{prefix}table_{table}")]


def _used_modules(lines: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Yield each loaded module and whether it has users. proc_modules(5): name, size, users."""
    for line in lines:
        name, _size, users, *_rest = line.split()
        yield name, users not in {"0", "-"}


def _cannot_see(error: OSError) -> str:
    return f"cannot see iptables tables: {error.strerror}"


def _has_rules(version: int, table: str) -> bool:
    """Tell whether a chain that sent packets pass in *table* has rules. Raises OSError.

    Needs CAP_NET_ADMIN. The table must be there.
    """
    _prefix, family, level = _FAMILIES[version]
    libc = ctypes.CDLL(None, use_errno=True)
    info = ctypes.create_string_buffer(table.encode(), _INFO.size)
    length = ctypes.c_uint32(_INFO.size)
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        if libc.getsockopt(asking.fileno(), level, IPT_SO_GET_INFO, info, ctypes.byref(length)):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    _name, hooks, *places, _entries, _size = _INFO.unpack(info.raw)
    begins, policies = places[:5], places[5:]
    return any(
        hooks & 1 << hook and begins[hook] != policies[hook]
        for hook in (NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING)
    )
