"""What is asked of each subject, and the metrics that come out.

A measure gets a subject at work and returns values by metric. Within a session measures run in
the order written here; memory comes last, when the traffic has been through.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from benchmarks import loads, process
from benchmarks.lab import GRO_FLUSH_TIMEOUT, Lab
from benchmarks.subjects import Running

MANY = 1_000
MANY_ROUNDS = 3
SMALL_PACKET = 128  # bytes of UDP payload
STALLED = 10e6  # bit/s: what is left of a transfer when only small packets get through
RAMP_SECONDS = 0.7  # from the start of a transfer until it fills the path


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per session. Gbit = 10^9 bit, GB = 10^9 bytes, MB = 10^6 bytes."""

    name: str
    title: str
    unit: str
    better: Literal["more", "less"]
    digits: int = 2


METRICS = (
    Metric("tcp1", "TCP, one stream, a to b", "Gbit/s", "more"),
    Metric("retransmits", "TCP segments sent again, one stream", "segments", "less", 0),
    Metric("tcp1_reverse", "TCP, one stream, b to a", "Gbit/s", "more"),
    Metric("tcp1_both", "TCP, one stream each way at once, sum", "Gbit/s", "more"),
    Metric("tcp4", "TCP, four streams, a to b", "Gbit/s", "more"),
    Metric("tcp4_reverse", "TCP, four streams, b to a", "Gbit/s", "more"),
    Metric("udp", "UDP, 128-byte packets delivered under overload", "1000/s", "more", 1),
    Metric("ping", "ping, idle, median", "ms", "less", 3),
    Metric("ping_p99", "ping, idle, 99th percentile", "ms", "less", 3),
    Metric("ping_load", "ping under one full TCP stream, median", "ms", "less", 3),
    Metric("ping_load_p99", "ping under one full TCP stream, 99th percentile", "ms", "less", 3),
    Metric("cpu_daemons", "CPU time of both daemons, one TCP stream", "s/GB", "less"),
    Metric("cpu_system", "CPU time of the whole machine, one TCP stream", "s/GB", "less"),
    Metric("tcp_gro", "TCP, one stream, underlay GRO on (200 us)", "Gbit/s", "more"),
    Metric("tcp_gro_0", "the same, packets not held back", "Gbit/s", "more"),
    Metric("tcp_gro_50", "the same, held back for 50 microseconds", "Gbit/s", "more"),
    Metric("tcp_gro_500", "the same, held back for 500 microseconds", "Gbit/s", "more"),
    Metric("memory", "resident memory of a daemon after the loads (VmRSS)", "MB", "less", 1),
    Metric("memory_pss", "the same, shared pages divided (PSS)", "MB", "less", 1),
    Metric("start", "one tunnel, start to ready", "s", "less"),
    Metric("stop", "one tunnel, stop", "s", "less"),
    Metric("tcp_many", "TCP, one stream, 1,000 tunnels configured", "Gbit/s", "more"),
    Metric("tcp_alone", "TCP, one stream, one tunnel, by turns with the former", "Gbit/s", "more"),
    Metric("memory_many", "resident memory with 1,000 tunnels (VmRSS)", "MB", "less", 1),
    Metric("start_many", "1,000 tunnels, start to ready", "s", "less"),
    Metric("stop_many", "1,000 tunnels, stop", "s", "less"),
)


@dataclass(frozen=True, slots=True)
class Session:
    """A subject at work in a laboratory, and how long each load shall last."""

    lab: Lab
    running: Running
    seconds: float
    alone: "Session | None" = None
    """The same subject with one tunnel, where many are measured."""
    notes: list[str] = field(default_factory=list)
    """What a reader of the figures should know and no figure says."""

    def tcp(self, *options: str) -> loads.Transfer:
        """Run one TCP transfer to its end."""
        return loads.Tcp(self.lab, self.running, self.seconds, *options).result()


Values = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measure:
    """A load and what is read off it. ``tunnels``: how many the subject has meanwhile."""

    name: str
    title: str
    run: Callable[[Session], Values]
    tunnels: int = 1


def _gbits(transfer: loads.Transfer) -> float:
    return transfer.bits_per_second / 1e9


def _tcp1(session: Session) -> Values:
    """Measure throughput, and what each gigabyte cost.

    Of the daemons, and of all that ran meanwhile: kernel, iperf3, whatever else the machine does.
    """
    daemons = session.running.daemons

    def used() -> tuple[float, float]:
        return sum(map(process.cpu_seconds, daemons)), process.system_cpu_seconds()

    before = used()
    transfer = session.tcp()
    after = used()
    values = {"tcp1": _gbits(transfer), "retransmits": float(transfer.retransmits)}
    if transfer.size:
        gigabytes = transfer.size / 1e9
        values["cpu_system"] = (after[1] - before[1]) / gigabytes
        if daemons:
            values["cpu_daemons"] = (after[0] - before[0]) / gigabytes
    return values


