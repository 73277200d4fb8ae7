"""The targets: what gred's figures should be beside its peers'. Ratios of medians of one run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.results import Results

Value = Callable[[Results], float | None]


@dataclass(frozen=True, slots=True)
class Target:
    """A value that shall reach a bound (``least``), better a second one (``aim``)."""

    what: str
    value: Value
    least: float
    aim: float
    better: Literal["more", "less"]
    unit: str = ""

    def verdict(self, value: float | None) -> str:
        """Return "aim met", "target met", "missed" or "not measured"."""
        if value is None:
            return "not measured"
        sign = 1 if self.better == "more" else -1
        if sign * value >= sign * self.aim:
            return "aim met"
        return "target met" if sign * value >= sign * self.least else "missed"


def _against(reference: str, metric: str) -> Value:
    return lambda results: results.ratio("gred", reference, metric)


def _as_gred(subject: str, metric: str) -> Value:
    return lambda results: results.ratio(subject, "gred", metric)


def _within(metric: str, against: str) -> Value:
    return lambda results: results.ratio("gred", "gred", metric, against)


def _own(metric: str) -> Value:
    def value(results: Results) -> float | None:
        spread = results.spread("gred", metric)
        return None if spread is None else spread.median

    return value


TARGETS = (
    Target("one TCP stream against kernel VXLAN", _against("vxlan", "tcp1"), 0.50, 0.65, "more"),
    Target(
        "one TCP stream against Open vSwitch userspace GRE",
        _against("ovs", "tcp1"),
        2.5,
        3.5,
        "more",
    ),
    Target("one TCP stream against the per-packet loop", _against("loop", "tcp1"), 3.2, 4, "more"),
    Target(
        "128-byte UDP packets under overload against Open vSwitch",
        _against("ovs", "udp"),
        2.0,
        3,
        "more",
    ),
    Target(
        "one TCP stream, 1,000 tunnels against one",
        _within("tcp_many", "tcp_alone"),
        0.95,
        1,
        "more",
    ),
    Target(
        "one TCP stream, underlay GRO on against off", _within("tcp_gro", "tcp1"), 1.0, 1.1, "more"
    ),
    Target("one TCP stream over IPv6 against IPv4", _as_gred("gred-ipv6", "tcp1"), 0.95, 1, "more"),
    Target("ping under load against kernel VXLAN", _against("vxlan", "ping_load"), 5, 5, "less"),
    Target("memory, one tunnel", _own("memory"), 60, 45, "less", "MB"),
    Target("memory, 1,000 tunnels", _own("memory_many"), 100, 70, "less", "MB"),
    Target("1,000 tunnels, start to ready", _own("start_many"), 8, 4, "less", "s"),
    Target("1,000 tunnels, stop", _own("stop_many"), 3, 1, "less", "s"),
)
