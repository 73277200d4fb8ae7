"""The chart: bars for each subject with a line from least to greatest, as SVG of its own making.

Plain shapes and text on a white ground, so that it reads the same wherever it is shown.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.measures import METRICS, Metric
from benchmarks.results import Results, Spread
from benchmarks.subjects import SUBJECTS

PANELS = ("tcp1", "tcp4", "udp", "ping_load", "cpu_system")
YARDSTICK = "vxlan"

WIDTH = 900
LABELS = 220  # subject titles, right-aligned
FIGURES = 170  # median and ratio, after the greatest bar
BARS = WIDTH - LABELS - FIGURES
ROW = 24
BAR = 15
HEADING = 44
FOOT = 34


@dataclass(frozen=True, slots=True)
class _Bar:
    title: str
    spread: Spread
    ratio: float | None
    ours: bool


def write_chart(results: Results, file: Path) -> None:
    """Write the panels that have figures. Nothing is written where none has."""
    by_name = {metric.name: metric for metric in METRICS}
    panels = [(by_name[name], list(_bars(results, name))) for name in PANELS]
    panels = [(metric, bars) for metric, bars in panels if bars]
    if not panels:
        return
    height = FOOT + sum(HEADING + ROW * len(bars) for _, bars in panels)
    root = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13" '
        'role="img" aria-label="gred beside its peers">'
    )
    lines = [root, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    top = 0
    for metric, bars in panels:
        lines += _panel(metric, bars, top)
        top += HEADING + ROW * len(bars)
    foot = (
        f"Medians of {results.repeats} repeats, line from least to greatest; "
        f"in brackets the ratio to kernel VXLAN. {results.environment.get('machine', '')}"
    )
    lines.append(_text(16, height - 12, foot, fill="#666666", size=11))
    lines.append("</svg>")
    file.write_text("\n".join(lines) + "\n")


def _bars(results: Results, metric: str) -> Iterator[_Bar]:
    for subject in SUBJECTS:
        spread = results.spread(subject.name, metric)
        if spread is not None:
            ratio = results.ratio(subject.name, YARDSTICK, metric)
            yield _Bar(subject.title, spread, ratio, subject.name.startswith("gred"))


def _panel(metric: Metric, bars: list[_Bar], top: int) -> Iterator[str]:
    heading = f"{metric.title} ({metric.unit}, {metric.better} is better)"
    yield _text(16, top + 28, heading, weight="bold")
    scale = BARS / (max(bar.spread.greatest for bar in bars) or 1)
    for number, bar in enumerate(bars):
        y = top + HEADING + number * ROW
        middle = y + BAR / 2
        least, greatest = (
            LABELS + value * scale for value in (bar.spread.least, bar.spread.greatest)
        )
        colour = "#1f6fb2" if bar.ours else "#a9b4bf"
        yield _text(LABELS - 8, y + 12, bar.title, anchor="end")
        yield (
            f'<rect x="{LABELS}" y="{y}" width="{bar.spread.median * scale:.1f}" height="{BAR}" '
            f'fill="{colour}"/>'
        )
        yield (
            f'<path d="M{least:.1f} {middle}H{greatest:.1f}M{least:.1f} {middle - 4}v8'
            f'M{greatest:.1f} {middle - 4}v8" stroke="#333333" fill="none"/>'
        )
        ratio = "" if bar.ratio is None else f"  ({bar.ratio:.2f})"
        figure = f"{bar.spread.median:.{metric.digits}f}{ratio}"
        yield _text(greatest + 8, y + 12, figure)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    fill: str = "#222222",
    size: int = 13,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" '
        f'font-size="{size}" fill="{fill}">{escape(text)}</text>'
    )
