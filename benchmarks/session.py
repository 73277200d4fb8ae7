"""The order of a run: repeats outside, subjects inside, measures innermost.

Subjects take turns within each repeat, each time in another order, so that a machine which grows
busy or warm does so for all of them. A failure ends a measure or a session, never the run.
"""

import sys
from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.measures import Measure, Session, Values
from benchmarks.process import LoadError
from benchmarks.results import Results
from benchmarks.subjects import Subject


def run_all(results: Results, subjects: Sequence[Subject], measures: Sequence[Measure]) -> None:
    """Fill *results*. Raises only what ends the run: KeyboardInterrupt, SystemExit, a bug."""
    able: list[Subject] = []
    for subject in subjects:
        reason = subject.missing()
        if reason is None:
            able.append(subject)
        else:
            results.note(subject.name, "all", reason)
    for repeat in range(results.repeats):
        shift = repeat % max(1, len(able))
        for subject in able[shift:] + able[:shift]:
            _say(f"[{repeat + 1}/{results.repeats}] {subject.name}")
            for tunnels in sorted({measure.tunnels for measure in measures}):
                chosen = [measure for measure in measures if measure.tunnels == tunnels]
                if tunnels > 1 and not subject.many:
                    for measure in chosen:
                        results.note(subject.name, measure.name, "measured with one tunnel only")
                else:
                    _session(results, subject, chosen, tunnels)


def _session(results: Results, subject: Subject, measures: Sequence[Measure], tunnels: int) -> None:
    """Set *subject* up in a laboratory of its own, measure, tear down."""
    suffix = "_many" if tunnels > 1 else ""
    what = f"{tunnels} tunnels" if tunnels > 1 else "set-up"
    try:
        with Lab() as lab:
            running = subject.set_up(lab, tunnels)
            if running.start_seconds is not None:
                _add(results, subject, {f"start{suffix}": running.start_seconds})
            lab.a.wait_for(running.inner_b)
            session = Session(lab, running, results.seconds)
            for measure in measures:
                _measure(results, subject, session, measure)
            stop_seconds = subject.tear_down()
            if stop_seconds is not None:
                _add(results, subject, {f"stop{suffix}": stop_seconds})
    except (LoadError, OSError) as error:
        _fail(results, subject, what, error)


def _measure(results: Results, subject: Subject, session: Session, measure: Measure) -> None:
    try:
        _add(results, subject, measure.run(session))
    except (LoadError, OSError) as error:
        _fail(results, subject, measure.name, error)
    for note in session.notes:
        results.note(subject.name, measure.name, note)
    session.notes.clear()


def _add(results: Results, subject: Subject, values: Values) -> None:
    results.add(subject.name, values)
    if values:
        _say("    " + ", ".join(f"{metric} {value:.3g}" for metric, value in values.items()))


def _fail(results: Results, subject: Subject, what: str, error: Exception) -> None:
    _say(f"    {what}: {error}")
    results.note(subject.name, what, str(error))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
