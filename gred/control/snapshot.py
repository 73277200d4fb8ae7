"""Everything that a person can ask about one tunnel, at one moment: values, and how they are taken.

Nothing here asks the kernel or waits: what is not known already is not in it.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from time import monotonic
from typing import Any

from gred.config.model import IPAddress, TunnelConfig
from gred.control.keepalives import remotes
from gred.control.liveness import Life, Liveness
from gred.control.mtu import overhead
from gred.control.protection import UNSEEN
from gred.control.tunnel import Tunnel, TunnelState
from gred.dataplane.tunnels import Counters
from gred.wire.drop import DropReason

_NOTHING = Counters(0, 0, 0, 0, {}, {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtu:
    """MTUs in bytes. *configured* is None for auto, the others where they are not known.

    *interface*: inner packets. *route*, *learned*, *probed*: outer ones, as the route to the remote
    has it, as routers have told it and as probes have found it; *overhead*: what lies between.
    """

    interface: int
    configured: int | None
    overhead: int
    route: int | None
    learned: int | None
    probed: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ipsec:
    """What IPsec does to outer packets. *until*: seconds since 1970; *mtu*: bytes before ESP."""

    required: bool
    state: str
    detail: str
    cipher: str | None
    mode: str | None
    until: int | None
    mtu: int | None


_MTU_NAMES = tuple(one.name for one in fields(Mtu))


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalive:
    """What keepalives say of one remote; times in seconds.

    *life*: up, hold or down. *since*: for how long; None: it was never up. *least*, *mean* and
    *greatest* are round trips of the last requests, *lost* of *asked* were not answered.
    """

    remote: str
    life: str
    since: float | None
    least: float | None
    mean: float | None
    greatest: float | None
    asked: int
    lost: int
    transitions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One tunnel. *local*: any, or where outer packets leave from; *source*: what any came to.

    *since*: seconds in this state; *transitions*: how often that changed. *last_received*: seconds
    since a packet was delivered; None: not yet, or not known. *port* and *remote_port*: of UDP, and
    None without. *index* and what follows of the interface are None while there is none.
    """

    name: str
    state: TunnelState
    detail: str
    since: float | None
    transitions: int
    mode: str
    family: int
    transport: str
    port: int | None
    remote_port: int | None
    local: str
    source: str | None
    remote: str
    peers: int
    input_key: int | None
    output_key: int | None
    mtu: Mtu
    index: int | None
    namespace: str | None
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    carrier: bool | None
    offload: str | None
    packet_socket: str | None
    ipsec: Ipsec | None
    last_received: float | None
    tx_packets: int
    tx_bytes: int
    rx_packets: int
    rx_bytes: int
    rx_lost: int
    rx_resyncs: int
    tx_drops: dict[str, int]
    rx_drops: dict[str, int]
    keepalives: tuple[Keepalive, ...]


_NAMES = tuple(one.name for one in fields(Snapshot))
_BRIEF = ("name", "state", "detail", "local", "source", "remote", "peers")


def members(snapshot: Snapshot, *, brief: bool = False) -> dict[str, Any]:
    """Return *snapshot* as JSON has it; *brief*: what one line about it needs.

    ``dataclasses.asdict`` copies all that is in it: several times slower, for thousands.
    """
    found = {name: getattr(snapshot, name) for name in (_BRIEF if brief else _NAMES)}
    if not brief:
        found["mtu"] = {name: getattr(snapshot.mtu, name) for name in _MTU_NAMES}
        found["ipsec"] = None if snapshot.ipsec is None else asdict(snapshot.ipsec)
        found["keepalives"] = [asdict(one) for one in snapshot.keepalives]
    return found


def take(
    tunnel: Tunnel,
    counters: Counters | None,
    since: float | None,
    now: float,
    *,
    transitions: int = 0,
) -> Snapshot:
    """Return what *tunnel* is now; *since*: when it came into its state; None: not known."""
    config, device, attached = tunnel.config, tunnel.device, tunnel.attachment is not None
    counted = counters or _NOTHING
    received_at = tunnel.diagnosis.received_at
    return Snapshot(
        name=tunnel.name,
        state=tunnel.state,
        detail=tunnel.detail,
        since=None if since is None else max(now - since, 0.0),
        transitions=transitions,
        mode=config.mode,
        family=config.family,
        transport=config.transport,
        port=config.port if config.transport == "udp" else None,
        remote_port=config.remote_port if config.transport == "udp" else None,
        local=_text(tunnel.binding.local),
        source=None if tunnel.source is None else str(tunnel.source),
        remote=tunnel.far_end,
        peers=len(config.peers),
        input_key=config.input_key,
        output_key=config.output_key,
        mtu=_mtu(tunnel, config),
        index=None if device is None else device.index,
        namespace=config.namespace,
        addresses=tuple(map(str, config.addresses)),
        routes=tuple(map(str, config.routes)),
        carrier=tunnel.has_carrier if device is not None else None,
        offload=None if device is None else device.offload,
        packet_socket=tunnel.packet_socket if attached else None,
        ipsec=_ipsec(tunnel),
        last_received=None if received_at is None else max(now - received_at, 0.0),
        tx_packets=counted.tx_packets,
        tx_bytes=counted.tx_bytes,
        rx_packets=counted.rx_packets,
        rx_bytes=counted.rx_bytes,
        rx_lost=counted.rx_lost,
        rx_resyncs=counted.rx_resyncs,
        tx_drops=_drops(counted.tx_drops),
        rx_drops=_drops(counted.rx_drops),
        keepalives=tuple(_keepalives(tunnel, now)),
    )


def _mtu(tunnel: Tunnel, config: TunnelConfig) -> Mtu:
    path = tunnel.path
    return Mtu(
        interface=tunnel.mtu,
        configured=config.mtu,
        overhead=overhead(config),
        route=path.route_mtu,
        learned=path.learned,
        probed=path.probed,
    )


def _ipsec(tunnel: Tunnel) -> Ipsec | None:
    required, protection = tunnel.config.ipsec != "no", tunnel.binding.protection
    if protection is None:
        if not required:
            return None
        protection = UNSEEN
    return Ipsec(
        required=required,
        state=str(protection.guard),
        detail=protection.sentence or protection.words,
        cipher=protection.cipher or None,
        mode=protection.mode or None,
        until=protection.until,
        mtu=protection.mtu,
    )


def _keepalives(tunnel: Tunnel, now: float) -> Iterator[Keepalive]:
    """Yield what is known of each remote that is asked, or that will be."""
    if tunnel.lives or tunnel.config.keepalive is None:
        yield from (_keepalive(remote, life, now) for remote, life in tunnel.lives.items())
        return
    for remote in remotes(tunnel.config):
        yield Keepalive(
            remote=str(remote),
            life=str(Life.DOWN),
            since=None,
            least=None,
            mean=None,
            greatest=None,
            asked=0,
            lost=0,
            transitions=0,
        )


def _keepalive(remote: IPAddress, life: Liveness, now: float) -> Keepalive:
    figures = life.figures(monotonic())
    return Keepalive(
        remote=str(remote),
        life=str(life.life),
        since=None if life.since is None else max(now - life.since, 0.0),
        least=figures.least,
        mean=figures.mean,
        greatest=figures.greatest,
        asked=figures.asked,
        lost=figures.lost,
        transitions=life.transitions,
    )


def _drops(counts: dict[DropReason, int]) -> dict[str, int]:
    return {reason.name.lower(): count for reason, count in counts.items() if count}


def _text(address: IPAddress | None) -> str:
    return "any" if address is None else str(address)
