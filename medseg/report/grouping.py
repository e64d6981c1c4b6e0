"""Runs that are repeats of one another, and whether runs may be compared at all."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medseg.report.runs import RunRecord

__all__ = ["Group", "group_runs", "mixed"]

# what differs between repeats, or says where a run lies and not what it is
_REPEATS = ("seed", "fold")
_PLACES = (
    *("imports", "bundle_root", "dataset_dir", "modality", "output_dir", "experiment", "run_name", "cache_dir"),
    *(
        "plan_file",
        "device_name",
        "workers",
        "resume",
        "force",
        "offline",
        "register",
        "parent_run",
        "handlers",
        "job",
        "initialize",
    ),
    *("training", "run", "finalize", "config", "record", "train", "validate", "test", "val_interval"),
)
# these have names of their own, or are compared apart
_NAMED = ("method", "loss", "labelled", "steps", "max_minutes")


@dataclass(frozen=True)
class Group:
    """Runs that differ in seed or fold alone.

    Attributes:
        label: what tells it from the other groups: "pseudo_label, 9 labels".
        labels: the label budget.
        runs: its members.
    """

    label: str
    labels: str
    runs: tuple[RunRecord, ...]

    @property
    def n_seeds(self) -> int:
        """How many seeds; repeats of one seed count once."""
        return len({str(run.params.get("seed")) for run in self.runs})

    @cached_property
    def _table(self) -> dict[str, dict[str, dict[str, float]]]:
        """class -> measure -> case -> mean over the runs where it is defined."""
        found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
        for run in self.runs:
            for case, results in run.results.items():
                for result in results:
                    for name, value in result.measures.items():
                        found[result.class_name, name, case].append(value)
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
        return list(self._table[class_name])

    def values(self, class_name: str, measure: str) -> Mapping[str, float]:
        """case -> mean over the runs, NaN where undefined in all."""
        return self._table.get(class_name, {}).get(measure, {})

    def mean(self, measure: str = "dice") -> float:
        """Mean over cases, then over classes."""
        means = []
        for class_name in self.class_names:
            defined = [v for v in self.values(class_name, measure).values() if not math.isnan(v)]
            means += [statistics.fmean(defined)] if defined else []
        return statistics.fmean(means) if means else math.nan


def group_runs(runs: Sequence[RunRecord]) -> tuple[list[Group], list[str]]:
    """Groups runs by what differs beside seed and fold.

    Returns:
        The groups, and remarks: settings that differ along with the method or loss, and so are part of the difference.
    """
    keys = _differing(runs)
    named = {"method": _name("method"), "loss": _name("loss"), "labelled": _labels}
    shown = [name for name, read in named.items() if len({read(run) for run in runs}) > 1] or ["method"]
    extra: list[str] = []
    bound: list[str] = []
    for key in keys:
        same = defaultdict(set)
        for run in runs:
            same[tuple(read(run) for read in named.values())].add(_value(run, key))
        (extra if any(len(values) > 1 for values in same.values()) else bound).append(key)
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        parts = [named[name](run) for name in shown]
        parts += [f"{key.removeprefix('method#')}={_value(run, key)}" for key in extra if _value(run, key)]
        groups[", ".join(parts)].append(run)
    of_parts = [key for key in bound if key.split("#")[0] not in ("method", "loss")]
    remarks = [f"{key} differs along with the method or loss" for key in of_parts]
    return [Group(label, _labels(members[0]), tuple(members)) for label, members in groups.items()], remarks


def mixed(runs: Sequence[RunRecord]) -> list[str]:
    """What differs between runs that should be equal where they are compared; empty where nothing does."""
    problems = []
    for what, read in (
        ("data", lambda run: str(run.params.get("data"))),
        ("classes", lambda run: ", ".join(dict.fromkeys(r.class_name for of in run.results.values() for r in of))),
        ("training budget", _budget),
    ):
        problem = _different(what, runs, read)
        problems += [problem] if problem else []
    if problems:
        return problems
    by_fold: dict[str, list[RunRecord]] = defaultdict(list)
    for run in runs:
        by_fold[str(run.params.get("fold"))].append(run)
    for of_fold in by_fold.values():
        for problem in (
            _different_sets("judged cases", [(run.name, frozenset(run.results)) for run in of_fold]),
            _different_sets(
                "training cases", [(run.name, run.training) for run in of_fold if run.training is not None]
            ),
            _different("content of the judged files", of_fold, _digest),
        ):
            problems += [problem] if problem else []
    folds: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        folds[f"{_name('method')(run)}, {_name('loss')(run)}, {_labels(run)}"].add(str(run.params.get("fold")))
    if len({frozenset(found) for found in folds.values()}) > 1:
        said = "; ".join(f"{label}: {', '.join(sorted(found))}" for label, found in folds.items())
        problems.append(f"folds ({said})")
    return problems


def _differing(runs: Sequence[RunRecord]) -> list[str]:
    """Config keys of which runs have different values; not those of repeats, places and names."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    return [
        key
        for key in keys
        if key.split("#")[0] not in (*_REPEATS, *_PLACES)
        and not (key in _NAMED or key in ("method#_target_", "loss#_target_"))
        and len({_value(run, key) for run in runs}) > 1
    ]


def _value(run: RunRecord, key: str) -> str:
    """A setting as text; "" where there is none, or only a reference that wires parts together."""
    value = run.config.get(key)
    wired = isinstance(value, str) and value.startswith(("@", "$", "medseg."))
    return "" if value is None or wired else str(value)


def _name(part: str) -> Callable[[RunRecord], str]:
    return lambda run: str(run.params.get(part, "unknown"))


def _labels(run: RunRecord) -> str:
    labelled = run.params.get("labelled")
    return f"{'all' if labelled is None else labelled} labels"


def _budget(run: RunRecord) -> str:
    minutes, steps = run.params.get("max_minutes"), run.params.get("steps")
    if minutes is not None and not str(minutes).startswith("$"):
        return f"{minutes:g} minutes" if isinstance(minutes, int | float) else f"{minutes} minutes"
    return f"{steps} steps" if steps is not None else "3 minutes"


def _digest(run: RunRecord) -> str:
    return str(run.params.get("validation_digest", ""))


def _different(what: str, runs: Sequence[RunRecord], read: Callable[[RunRecord], Any]) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if read(run):
            found[read(run)].append(run.name)
    if len(found) < 2:
        return ""
    return f"{what} ({'; '.join(f'{value}: {_few(names)}' for value, names in found.items())})"


def _different_sets(what: str, sets: Sequence[tuple[str, frozenset[str]]]) -> str:
    for name, cases in sets[1:]:
        first, own = sets[0][1] - cases, cases - sets[0][1]
        if first or own:
            only = f"only {sets[0][0]} has {_few(sorted(first))}" if first else f"only {name} has {_few(sorted(own))}"
            return f"{what} ({only})"
    return ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
