"""Snapshots and moments for tests of metrics."""

from typing import Any

from gred.control.snapshot import Keepalive, Mtu, Snapshot
from gred.control.tunnel import TunnelState
from gred.dataplane.tunnels import Counters
from gred.management.metrics.lag import Lags
from gred.management.metrics.moment import Moment
from gred.management.reloading import Reloads
from gred.wire.drop import DropReason

FACTS = {"version": "1.2.3", "python": "3.11.2", "loop": "uvloop", "codec": "c"}


def snapshot(name: str = "t1", **other: Any) -> Snapshot:
    """Return a tunnel that is up, without keepalives, but for what is *other*."""
    mtu = Mtu(interface=1476, configured=None, overhead=24, route=1500, learned=None, probed=None)
    members: dict[str, Any] = {
        "name": name,
        "state": TunnelState.UP,
        "detail": "",
        "since": 10.0,
        "transitions": 1,
        "mode": "gre",
        "family": 4,
        "transport": "ip",
        "port": None,
        "remote_port": None,
        "local": "192.0.2.1",
        "source": None,
        "remote": "192.0.2.2",
        "peers": 0,
        "input_key": None,
        "output_key": None,
        "mtu": mtu,
        "index": 7,
        "namespace": None,
        "addresses": (),
        "routes": (),
        "carrier": True,
        "offload": "tso4",
        "packet_socket": "yes",
        "ipsec": None,
        "last_received": None,
        "tx_packets": 3,
        "tx_bytes": 252,
        "rx_packets": 2,
        "rx_bytes": 168,
        "rx_lost": 0,
        "rx_resyncs": 0,
        "tx_drops": {},
        "rx_drops": {},
        "keepalives": (),
    }
    return Snapshot(**(members | other))


def keepalive(remote: str = "192.0.2.2", **other: Any) -> Keepalive:
    """Return a remote that has not been asked yet, but for what is *other*."""
    members: dict[str, Any] = {
        "remote": remote,
        "life": "down",
        "since": None,
        "least": None,
        "mean": None,
        "greatest": None,
        "asked": 0,
        "lost": 0,
        "transitions": 0,
    }
    return Keepalive(**(members | other))


def moment(*tunnels: Snapshot, at: float = 1_800_000_000.0, unknown: int = 0) -> Moment:
    return Moment(
        at=at,
        facts=FACTS,
        tunnels=tunnels,
        unknown=Counters(0, 0, 0, 0, {}, {DropReason.NO_TUNNEL: unknown}),
        reloads=Reloads(successful=True, succeeded_at=at - 60),
        lags=Lags((1, 2, *(0,) * 8, 1), 1.5),
    )
