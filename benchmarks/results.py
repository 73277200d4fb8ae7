"""Samples of a run, their medians and ratios, and the JSON they are kept in. No measuring here."""

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measures import METRICS
from benchmarks.subjects import SUBJECTS


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was skipped or failed, and why."""

    subject: str
    what: str
    """A measure's name, or "all"."""
    reason: str


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and greatest of *count* samples."""

    median: float
    least: float
    greatest: float
    count: int


@dataclass(slots=True)
class Results:
    """All samples by subject and metric, in the order they were taken, and what went with them."""

    environment: dict[str, str]
    repeats: int
    seconds: float
    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    interrupted: bool = False

    def add(self, subject: str, values: dict[str, float]) -> None:
        """Add one sample of each metric in *values*."""
        for metric, value in values.items():
            self.samples.setdefault(subject, {}).setdefault(metric, []).append(value)

    def note(self, subject: str, what: str, reason: str) -> None:
        """Remember why something is not in the samples; the same is remembered once."""
        note = Note(subject, what, reason)
        if note not in self.notes:
            self.notes.append(note)

    def spread(self, subject: str, metric: str) -> Spread | None:
        """Return what the samples of *metric* say of *subject*; ``None`` without samples."""
        samples = self.samples.get(subject, {}).get(metric)
        if not samples:
            return None
        return Spread(statistics.median(samples), min(samples), max(samples), len(samples))

    def ratio(self, subject: str, reference: str, metric: str, against: str = "") -> float | None:
        """Return the ratio of medians: *metric* of *subject* by that of *reference*.

        With *against*, by that metric of *reference*. ``None`` if either is unknown, or the latter
        is zero.
        """
        upper = self.spread(subject, metric)
        lower = self.spread(reference, against or metric)
        if upper is None or lower is None or lower.median == 0:
            return None
        return upper.median / lower.median

    def measured(self) -> list[str]:
        """Return the names of the subjects with any sample, in their usual order."""
        return [subject.name for subject in SUBJECTS if self.samples.get(subject.name)]

    def write_json(self, file: Path) -> None:
        """Write everything: units and titles too, so that the file explains itself."""
        summary: dict[str, dict[str, Any]] = {}
        for subject in self.measured():
            for metric in self.samples[subject]:
                spread = self.spread(subject, metric)
                assert spread is not None
                summary.setdefault(subject, {})[metric] = asdict(spread)
        document = {
            "environment": self.environment,
            "repeats": self.repeats,
            "seconds": self.seconds,
            "interrupted": self.interrupted,
            "subjects": {subject.name: subject.title for subject in SUBJECTS},
            "metrics": {metric.name: asdict(metric) for metric in METRICS},
            "summary": summary,
            "samples": self.samples,
            "notes": [asdict(note) for note in self.notes],
        }
        file.write_text(json.dumps(document, indent=1) + "\n")
