"""The command line: what to measure, how long, where the results go."""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

import gred
from benchmarks.chart import write_chart
from benchmarks.lab import sweep
from benchmarks.measures import MEASURES, Measure
from benchmarks.process import missing_programs, stolen_cpu_seconds, system_cpu_seconds
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.session import run_all
from benchmarks.subjects import SUBJECTS, Subject

PROGRAMS = ("ethtool", "ip", "iperf3", "ping", "setpriv")
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
BUSY = 0.05  # of the CPU time: if others had more than this, the figures show it
NOISY = "others had a share of this machine: figures are noisy, repeat it on an idle one"

_Named = TypeVar("_Named", Subject, Measure)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return 0, or 1 after an interruption or without any figure."""
    options = _parser().parse_args(argv)
    if options.list:
        print(_choices())
        return 0
    subjects = _chosen(SUBJECTS, options.subjects, "subject")
    measures = _chosen(MEASURES, options.measures, "measure")
    trouble = "must be run as root" if os.geteuid() != 0 else missing_programs(*PROGRAMS)
    if trouble is not None:
        print(f"benchmarks: {trouble}", file=sys.stderr)
        return 1
    results = Results(
        environment=_environment(),
        repeats=options.repeats or (2 if options.quick else 5),
        seconds=options.seconds or (1 if options.quick else 3),
    )
    for number in ENDINGS:
        signal.signal(number, _interrupt)
    sweep()
    used, stolen = system_cpu_seconds(), stolen_cpu_seconds()
    try:
        run_all(results, subjects, measures)
    except KeyboardInterrupt:
        results.interrupted = True
    used, stolen = system_cpu_seconds() - used, stolen_cpu_seconds() - stolen
    _disturbance(results, stolen / max(used + stolen, 1))
    if not results.measured():
        print(report(results))
        print("benchmarks: nothing was measured", file=sys.stderr)
        return 1
    _write(results, options.output)
    return 1 if results.interrupted else 0


def _disturbance(results: Results, stolen: float) -> None:
    """Say what share of the CPU time a hypervisor withheld during the run."""
    results.environment["stolen by the hypervisor"] = f"{stolen:.0%} of the CPU time asked for"
    if stolen > BUSY:
        results.environment["warning"] = NOISY


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that namespaces and processes go; a second signal does not disturb that."""
    for number in ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _write(results: Results, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    text = report(results)
    (directory / "report.txt").write_text(text)
    results.write_json(directory / "results.json")
    write_chart(results, directory / "chart.svg")
    print(text)
    print(f"Written: report.txt, results.json and chart.svg in {directory}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure gred beside its peers, in namespaces of its own. Needs root.",
    )
    parser.add_argument("--quick", action="store_true", help="2 repeats, loads of 1 s")
    parser.add_argument("--subjects", metavar="A,B", help="only these (default: all)")
    parser.add_argument("--measures", metavar="A,B", help="only these (default: all)")
    parser.add_argument("--repeats", type=_positive, metavar="N", help="default: 5")
    parser.add_argument("--seconds", type=_positive, metavar="N", help="of each load; default: 3")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=Path("build/benchmarks"),
        help="where report.txt, results.json and chart.svg go (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list subjects and measures, and end")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'expected 1 or more, got "{text}"')
    return number


def _choices() -> str:
    lines = ["Subjects:"]
    for subject in SUBJECTS:
        reason = subject.missing() if os.geteuid() == 0 else None
        skipped = f"  (would be skipped: {reason})" if reason else ""
        lines.append(f"  {subject.name:<16} {subject.title}{skipped}")
    lines.append("Measures:")
    lines += [f"  {measure.name:<16} {measure.title}" for measure in MEASURES]
    return "\n".join(lines)


def _chosen(among: Sequence[_Named], text: str | None, kind: str) -> list[_Named]:
    """Return those that *text* names, in their usual order; all without *text*."""
    if text is None:
        return list(among)
    names = {name.strip() for name in text.split(",")}
    unknown = names - {one.name for one in among}
    if unknown:
        known = ", ".join(one.name for one in among)
        print(
            f"benchmarks: no {kind} {', '.join(sorted(unknown))}: expected {known}", file=sys.stderr
        )
        raise SystemExit(2)
    return [one for one in among if one.name in names]


def _environment() -> dict[str, str]:
    """Say what the figures depend on, and whether something else was at work."""
    cores = os.cpu_count() or 1
    before = system_cpu_seconds()
    time.sleep(1)
    busy = (system_cpu_seconds() - before) / cores
    environment = {
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "machine": f"{cores} cores, {_cpu_model()}, Linux {platform.release()}",
        "wire": "veth, MTU 1500, tso, gso and tx off at both ends",
        "gred": gred.__version__,
        "python": platform.python_version(),
        "busy before the run": f"{busy:.0%}",
    }
    if busy > BUSY:
        environment["warning"] = NOISY
    return environment


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