def _tcp1_reverse(session: Session) -> Values:
    return {"tcp1_reverse": _gbits(session.tcp("--reverse"))}


def _tcp1_both(session: Session) -> Values:
    return {"tcp1_both": _gbits(session.tcp("--bidir"))}


def _tcp4(session: Session) -> Values:
    return {"tcp4": _gbits(session.tcp("--parallel", "4"))}


def _tcp4_reverse(session: Session) -> Values:
    return {"tcp4_reverse": _gbits(session.tcp("--parallel", "4", "--reverse"))}


def _udp(session: Session) -> Values:
    rate = loads.flood(session.lab, session.running, size=SMALL_PACKET, seconds=session.seconds)
    return {"udp": rate / 1e3}


def _round_trips(session: Session, name: str, trips: loads.RoundTrips) -> Values:
    """Median and 99th percentile, an answer that never came being later than any that did."""
    answered = len(trips.milliseconds)
    times = sorted(trips.milliseconds) + [math.inf] * (trips.sent - answered)
    values = {name: statistics.median(times), f"{name}_p99": times[(len(times) * 99) // 100]}
    if answered < trips.sent:
        session.notes.append(f"{answered} of {trips.sent} pings answered")
    return {metric: value for metric, value in values.items() if math.isfinite(value)}


def _ping(session: Session) -> Values:
    trips = loads.ping(session.lab, session.running, count=200, interval=0.005)
    return _round_trips(session, "ping", trips)


def _ping_load(session: Session) -> Values:
    transfer = loads.Tcp(session.lab, session.running, session.seconds + 2 * RAMP_SECONDS + 1)
    time.sleep(RAMP_SECONDS)
    count = int(session.seconds * 100)
    trips = loads.ping(session.lab, session.running, count=count, interval=0.01)
    transfer.result()
    return _round_trips(session, "ping_load", trips)


def _tcp_merged(session: Session, flush_timeout: int = GRO_FLUSH_TIMEOUT) -> float:
    session.lab.underlay_gro(on=True, flush_timeout=flush_timeout)
    try:
        transfer = session.tcp()
    finally:
        session.lab.underlay_gro(on=False)
    if transfer.bits_per_second < STALLED:
        session.notes.append("TCP stalls: it cannot use packets that GRO has merged")
    return _gbits(transfer)


def _gro(session: Session) -> Values:
    return {"tcp_gro": _tcp_merged(session)}


def _gro_flush(session: Session) -> Values:
    return {
        f"tcp_gro_{microseconds}": _tcp_merged(session, microseconds * 1000)
        for microseconds in (0, 50, 500)
    }


def _mean(values: list[float]) -> float:
    return statistics.fmean(values)


def _memory(session: Session) -> Values:
    daemons = session.running.daemons
    if not daemons:
        return {}
    return {
        "memory": _mean([process.resident_megabytes(pid) for pid in daemons]),
        "memory_pss": _mean([process.proportional_megabytes(pid) for pid in daemons]),
    }


def _many(session: Session) -> Values:
    # By turns: what differs by a few per cent must be measured closer together than all else.
    many, alone = list[float](), list[float]()
    for _ in range(MANY_ROUNDS):
        many.append(_gbits(session.tcp()))
        if session.alone is not None:
            alone.append(_gbits(session.alone.tcp()))
    values = {"tcp_many": statistics.median(many)}
    if alone:
        values["tcp_alone"] = statistics.median(alone)
    if session.running.daemons:
        values["memory_many"] = _mean(
            [process.resident_megabytes(pid) for pid in session.running.daemons]
        )
    return values


MEASURES = (
    Measure("tcp1", "TCP, one stream, a to b; CPU time per gigabyte", _tcp1),
    Measure("gro", "the same with GRO on at both ends of the underlay", _gro),
    Measure("gro-flush", "the same with packets held back for 0, 50 and 500 us", _gro_flush),
    Measure("tcp1-reverse", "TCP, one stream, b to a", _tcp1_reverse),
    Measure("tcp1-both", "TCP, one stream each way at once", _tcp1_both),
    Measure("tcp4", "TCP, four streams, a to b", _tcp4),
    Measure("tcp4-reverse", "TCP, four streams, b to a", _tcp4_reverse),
    Measure("udp", "small UDP packets delivered under overload", _udp),
    Measure("ping", "round trip, idle", _ping),
    Measure("ping-load", "round trip under one full TCP stream", _ping_load),
    Measure("memory", "resident memory of a daemon after the loads before this", _memory),
    Measure(
        "many",
        "1,000 tunnels: throughput over one of them, memory, start, stop",
        _many,
        tunnels=MANY,
    ),
)
