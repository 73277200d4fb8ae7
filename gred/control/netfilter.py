"""Whether netfilter looks at what this host sends.

A packet socket sends past netfilter's hooks "output" and "postrouting". What they do to all packets
of a tunnel alike is seen in those that go the ordinary way; what they count, limit or do to some
is not. Network address translation is of the first kind: it is decided once for a connection.

Hooks of other kinds (programs of BPF, IPVS) are not looked for. Nothing here changes anything. To
ask for all versions blocks: for threads only; tables of iptables are looked for in two small files.
"""

import errno
from pathlib import Path

from gred.control import messages
from gred.control.rtnetlink import Rtnetlink

NETLINK_NETFILTER = 12  # linux/netlink.h; not in the socket module
BOTH = {4, 6}

# Tables of iptables-legacy in this network namespace; the files are there with the modules.
_NETWORK = Path("/proc/thread-self/net")
_LEGACY = {4: _NETWORK / "ip_tables_names", 6: _NETWORK / "ip6_tables_names"}
_NO_NFTABLES = {errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL}


def filtered_versions() -> set[int]:
    """Return the IP versions (4, 6) whose outgoing packets netfilter looks at one by one.

    Blocks. Both where the kernel does not tell.
    """
    return _nftables() | iptables_versions()


def _nftables() -> set[int]:
    try:
        with Rtnetlink(protocol=NETLINK_NETFILTER) as kernel:
            chains = kernel.dump(messages.chains_query())
    except OSError as error:
        return set() if error.errno in _NO_NFTABLES else BOTH
    return {version for chain in chains for version in messages.versions_looked_at(chain)}


def iptables_versions() -> set[int]:
    """Return the IP versions that have tables of iptables-legacy which look at packets.

    The kernel tells of no changes in them.
    """
    found = set[int]()
    if not _NETWORK.exists():
        return BOTH
    for version, path in _LEGACY.items():
        try:
            tables = set(path.read_text().split())
        except FileNotFoundError:
            continue
        except OSError:
            tables = {"unknown"}
        if tables - {"nat"}:
            found.add(version)
    return found
