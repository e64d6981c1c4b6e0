"""Whether runs may be compared at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from medseg.errors import listed
from medseg.report.runs import RunRecord

__all__ = ["mixed"]

_NAMED = 3  # in a message


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
            _different("content of the judged files", of_fold, lambda run: run.digest),
        ):
            problems += [problem] if problem else []
    folds: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        folds[f"{run.method}, {run.loss}, {run.labels}"].add(str(run.params.get("fold")))
    if len({frozenset(found) for found in folds.values()}) > 1:
        said = "; ".join(f"{label}: {', '.join(sorted(found))}" for label, found in folds.items())
        problems.append(f"folds ({said})")
    return problems


def _budget(run: RunRecord) -> str:
    minutes, steps = run.params.get("max_minutes"), run.params.get("steps")
    if minutes is not None and not str(minutes).startswith("$"):
        return f"{minutes:g} minutes" if isinstance(minutes, int | float) else f"{minutes} minutes"
    return f"{steps} steps" if steps is not None else "3 minutes"


def _different(what: str, runs: Sequence[RunRecord], read: Callable[[RunRecord], Any]) -> str:
    found: dict[str, list[str]] = defaultdict(list)
    for run in runs:
        if read(run):
            found[read(run)].append(run.name)
    if len(found) < 2:
        return ""
    return f"{what} ({'; '.join(f'{value}: {listed(names, _NAMED)}' for value, names in found.items())})"


def _different_sets(what: str, sets: Sequence[tuple[str, frozenset[str]]]) -> str:
    for name, cases in sets[1:]:
        first, own = sets[0][1] - cases, cases - sets[0][1]
        if first or own:
            who, alone = (sets[0][0], first) if first else (name, own)
            only = f"only {who} has {listed(sorted(alone), _NAMED)}"
            return f"{what} ({only})"
    return ""
