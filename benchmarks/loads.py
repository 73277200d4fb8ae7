"""The loads: iperf3 for TCP, ping for round trips, a flood of small UDP packets.

Each runs between the two ends for a bounded time and returns numbers. Nothing here knows what
carries the packets.
"""

import json
import re
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.lab import Lab
from benchmarks.process import LoadError, Process
from benchmarks.subjects import Running

FLOOD_PORT = 5202
GRACE_SECONDS = 15  # beyond a load's own duration, before it counts as hung


@dataclass(frozen=True, slots=True)
class Transfer:
    """What iperf3 counted at the receiving end, all streams together."""

    bits_per_second: float
    size: int
    """Bytes that arrived."""
    retransmits: int


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """Answers to pings: milliseconds each, in order of arrival, and how many were asked for."""

    milliseconds: tuple[float, ...]
    sent: int


class Tcp:
    """A TCP transfer between the ends, started when made; :meth:`result` waits for its end."""

    def __init__(self, lab: Lab, running: Running, seconds: float, *options: str) -> None:
        self._seconds = seconds
        self._server = lab.b.start("iperf3", "--server", "--one-off", "--forceflush")
        self._server.wait_for_output("Server listening")
        self._client: Process = lab.a.start(
            "iperf3", "--client", running.inner_b, "--json", "--connect-timeout", "5000",
            "--time", f"{max(1, round(seconds))}", *options,
        )  # fmt: skip

    def result(self) -> Transfer:
        """Wait for the end of the transfer. With ``--bidir`` both directions are added."""
        try:
            text = self._client.wait(timeout=self._seconds + GRACE_SECONDS)
        except LoadError as error:
            raise LoadError(self._reason() or str(error)) from error
        finally:
            self._server.stop(timeout=1)
        end = json.loads(text)["end"]
        received = [
            end[name] for name in ("sum_received", "sum_received_bidir_reverse") if name in end
        ]
        sent = [end[name] for name in ("sum_sent", "sum_sent_bidir_reverse") if name in end]
        return Transfer(
            bits_per_second=sum(one["bits_per_second"] for one in received),
            size=sum(one["bytes"] for one in received),
            retransmits=sum(one.get("retransmits", 0) for one in sent),
        )

    def _reason(self) -> str | None:
        """With --json a failed iperf3 tells why in its JSON."""
        try:
            report: dict[str, Any] = json.loads(self._client.output())
        except ValueError:
            return None
        return f"iperf3: {report['error']}" if "error" in report else None


def ping(lab: Lab, running: Running, *, count: int, interval: float) -> RoundTrips:
    """Ping from a to b, *count* times, one each *interval* seconds."""
    limit = int(count * interval) + 3
    process = lab.a.start(
        "ping", "-n", "-c", str(count), "-i", f"{interval:g}", "-w", str(limit), "-W", "2",
        running.inner_b,
    )  # fmt: skip
    text = process.wait(timeout=limit + GRACE_SECONDS)
    return RoundTrips(tuple(float(time) for time in re.findall(r"time=([\d.]+) ms", text)), count)


def flood(lab: Lab, running: Running, *, size: int, seconds: float) -> float:
    """Return how many UDP packets of *size* payload bytes a second arrive at b.

    From a they are sent as fast as a core can.
    """
    module = [sys.executable, "-m", "benchmarks.flood"]
    receiver = lab.b.start(*module, "receive", str(FLOOD_PORT), f"{seconds:g}")
    receiver.wait_for_output("ready")
    sender = lab.a.start(
        *module, "send", running.inner_b, str(FLOOD_PORT), str(size), f"{seconds + 2:g}"
    )
    text = receiver.wait(timeout=seconds + GRACE_SECONDS)
    sender.stop()
    return float(text.split()[-1])
