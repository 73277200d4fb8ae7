"""A moment -> metric families, as Prometheus names things. Pure.

No series vanishes while its tunnel is configured: what is not known is NaN, a time that never was
is 0, and a reason that once dropped a packet stays. Families are made one after another: of
thousands of tunnels never all samples are in memory at once.

The only module that imports prometheus_client; imported only where metrics are asked for.
"""

from collections.abc import Callable, Iterable, Iterator
from math import nan

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from gred.control.snapshot import Keepalive, Snapshot
from gred.control.tunnel import TunnelState
from gred.management.metrics.lag import BOUNDS
from gred.management.metrics.moment import Moment
from gred.wire.drop import DropReason

TEXT = CONTENT_TYPE_LATEST

_DIRECTIONS = ("receive", "transmit")
_REASONS = tuple(reason.name.lower() for reason in DropReason if reason is not DropReason.NONE)
_STATES = tuple(str(state) for state in TunnelState)

Value = float | int | None

# Name, help, and what it is of a tunnel.
_COUNTERS: tuple[tuple[str, str, Callable[[Snapshot], int]], ...] = (
    (
        "gred_tunnel_receive_packets",
        "Inner packets that came out of the tunnel and were delivered.",
        lambda one: one.rx_packets,
    ),
    (
        "gred_tunnel_receive_bytes",
        "Bytes of inner packets that came out of the tunnel and were delivered.",
        lambda one: one.rx_bytes,
    ),
    (
        "gred_tunnel_transmit_packets",
        "Inner packets that were sent into the tunnel.",
        lambda one: one.tx_packets,
    ),
    (
        "gred_tunnel_transmit_bytes",
        "Bytes of inner packets that were sent into the tunnel.",
        lambda one: one.tx_bytes,
    ),
    (
        "gred_tunnel_receive_lost_packets",
        "Packets that did not come, by their sequence numbers.",
        lambda one: one.rx_lost,
    ),
    (
        "gred_tunnel_receive_resyncs",
        "Restarts of the other end, by its sequence numbers.",
        lambda one: one.rx_resyncs,
    ),
    (
        "gred_tunnel_transitions",
        "Changes of the tunnel's state.",
        lambda one: one.transitions,
    ),
)

_MTU_KINDS: tuple[tuple[str, Callable[[Snapshot], Value]], ...] = (
    ("interface", lambda one: one.mtu.interface),
    ("route", lambda one: one.mtu.route),
    ("learned", lambda one: one.mtu.learned),
    ("probed", lambda one: one.mtu.probed),
)

_RTT_KINDS: tuple[tuple[str, Callable[[Keepalive], Value]], ...] = (
    ("min", lambda life: life.least),
    ("mean", lambda life: life.mean),
    ("max", lambda life: life.greatest),
)


class Renderer:
    """Turns moments into text. Remembers which reasons have dropped packets of which tunnel."""

    def __init__(self) -> None:
        self._seen: dict[str, set[tuple[str, str]]] = {}
        self._process = ProcessCollector(registry=None)

    def http(self, moment: Moment, accept: str) -> tuple[bytes, str]:
        """Return the text for whoever accepts *accept*, and its content type."""
        encode, content_type = choose_encoder(accept)
        registry = self._registry(moment)
        registry.register(self._process)
        return encode(registry), content_type

    def file(self, moment: Moment) -> bytes:
        """Return the text for a file: with the time, and without what node_exporter has itself."""
        return generate_latest(self._registry(moment, written=True))

    def _registry(self, moment: Moment, *, written: bool = False) -> CollectorRegistry:
        names = {one.name for one in moment.tunnels}
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        registry = CollectorRegistry()
        registry.register(_Moment(moment, self._seen, written=written))
        return registry


class _Moment(Collector):
    """Yields the families of one moment."""

    def __init__(
        self, moment: Moment, seen: dict[str, set[tuple[str, str]]], *, written: bool
    ) -> None:
        self._moment = moment
        self._seen = seen
        self._written = written

    def describe(self) -> Iterable[Metric]:
        return []  # nobody else is in this registry

    def collect(self) -> Iterator[Metric]:
        moment = self._moment
        build = InfoMetricFamily("gred_build", "The running program; the value is 1.")
        build.add_metric([], dict(moment.facts))
        yield build
        if self._written:
            name = "gred_metrics_written_timestamp_seconds"
            yield GaugeMetricFamily(name, "When this file was written.", moment.at)
        yield from _states(moment)
        for name, words, count in _COUNTERS:
            counter = CounterMetricFamily(name, words, labels=["tunnel"])
            for one in moment.tunnels:
                counter.add_metric([one.name], count(one))
            yield counter
        yield from _drops(moment.tunnels, self._seen)
        yield _mtus(moment.tunnels)
        yield from _keepalives(moment.tunnels)
        yield from _daemon(moment)


