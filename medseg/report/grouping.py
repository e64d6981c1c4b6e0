"""Runs that are repeats of one another."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from medseg.errors import listed
from medseg.metrics.measures import MEASURES
from medseg.report.runs import RunRecord
from medseg.report.settings import Settings, differing, of_method, partition, said

__all__ = ["Group", "group_runs"]

_NAMED: Mapping[str, Callable[[RunRecord], str]] = {
    "method": lambda run: run.method,
    "loss": lambda run: run.loss,
    "labels": lambda run: run.labels,
}


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed or fold alone.

    Attributes:
        parts: what tells it from the other groups: "pseudo_label", "9 labels".
        labels: the label budget.
        runs: its members.
    """

    parts: tuple[str, ...]
    labels: str
    runs: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        """The parts as one text."""
        return ", ".join(self.parts)

    @property
    def n_seeds(self) -> int:
        """How many seeds; repeats of one seed count once."""
        return len({str(run.params.get("seed")) for run in self.runs})

    @cached_property
    def _table(self) -> dict[str, dict[str, dict[str, float]]]:
        """class -> measure -> case -> mean over the runs where it is defined; of a signed measure also the mean of the
        runs' sizes, "|name|": one too large and one too small are not right together."""
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for run in self.runs:
            for case, results in run.results.items():
                for result in results:
                    for name, value in result.measures.items():
                        found[result.class_name, name, case].append(value)
                        if _signed(name):
                            found[result.class_name, f"|{name}|", case].append(abs(value))
        table: dict[str, dict[str, dict[str, float]]] = {}
        for (class_name, name, case), values in found.items():
            defined = [value for value in values if not math.isnan(value)]
            mean = statistics.fmean(defined) if defined else math.nan
            table.setdefault(class_name, {}).setdefault(name, {})[case] = mean
        return table

    @property
    def class_names(self) -> list[str]:
        """In the order of the results."""
        return list(self._table)

    def measures(self, class_name: str) -> list[str]:
        """The measures that the runs have of a class."""
        return [name for name in self._table[class_name] if not name.startswith("|")]

    def values(self, class_name: str, measure: str) -> Mapping[str, float]:
        """case -> mean over the runs, NaN where undefined in all."""
        return self._table.get(class_name, {}).get(measure, {})

    def errors(self, class_name: str, measure: str) -> Mapping[str, float]:
        """As `values`, and of signed measures the mean of the runs' sizes: a volume too large is as wrong as one too
        small."""
        return self.values(class_name, f"|{measure}|" if _signed(measure) else measure)

    def mean(self, measure: str = "dice") -> float:
        """Mean over cases, then over classes; of signed measures that of the sizes."""
        means = []
        for class_name in self.class_names:
            defined = [v for v in self.errors(class_name, measure).values() if not math.isnan(v)]
            means += [statistics.fmean(defined)] if defined else []
        return statistics.fmean(means) if means else math.nan


def _signed(measure: str) -> bool:
    return measure in MEASURES and MEASURES[measure].better == "zero"


def group_runs(runs: Sequence[RunRecord]) -> tuple[list[Group], list[str]]:
    """Groups runs by what differs beside seed and fold.

    Returns:
        The groups, and remarks: settings that differ along with the method or loss, and so are part of the difference,
        or with the version of medseg.
    """
    settings = Settings(runs)
    keys, of_version = differing(runs, settings)
    varied = [name for name, read in _NAMED.items() if len({read(run) for run in runs}) > 1] or ["method"]
    telling, along = _telling(runs, keys, settings)
    groups: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        names = (read(run) for read in _NAMED.values())
        groups[(*names, *(settings(run, key) for key in telling))].append(run)
    bases = [tuple(_NAMED[name](members[0]) for name in varied) for members in groups.values()]
    found: list[Group] = []
    for base, members in zip(bases, groups.values(), strict=True):
        alike = [of[0] for other, of in zip(bases, groups.values(), strict=True) if other == base]
        parts = [
            *base,
            *(said(members[0], key, settings) for key in telling if _unusual(key, members[0], alike, settings)),
        ]
        while any(parts == list(group.parts) for group in found):
            parts.append(members[0].name)  # what differs cannot be said shortly
        found.append(Group(tuple(parts), members[0].labels, tuple(members)))
    version = [f"{listed(of_version, 3)}: another with another version of medseg, and not told apart"]
    return found, [*along, *(version if of_version else [])]


def _telling(runs: Sequence[RunRecord], keys: Sequence[str], settings: Settings) -> tuple[list[str], list[str]]:
    """The keys by which runs of one method, loss and budget are told apart, each saying something that those before it
    do not; and remarks on the others."""
    telling: list[str] = []
    remarks: list[str] = []
    same: dict[tuple[str, ...], list[RunRecord]] = defaultdict(list)
    for run in runs:
        same[tuple(read(run) for read in _NAMED.values())].append(run)
    for key in keys:
        ways = [partition(members, partial(_read, settings, key)) for members in same.values()]
        known = next(
            (
                other
                for other in telling
                if [partition(members, partial(_read, settings, other)) for members in same.values()] == ways
            ),
            None,
        )
        if all(len(way) == 1 for way in ways):
            if not (key.startswith("method#") or of_method(runs, key, settings)):
                remarks.append(f"{key} differs along with the method or loss")
        elif known is None:
            telling.append(key)
        elif not key.startswith((f"{known}#", "plan")):
            remarks.append(f"{key} differs along with {known}")
    return telling, remarks


def _read(settings: Settings, key: str, run: RunRecord) -> str:
    return settings(run, key)


def _unusual(key: str, run: RunRecord, alike: Sequence[RunRecord], settings: Settings) -> bool:
    """Whether a setting is said: not where there is none, nor where most of three groups or more have it."""
    values = [settings(other, key) for other in alike]
    own = settings(run, key)
    return bool(own) and not (len(values) > 2 and 2 * values.count(own) > len(values))
