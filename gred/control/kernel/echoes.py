"""How many echo messages have come to this host itself: behind its firewall, where it answers them.

Counters of the network namespace that gred is in, whichever interface they came by. Sends nothing.
Blocks: for threads only.
"""

from pathlib import Path
from typing import NamedTuple

from gred.control.kernel.netfilter import translates_arrivals

_NETWORK = Path("/proc/thread-self/net")


class Echoes(NamedTuple):
    """How many this host itself has received of each kind."""

    requests: int
    replies: int


def received_echoes(version: int) -> Echoes | None:
    """Return how many echo messages of an IP *version* were received so far.

    None: that cannot be seen, or netfilter sends some of what arrives to other hosts, which no
    counter tells from what it drops.
    """
    try:
        if version in translates_arrivals():
            return None
        if version == 6:
            lines = (_NETWORK / "snmp6").read_text().splitlines()
            counts = dict(line.split() for line in lines)
            return Echoes(int(counts["Icmp6InEchos"]), int(counts["Icmp6InEchoReplies"]))
        lines = (_NETWORK / "snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Icmp:"))
        counts = dict(zip(names, values, strict=True))
        return Echoes(int(counts["InEchos"]), int(counts["InEchoReps"]))
    except (OSError, ValueError, KeyError):
        return None
