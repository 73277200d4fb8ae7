"""Whether netfilter looks at what this host sends.

A packet socket sends past netfilter's hooks "output" and "postrouting". What they do to all packets
of a tunnel alike is seen in those that go the ordinary way; what they count, limit or do to some
is not. Network address translation is of the first kind: it is decided once for a connection. So
are policies: a chain that drops all drops those that go ahead, and nothing follows them.

Hooks of other kinds (programs of BPF, IPVS) are not looked for. Nothing here changes anything. To
ask blocks: for threads only.
"""

import errno

from gred.control.kernel import messages
from gred.control.kernel.iptables import RULES, iptables_reasons, may_translate
from gred.control.kernel.linux import (
    NETLINK_NETFILTER,
)
from gred.control.kernel.rtnetlink import Rtnetlink

_NO_NFTABLES = {errno.ENOENT, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT, errno.EINVAL}


def filtered() -> dict[int, str]:
    """Return the IP versions (4, 6) whose outgoing packets netfilter may look at, and why.

    The reason is that there are rules, or that nobody can tell. Blocks.
    """
    return iptables_reasons() | _nftables()


def translates_arrivals() -> frozenset[int]:
    """Return the IP versions of which netfilter may send what arrives to other hosts. Blocks.

    Raises OSError where nobody can tell.
    """
    found = {version for version in (4, 6) if may_translate(version)}
    try:
        with Rtnetlink(protocol=NETLINK_NETFILTER) as kernel:
            chains = kernel.dump(messages.chains_query())
    except OSError as error:
        if error.errno not in _NO_NFTABLES:
            raise
        chains = []
    found.update(version for chain in chains for version in messages.versions_translated(chain))
    return frozenset(found)


def _nftables() -> dict[int, str]:
    try:
        with Rtnetlink(protocol=NETLINK_NETFILTER) as kernel:
            chains = kernel.dump(messages.chains_query())
    except OSError as error:
        if error.errno in _NO_NFTABLES:
            return {}
        return dict.fromkeys((4, 6), f"cannot see nftables rules: {error.strerror}")
    found = {version for chain in chains for version in messages.versions_looked_at(chain)}
    return dict.fromkeys(found, RULES)
