"""Results as text: one table for each metric, then what was skipped, then the targets."""

from collections.abc import Iterator

from benchmarks.measures import METRICS, Metric
from benchmarks.results import Results
from benchmarks.subjects import SUBJECTS
from benchmarks.targets import TARGETS

REFERENCES = ("vxlan", "ovs", "loop")
TITLES = {subject.name: subject.title for subject in SUBJECTS}


def report(results: Results) -> str:
    """Return the whole report, ready to print."""
    lines = ["Benchmarks of gred and its peers", ""]
    lines += [f"  {name}: {value}" for name, value in results.environment.items()]
    lines += [
        f"  loads: {results.seconds:g} s each, {results.repeats} repeats, subjects in turn",
        "",
        "Figures are medians with least and greatest. Columns with / are ratios of medians to",
        "kernel VXLAN (/vxlan), Open vSwitch (/ovs) and the per-packet loop (/loop).",
        "",
    ]
    if results.interrupted:
        lines += ["The run was interrupted: fewer repeats than that, and not the same for all.", ""]
    for metric in METRICS:
        lines += _metric(results, metric)
    lines += _notes(results)
    lines += _targets(results)
    return "\n".join(lines) + "\n"


def _metric(results: Results, metric: Metric) -> Iterator[str]:
    spreads = [
        (name, spread) for name in results.measured()
        if (spread := results.spread(name, metric.name)) is not None
    ]  # fmt: skip
    if not spreads:
        return
    yield f"{metric.title} ({metric.unit}, {metric.better} is better)"
    yield _row("", "median", "min", "max", "n", *(f"/{name}" for name in REFERENCES))
    for name, spread in spreads:
        figures = (
            f"{value:.{metric.digits}f}" for value in (spread.median, spread.least, spread.greatest)
        )
        ratios = (_ratio(results.ratio(name, other, metric.name)) for other in REFERENCES)
        yield _row(TITLES[name], *figures, str(spread.count), *ratios)
    yield ""


def _row(title: str, *cells: str) -> str:
    widths = (9, 9, 9, 4, 9, 9, 9)
    columns = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"  {title:<28}{columns}"


def _ratio(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 1_000 else "> 1000"


def _notes(results: Results) -> Iterator[str]:
    if not results.notes:
        return
    yield "Skipped, failed or worth knowing"
    for note in results.notes:
        yield f"  {TITLES[note.subject]}, {note.what}: {note.reason}"
    yield ""


def _targets(results: Results) -> Iterator[str]:
    yield "Targets"
    yield f"  {'':<58}{'measured':>12}{'at least':>10}{'aim':>8}  verdict"
    for target in TARGETS:
        value = target.value(results)
        measured = "-" if value is None else f"{value:.2f}"
        what = f"{target.what} ({target.unit}, at most)" if target.unit else target.what
        yield (
            f"  {what:<58}{measured:>12}{target.least:>10g}{target.aim:>8g}"
            f"  {target.verdict(value)}"
        )