def _states(moment: Moment) -> Iterator[Metric]:
    info = InfoMetricFamily(
        "gred_tunnel",
        "What the tunnel is; the value is 1.",
        labels=["tunnel", "mode", "family", "transport", "local", "remote", "namespace"],
    )
    up = GaugeMetricFamily(
        "gred_tunnel_up", "Whether the tunnel's state is up: 1 or 0.", labels=["tunnel"]
    )
    carrier = GaugeMetricFamily(
        "gred_tunnel_carrier",
        "Whether the interface has a carrier: 1 or 0; 0 without an interface.",
        labels=["tunnel"],
    )
    since = GaugeMetricFamily(
        "gred_tunnel_state_since_timestamp_seconds",
        "When the tunnel came into its state; 0: it has not been in another.",
        labels=["tunnel"],
    )
    received = GaugeMetricFamily(
        "gred_tunnel_last_receive_timestamp_seconds",
        "When a packet was delivered last, to two seconds; 0: none was.",
        labels=["tunnel"],
    )
    for one in moment.tunnels:
        named = [one.name]
        facts = [one.mode, str(one.family), one.transport, one.local, one.remote]
        facts.append(one.namespace or "")
        info.add_metric(named + facts, {})
        up.add_metric(named, one.state is TunnelState.UP)
        carrier.add_metric(named, bool(one.carrier))
        since.add_metric(named, _ago(moment.at, one.since))
        received.add_metric(named, _ago(moment.at, one.last_received))
    yield from (info, up, carrier, since, received)
    state = GaugeMetricFamily(
        "gred_tunnel_state",
        "The tunnel's state: 1 for the one that it is in, 0 for each other.",
        labels=["tunnel", "state"],
    )
    for one in moment.tunnels:
        for word in _STATES:
            state.add_metric([one.name, word], word == one.state)
    yield state


def _drops(tunnels: Iterable[Snapshot], known: dict[str, set[tuple[str, str]]]) -> Iterator[Metric]:
    total = CounterMetricFamily(
        "gred_tunnel_dropped_packets",
        "Packets that were dropped, for whatever reason.",
        labels=["tunnel", "direction"],
    )
    drops = CounterMetricFamily(
        "gred_drops",
        "Packets that were dropped, by reason: those that have dropped any since the start.",
        labels=["tunnel", "direction", "reason"],
    )
    for one in tunnels:
        counts = {
            (direction, reason): count
            for direction, found in zip(_DIRECTIONS, (one.rx_drops, one.tx_drops), strict=True)
            for reason, count in found.items()
        }
        for direction in _DIRECTIONS:
            count = sum(count for (where, _reason), count in counts.items() if where == direction)
            total.add_metric([one.name, direction], count)
        seen = known.setdefault(one.name, set())
        seen.update(counts)
        for direction, reason in sorted(seen):
            count = counts.get((direction, reason), 0)
            drops.add_metric([one.name, direction, reason], count)
    yield total
    yield drops


def _mtus(tunnels: Iterable[Snapshot]) -> Metric:
    mtu = GaugeMetricFamily(
        "gred_tunnel_mtu_bytes",
        "MTU of the interface, and of outer packets as the route has it, routers told it and"
        " probes found it; NaN: not known.",
        labels=["tunnel", "kind"],
    )
    for one in tunnels:
        for kind, value in _MTU_KINDS:
            mtu.add_metric([one.name, kind], _known(value(one)))
    return mtu


def _keepalives(tunnels: Iterable[Snapshot]) -> Iterator[Metric]:
    labels = ["tunnel", "remote"]
    up = GaugeMetricFamily(
        "gred_keepalive_up", "Whether the other end answers keepalives: 1 or 0.", labels=labels
    )
    rtt = GaugeMetricFamily(
        "gred_keepalive_rtt_seconds",
        "Round trip of the last keepalives; NaN: none was answered.",
        labels=[*labels, "kind"],
    )
    loss = GaugeMetricFamily(
        "gred_keepalive_loss_ratio",
        "How many of the last keepalives were not answered, 0 to 1; NaN: none was sent.",
        labels=labels,
    )
    transitions = CounterMetricFamily(
        "gred_keepalive_transitions",
        "How often the other end began or ceased to answer keepalives.",
        labels=labels,
    )
    for one in tunnels:
        for life in one.keepalives:
            named = [one.name, life.remote]
            up.add_metric(named, life.life == "up")
            loss.add_metric(named, life.lost / life.asked if life.asked else nan)
            transitions.add_metric(named, life.transitions)
            for kind, value in _RTT_KINDS:
                rtt.add_metric([*named, kind], _known(value(life)))
    yield from (up, rtt, loss, transitions)


def _daemon(moment: Moment) -> Iterator[Metric]:
    unknown = CounterMetricFamily(
        "gred_unknown_packets", "GRE packets that are for no tunnel, by reason.", labels=["reason"]
    )
    drops = {reason.name.lower(): count for reason, count in moment.unknown.rx_drops.items()}
    for reason in _REASONS:
        unknown.add_metric([reason], drops.get(reason, 0))
    yield unknown
    reloads = moment.reloads
    yield GaugeMetricFamily(
        "gred_config_last_reload_successful",
        "Whether the last reload stayed: 1, or 0 when it was refused or went back.",
        reloads.successful,
    )
    yield GaugeMetricFamily(
        "gred_config_last_reload_success_timestamp_seconds",
        "When a configuration was taken last.",
        reloads.succeeded_at,
    )
    lag = HistogramMetricFamily(
        "gred_event_loop_lag_seconds",
        "How late the event loop is, measured four times a second; packets wait as long.",
    )
    buckets, sum_so_far = [], 0
    for bound, count in zip((*map(str, BOUNDS), "+Inf"), moment.lags.counts, strict=True):
        sum_so_far += count
        buckets.append((bound, sum_so_far))
    lag.add_metric([], buckets, moment.lags.total)
    yield lag


def _known(value: Value) -> float:
    return nan if value is None else value


def _ago(at: float, seconds: float | None) -> float:
    """Return the time *seconds* before *at*; 0 for never."""
    return 0.0 if seconds is None else round(at - seconds, 2)
