"""The order of a run: repeats outside, then measures, subjects innermost.

Within a repeat all subjects are set up, each in a laboratory of its own, and take each measure one
after the other within seconds: the speed of a virtual machine changes by the minute, and what is
compared must be measured in the same minute. The order changes from repeat to repeat. A failure
ends a measure or a subject's part of a repeat, never the run.

Where many tunnels are measured each subject is there twice, with many and with one: a thousand
devices in each laboratory, somebody else's too, are another machine than the one before.
"""

import contextlib
import copy
import sys
from collections.abc import Sequence

from benchmarks.lab import Lab
from benchmarks.measures import Measure, Session, Values
from benchmarks.results import Results
from benchmarks.subjects import Subject
from gred.lab.hosts import LabError


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
        _say(f"[{repeat + 1}/{results.repeats}]")
        for tunnels in sorted({measure.tunnels for measure in measures}):
            chosen = [measure for measure in measures if measure.tunnels == tunnels]
            present = []
            for subject in able[shift:] + able[:shift]:
                if tunnels == 1 or subject.many:
                    present.append(subject)
                    continue
                for measure in chosen:
                    results.note(subject.name, measure.name, "measured with one tunnel only")
            _repeat(results, present, chosen, tunnels)


def _repeat(
    results: Results, subjects: Sequence[Subject], measures: Sequence[Measure], tunnels: int
) -> None:
    """Set all *subjects* up, let them take each measure in turn, tear them down."""
    suffix = "_many" if tunnels > 1 else ""
    with contextlib.ExitStack() as laboratories:
        sessions = [
            (subject, session)
            for subject in subjects
            if (session := _set_up(results, subject, laboratories, tunnels)) is not None
        ]
        for measure in measures:
            for subject, session in sessions:
                _measure(results, subject, session, measure)
        for subject, _ in sessions:
            try:
                stop_seconds = subject.tear_down()
            except (LabError, OSError) as error:
                _fail(results, subject, "stop", error)
                continue
            if stop_seconds is not None:
                _add(results, subject, {f"stop{suffix}": stop_seconds})


def _set_up(
    results: Results, subject: Subject, laboratories: contextlib.ExitStack, tunnels: int
) -> Session | None:
    """Set *subject* up in a laboratory of its own; None, and a note, when it fails."""
    try:
        lab = laboratories.enter_context(Lab())
        running = subject.set_up(lab, tunnels)
        lab.a.wait_for(running.inner_b)
    except (LabError, OSError) as error:
        _fail(results, subject, f"{tunnels} tunnels" if tunnels > 1 else "set-up", error)
        return None
    if running.start_seconds is not None:
        name = "start_many" if tunnels > 1 else "start"
        _add(results, subject, {name: running.start_seconds})
    alone = None
    if tunnels > 1 and (alone := _set_up_alone(results, subject, laboratories)) is None:
        return None
    return Session(lab, running, results.seconds, alone)


def _set_up_alone(
    results: Results, subject: Subject, laboratories: contextlib.ExitStack
) -> Session | None:
    """Set a copy of *subject* up with one tunnel, to be torn down with the laboratories."""
    alone = copy.copy(subject)
    try:
        lab = laboratories.enter_context(Lab())
        laboratories.callback(alone.tear_down)
        running = alone.set_up(lab, 1)
        lab.a.wait_for(running.inner_b)
    except (LabError, OSError) as error:
        _fail(results, subject, "one tunnel beside many", error)
        return None
    return Session(lab, running, results.seconds)


def _measure(results: Results, subject: Subject, session: Session, measure: Measure) -> None:
    try:
        _add(results, subject, measure.run(session))
    except (LabError, OSError) as error:
        _fail(results, subject, measure.name, error)
    for note in session.notes:
        results.note(subject.name, measure.name, note)
    session.notes.clear()


def _add(results: Results, subject: Subject, values: Values) -> None:
    results.add(subject.name, values)
    if values:
        _say(
            f"    {subject.name}: "
            + ", ".join(f"{metric} {value:.3g}" for metric, value in values.items())
        )


def _fail(results: Results, subject: Subject, what: str, error: Exception) -> None:
    _say(f"    {subject.name}: {what}: {error}")
    results.note(subject.name, what, str(error))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
