"""What cases were found to be worth, class by class, and what a set of cases says together."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from medseg.metrics.bootstrap import mean_interval
from medseg.metrics.measures import undefined_measures

__all__ = [
    "ClassResult",
    "ClassSummary",
    "MeanOverClasses",
    "Statistics",
    "Summary",
    "as_json",
    "measure_names",
    "read_results",
    "summarise",
    "undefined_result",
]


@dataclass(frozen=True)
class ClassResult:
    """One class of one case: NaN is undefined (both empty), `missed` is one of the two empty but not both.

    `more` holds the further measures by name (see `medseg.metrics.measures`) where they were asked for.
    """

    class_name: str
    dice: float
    hd95_mm: float
    reference_ml: float
    prediction_ml: float
    missed: bool
    more: Mapping[str, float] = field(default_factory=dict)

    @property
    def measures(self) -> dict[str, float]:
        """All measures by name, Dice and HD95 first."""
        return {"dice": self.dice, "hd95_mm": self.hd95_mm, **self.more}


@dataclass(frozen=True)
class Statistics:
    """One measure over the `n` cases where it is defined; `n_undefined` cases are left out.

    `sd` is the sample's (n - 1), NaN below two cases; `mean` and `median` are NaN without a case. `interval_95` is the
    bootstrap interval of the mean where it was asked for (see `mean_interval`).
    """

    mean: float
    sd: float
    median: float
    n: int
    n_undefined: int
    interval_95: tuple[float, float] | None = None


@dataclass(frozen=True)
class ClassSummary:
    """One class over all cases, `n_missed` of which had it in the reference or the prediction only."""

    class_name: str
    dice: Statistics
    hd95_mm: Statistics
    n_missed: int
    more: Mapping[str, Statistics] = field(default_factory=dict)

    @property
    def measures(self) -> dict[str, Statistics]:
        """Of all measures by name, Dice and HD95 first."""
        return {"dice": self.dice, "hd95_mm": self.hd95_mm, **self.more}


@dataclass(frozen=True)
class MeanOverClasses:
    """The mean of the classes' means, NaN ones left out: `n_classes` had one, resting on `n_cases` cases."""

    mean: float
    n_classes: int
    n_cases: int


@dataclass(frozen=True)
class Summary:
    """What `n_cases` cases say together, per class and over the classes."""

    classes: tuple[ClassSummary, ...]
    dice: MeanOverClasses
    hd95_mm: MeanOverClasses
    n_cases: int
    n_missed: int
    more: Mapping[str, MeanOverClasses] = field(default_factory=dict)


def undefined_result(class_name: str, *, all_measures: bool = False) -> ClassResult:
    """What `judge` gives for a class that has no voxel in either of the two."""
    more = undefined_measures() if all_measures else {}
    return ClassResult(class_name, math.nan, math.nan, 0.0, 0.0, missed=False, more=more)


def summarise(results: Mapping[str, Sequence[ClassResult]], *, intervals: bool = False) -> Summary:
    """Sums up cases (case name -> what `medseg.metrics.judge` gave), classes in the order in which they first appear.

    Undefined values are left out and counted; a miss counts with the values that judging gave it. `intervals` adds the
    bootstrap interval of each mean, which takes a while.
    """
    per_class: dict[str, list[ClassResult]] = {}
    for case in results.values():
        for result in case:
            per_class.setdefault(result.class_name, []).append(result)
    names = measure_names(results)
    classes = []
    for class_name, of_class in per_class.items():
        found = {name: _statistics([r.measures.get(name, math.nan) for r in of_class], intervals) for name in names}
        missed = sum(result.missed for result in of_class)
        classes.append(ClassSummary(class_name, found.pop("dice"), found.pop("hd95_mm"), missed, found))
    over = {
        name: _over_classes(
            [c.measures[name] for c in classes],
            [[r.measures.get(name, math.nan) for r in case] for case in results.values()],
        )
        for name in names
    }
    return Summary(
        classes=tuple(classes),
        dice=over.pop("dice"),
        hd95_mm=over.pop("hd95_mm"),
        n_cases=len(results),
        n_missed=sum(c.n_missed for c in classes),
        more=over,
    )


def measure_names(results: Mapping[str, Sequence[ClassResult]]) -> list[str]:
    """The measures that any result has, Dice and HD95 first."""
    found = {name: None for case in results.values() for result in case for name in result.measures}
    return list({"dice": None, "hd95_mm": None} | found)


def as_json(value: Any) -> Any:
    """A record of this module, or lists and mappings of them, as plain values for JSON: NaN becomes None, and further
    measures (`more`) stand beside Dice and HD95."""
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "more"}
        return as_json(plain | dict(getattr(value, "more", {})))
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def read_results(cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, list[ClassResult]]:
    """What `as_json` made of the results of cases, read back.

    Raises:
        KeyError, TypeError: it is something else.
    """
    return {case: [_read_result(record) for record in records] for case, records in cases.items()}


def _read_result(record: Mapping[str, Any]) -> ClassResult:
    own = {f.name: f for f in fields(ClassResult)}
    values: dict[str, Any] = {key: math.nan if value is None else value for key, value in record.items()}
    more = {key: float(value) for key, value in values.items() if key not in own}
    return ClassResult(**{name: values[name] for name in own if name != "more"}, more=more)


def _statistics(values: Sequence[float], interval: bool = False) -> Statistics:
    defined = [value for value in values if not math.isnan(value)]
    return Statistics(
        mean=statistics.fmean(defined) if defined else math.nan,
        sd=statistics.stdev(defined) if len(defined) > 1 else math.nan,
        median=statistics.median(defined) if defined else math.nan,
        n=len(defined),
        n_undefined=len(values) - len(defined),
        interval_95=mean_interval(defined) if interval else None,
    )


def _over_classes(classes: Sequence[Statistics], cases: Sequence[Sequence[float]]) -> MeanOverClasses:
    means = [of_class.mean for of_class in classes if of_class.n]
    return MeanOverClasses(
        mean=statistics.fmean(means) if means else math.nan,
        n_classes=len(means),
        n_cases=sum(any(not math.isnan(value) for value in case) for case in cases),
    )
