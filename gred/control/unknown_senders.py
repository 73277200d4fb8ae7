"""Who sends GRE that no tunnel takes: a small table, and what each sender's packets lack.

Fed with the few refused packets that are told of, so counts are of packets that were looked at: the
drop counters have them all. Bounded, whoever sends; nothing here is on the path of a packet.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from gred.config.model import IPAddress, TunnelConfig
from gred.dataplane.punt import Report
from gred.wire.drop import DropReason
from gred.wire.gre import PROTOCOL_ETHERNET

LIMIT = 256  # senders that are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownSender:
    """Packets of one kind from one address; times on the loop's clock, in seconds.

    *protocol*: the protocol type, None where the header was not read. *count*: packets that were
    looked at. *detail*: what the last one was, in words. *in_udp*: whether they came in UDP.
    """

    source: IPAddress
    destination: IPAddress
    key: int | None
    protocol: int | None
    reason: DropReason
    count: int
    first_seen: float
    last_seen: float
    detail: str
    in_udp: bool = False


class UnknownSenders:
    """The table. *clock*: the loop's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[object, UnknownSender] = {}

    def take(self, report: Report) -> None:
        """Note a refused packet, if it is one that no tunnel takes."""
        if report.source is None or report.destination is None:
            return
        if report.tunnel is not None and report.reason is not DropReason.KEY_MISMATCH:
            return
        now = self._clock()
        what = report.key, report.protocol, report.in_udp
        mark = report.source, report.destination, what, report.reason
        known = self._seen.pop(mark, None)
        if known is not None:  # the last one seen is the last one in the table
            more, detail = known.count + 1, report.detail
            self._seen[mark] = replace(known, count=more, last_seen=now, detail=detail)
            return
        if len(self._seen) >= LIMIT:
            # Who was seen once goes first: invented sources do not drive out who keeps sending.
            least = min(self._seen, key=lambda one: self._seen[one].count)
            del self._seen[least]
        self._seen[mark] = UnknownSender(
            source=report.source,
            destination=report.destination,
            key=report.key,
            protocol=report.protocol,
            reason=report.reason,
            count=1,
            first_seen=now,
            last_seen=now,
            detail=report.detail,
            in_udp=report.in_udp,
        )

    def senders(self) -> list[UnknownSender]:
        """Return who was seen, the latest first."""
        return list(reversed(self._seen.values()))


class _Diagnosed(Protocol):
    @property
    def is_quiet(self) -> bool: ...


class _Tunnel(Protocol):
    @property
    def config(self) -> TunnelConfig: ...

    @property
    def diagnosis(self) -> _Diagnosed: ...


class Nearest:
    """Finds the tunnel that a packet for none differs least from, among *tunnels*.

    Built once for many packets; a look-up does not grow with the number of tunnels.
    """

    def __init__(self, tunnels: Iterable[_Tunnel]) -> None:
        self._by_remote: dict[IPAddress, list[_Tunnel]] = {}
        self._by_key: dict[tuple[int, int | None], list[_Tunnel]] = {}
        for tunnel in tunnels:
            config = tunnel.config
            remotes = {remote for _network, remote in config.peers}
            for remote in remotes if config.remote is None else {config.remote}:
                self._by_remote.setdefault(remote, []).append(tunnel)
            self._by_key.setdefault((config.family, config.input_key), []).append(tunnel)

    def tunnel(self, sender: UnknownSender) -> tuple[str, str] | None:
        """Return the name of the nearest tunnel and what differs; None: none is near."""
        family = sender.source.version
        near = self._by_remote.get(sender.source, [])
        if not near:
            near = self._by_key.get((family, sender.key), [])
            if len(near) != 1:  # any key fits many tunnels, and says nothing of one
                return None
        near = [one for one in near if one.config.family == family]
        if not near:
            return None
        # One that works is not meant where another one has heard nothing.
        found = ((_differences(sender, one.config), one) for one in near[:LIMIT])
        lacks, tunnel = min(found, key=lambda one: (len(one[0]), not one[1].diagnosis.is_quiet))
        return tunnel.config.name, "; ".join(lacks)


def _differences(sender: UnknownSender, config: TunnelConfig) -> list[str]:
    """Say what keeps *config* from taking what *sender* sends."""
    found = []
    if config.remote not in (None, sender.source):
        found.append(f"it comes from {sender.source}, Remote={config.remote}")
    if config.local not in (None, sender.destination):
        found.append(f"it is sent to {sender.destination}, Local={config.local}")
    if config.input_key != sender.key:
        found.append(f"it has {_key(sender.key)}, {config.name} takes {_key(config.input_key)}")
    if sender.in_udp != (config.transport == "udp"):
        how = "in UDP" if sender.in_udp else "as IP protocol 47"
        found.append(f"it comes {how}, Transport={config.transport}")
    is_ethernet = sender.protocol == PROTOCOL_ETHERNET
    if sender.protocol is not None and is_ethernet != (config.mode == "gretap"):
        found.append(f"it carries {'Ethernet' if is_ethernet else 'IP'}, Mode={config.mode}")
    return found or [sender.reason.name.lower()]


def _key(key: int | None) -> str:
    return "no key" if key is None else f"key {key}"


def members(
    sender: UnknownSender, nearest: tuple[str, str] | None, now: float
) -> Mapping[str, object]:
    """Return *sender* as JSON has it, times as seconds before *now*."""
    return {
        "source": str(sender.source),
        "destination": str(sender.destination),
        "key": sender.key,
        "protocol": sender.protocol,
        "reason": sender.reason.name.lower(),
        "count": sender.count,
        "first_seen": max(now - sender.first_seen, 0.0),
        "last_seen": max(now - sender.last_seen, 0.0),
        "detail": sender.detail,
        "nearest": None if nearest is None else nearest[0],
        "differs": None if nearest is None else nearest[1],
    }
