"""Draws docs/monitoring.svg: two minutes of two tunnels as a real Prometheus has them. As root.

    python -m tests.netns.monitoring_picture

The other end is stopped for a while, and packets with a wrong key arrive.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gred.lab.hosts import Host, Lab
from gred.lab.traffic import ping, transfer
from tests import require
from tests.netns.conftest import LEFT, RIGHT
from tests.netns.daemons import Daemons
from tests.netns.prometheus import Prometheus
from tests.netns.test_metrics import PORT, with_metrics
from tests.netns.test_prometheus import RULES
from tests.netns.test_reload import config

FILE = Path(__file__).parents[2] / "docs" / "monitoring.svg"
SECONDS = 120
STOPPED = 50, 75  # of these: while the other end is not there
FOREIGN = 20, 40  # of these: while a wrong key arrives
BLOCK = 400_000  # bytes of a transfer

WIDTH, LEFT_EDGE, RIGHT_EDGE = 900, 90, 180
ROW, HEADING, FOOT = 110, 40, 44
COLOURS = ("#1f6fb2", "#d2691e", "#2e8b57", "#7b4fa3")

STRAY = f"[Tunnel t3]\nLocal={RIGHT[0]}\nRemote={LEFT[0]}\nKey=9\nAddress=10.7.3.2/24\n"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: *expression* has a line for each tunnel, and each *label*; times *scale*."""

    title: str
    expression: str
    label: str = ""
    scale: float = 1.0


PANELS = (
    Panel("up", "gred_tunnel_up"),
    Panel("received, Mbit/s", "rate(gred_tunnel_receive_bytes_total[5s])", scale=8e-6),
    Panel("dropped, packets a second", "rate(gred_drops_total[5s])", "reason"),
    Panel("round trip of keepalives, ms", "gred_keepalive_rtt_seconds{kind='mean'}", scale=1e3),
)
Line = tuple[str, list[tuple[float, float]]]


def live(lab: Lab, one: Host, other: Host) -> list[list[Line]]:
    """Let two minutes pass; return the lines of each panel, with seconds since the beginning."""
    program = require.program("prometheus", package="prometheus")
    daemons = Daemons(lab, "c")
    here = with_metrics(config(0, "Keepalive=1s", "Keepalive=1s"))
    there = config(1) + STRAY
    daemons.start(one, here)
    far = daemons.start(other, there)
    directory = lab.directory() / "prometheus"
    directory.mkdir()
    prometheus = Prometheus(program, one, directory, f"127.0.0.1:{PORT}", RULES)
    begin, stopped = time.time(), False
    while (now := time.time() - begin) < SECONDS:
        is_away = STOPPED[0] <= now < STOPPED[1]
        if is_away and not stopped:
            far.stop()
        if stopped and not is_away:
            far = daemons.start(other, there)
        stopped = is_away
        if not stopped:
            network = 1 + int(now) // 10 % 2  # each tunnel for ten seconds
            transfer(other, one, f"10.7.{network}.1", size=BLOCK)
            if FOREIGN[0] <= now < FOREIGN[1]:
                ping(other, "10.7.3.1", count=10, timeout=0.01)
        time.sleep(0.2)
    found = [list(_lines(prometheus, panel, begin)) for panel in PANELS]
    daemons.stop()
    return found


def _lines(prometheus: Prometheus, panel: Panel, begin: float) -> Iterator[Line]:
    series = prometheus.ask(
        "query_range",
        query=panel.expression,
        start=str(begin),
        end=str(begin + SECONDS),
        step="1",
    )["result"]
    for one in series:
        name = one["metric"]["tunnel"]
        if panel.label:
            name += f" {one['metric'][panel.label]}"
        points = [(at - begin, float(value) * panel.scale) for at, value in one["values"]]
        yield name, [point for point in points if not math.isnan(point[1])]


def draw(panels: Sequence[Sequence[Line]]) -> str:
    """Return the picture as SVG."""
    height = FOOT + len(panels) * (ROW + HEADING)
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" '
        'role="img" aria-label="two tunnels in Prometheus">'
    )
    lines = [root, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    for number, (panel, drawn) in enumerate(zip(PANELS, panels, strict=True)):
        lines += _panel(panel, drawn, number * (ROW + HEADING) + HEADING)
    foot = (
        f"Seconds. The other end was stopped from {STOPPED[0]} to {STOPPED[1]}; a key that no"
        f" tunnel has arrived from {FOREIGN[0]} to {FOREIGN[1]}. Scraped each second."
    )
    lines += [_text(16, height - 8, foot, fill="#666666"), "</svg>"]
    return "\n".join(lines) + "\n"


def _panel(panel: Panel, drawn: Sequence[Line], top: int) -> Iterator[str]:
    width = WIDTH - LEFT_EDGE - RIGHT_EDGE
    greatest = max((value for _name, points in drawn for _at, value in points), default=0) or 1
    bottom = top + ROW - 14
    yield _text(16, top - 14, panel.title, weight="bold")
    for part in (0, 0.5, 1):
        y = bottom - part * (bottom - top)
        yield f'<path d="M{LEFT_EDGE} {y:.1f}h{width}" stroke="#dddddd"/>'
        yield _text(LEFT_EDGE - 8, y + 4, f"{part * greatest:.3g}", anchor="end", fill="#666666")
    for at in range(0, SECONDS + 1, 20):
        x = LEFT_EDGE + at / SECONDS * width
        yield _text(x, bottom + 14, str(at), anchor="middle", fill="#666666")
    for number, (name, points) in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        rise = (bottom - top) / greatest
        path = "L".join(
            f"{LEFT_EDGE + at / SECONDS * width:.1f} {bottom - value * rise:.1f}"
            for at, value in points
        )
        yield f'<path d="M{path}" stroke="{colour}" stroke-width="1.5" fill="none"/>'
        yield _text(WIDTH - RIGHT_EDGE + 12, top + 14 + 18 * number, name, fill=colour)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = "#222222",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )


def main() -> None:
    """Let it happen, and draw it."""
    with Lab("gredpicture") as lab:
        one, other = lab.host("left"), lab.host("right")
        lab.wire(one, other)
        for host, addresses in ((one, LEFT), (other, RIGHT)):
            host.address(f"{addresses[0]}/24")
        FILE.write_text(draw(live(lab, one, other)))


if __name__ == "__main__":
    main()
