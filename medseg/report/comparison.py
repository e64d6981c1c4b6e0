"""Runs against runs: grouped by what differs, seeds averaged, cases paired, and what may be concluded."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from medseg.errors import InputError
from medseg.metrics.measures import MEASURES
from medseg.metrics.paired import PairedDifference, holm, paired_difference
from medseg.report.grouping import Group, group_runs
from medseg.report.mixed import mixed
from medseg.report.runs import RunRecord

__all__ = ["Comparison", "Difference", "compare"]

_MOST_PAIRS = 3  # groups of which every pair is compared; more are compared with one of them
_USUAL = ("supervised", "dice_ce")  # what others are compared with where nobody says


@dataclass(frozen=True)
class Difference:
    """Group a minus group b in one class.

    Attributes:
        a: label of a group.
        b: label of the one that it is compared with, such as the baseline.
        class_name: of the cases.
        primary: of the measure that is tested.
        p_holm: its p-value, corrected for all comparisons of this kind that were made.
        others: differences of the other measures, which are not tested.
        seeds: the smaller number of seeds of the two.
    """

    a: str
    b: str
    class_name: str
    primary: PairedDifference
    p_holm: float
    others: Mapping[str, PairedDifference]
    seeds: int


@dataclass(frozen=True)
class Comparison:
    """Attributes: groups; differences of every pair compared and class; the measure tested; remarks on what was
    compared; the split and checkpoint that it rests on."""

    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]
    measure: str
    remarks: tuple[str, ...]
    split: str
    checkpoint: str


def compare(
    runs: Sequence[RunRecord],
    *,
    measure: str = "dice",
    baseline: str | None = None,
    allow_mixed: bool = False,
    split: str = "validation",
    checkpoint: str = "last",
) -> Comparison:
    """Compares runs.

    Runs that differ in seed or fold alone are one group: a case's value is the mean over its runs. Groups are compared
    within one label budget, case by case; differences of `measure` are tested and corrected together.

    Args:
        runs: finished ones.
        measure: a name of `MEASURES`.
        baseline: the group that others are compared with. By default every pair of up to three groups is compared, and
            more with the supervised one, or that of the default loss, or the first.
        allow_mixed: compare runs on different data, cases or training budgets, over the cases that they share, and
            across label budgets.
        split: for the remarks.
        checkpoint: for the remarks.

    Raises:
        InputError: fewer than two groups, an unknown measure or baseline, no class in common, or runs that should
            not be compared.
    """
    if measure not in MEASURES or MEASURES[measure].better is None:
        known = ", ".join(name for name, m in MEASURES.items() if m.better)
        raise InputError(f"--measure {measure}: expected one of {known}")
    problems = mixed(runs)
    if problems and not allow_mixed:
        raise InputError(
            f"runs differ in {'; '.join(problems)}: what differs beside the method is then part of the difference. "
            "Choose runs that agree, or pass --allow-mixed"
        )
    groups, remarks = group_runs(runs)
    if len(groups) < 2:
        raise InputError(
            f"{len(runs)} run(s) of one kind ({groups[0].label}); expected runs that differ in method, loss, labels or "
            "another setting"
        )
    pairs, left_out = _pairs(groups, baseline, allow_mixed)
    found = [_difference(a, b, name, measure) for a, b in pairs for name in a.class_names if name in set(b.class_names)]
    if not found:
        raise InputError(f"no class is in two kinds of runs ({'; '.join(g.label for g in groups)}); nothing to compare")
    corrected = holm([difference.primary.p for difference in found])
    found = [replace(d, p_holm=p) for d, p in zip(found, corrected, strict=True)]
    notes = [f"mixed: {problem}" for problem in problems]
    return Comparison(tuple(groups), tuple(found), measure, (*notes, *remarks, *left_out), split, checkpoint)


def _pairs(
    groups: Sequence[Group], baseline: str | None, allow_mixed: bool
) -> tuple[list[tuple[Group, Group]], list[str]]:
    """Pairs to compare, and remarks on the groups that are in none."""
    strata: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        strata["" if allow_mixed else group.labels].append(group)
    chosen: list[tuple[Group, Group]] = []
    remarks = []
    for labels, of_budget in strata.items():
        pairs = list(_within(of_budget, baseline))
        chosen += pairs
        if not pairs:
            why = "nothing" if len(of_budget) == 1 else f"no {baseline}"
            kinds = "; ".join(group.label for group in of_budget)
            remarks.append(f"{labels}: {why} to compare with, so left out of the differences: {kinds}")
    if baseline is not None and not any(_is(baseline, b) for _, b in chosen):
        raise InputError(f"--baseline {baseline}: no such group; there are: {'; '.join(g.label for g in groups)}")
    if not chosen:
        raise InputError(
            f"no two kinds of runs share a label budget ({'; '.join(g.label for g in groups)}): their difference is "
            "that of the labels too; add runs of another method or loss on the same budget, or pass --allow-mixed"
        )
    return chosen, remarks


def _within(groups: Sequence[Group], baseline: str | None) -> Iterable[tuple[Group, Group]]:
    if baseline is None and len(groups) <= _MOST_PAIRS:
        ordered = sorted(groups, key=_usual)
        return [(a, b) for b, a in itertools.combinations(ordered, 2)]
    if baseline is None:
        base = min(groups, key=_usual)
    else:
        exact = [g for g in groups if baseline == g.label or (baseline,) == _without_labels(g)]
        named = exact or [g for g in groups if _is(baseline, g)]
        if len(named) > 1:
            raise InputError(f"--baseline {baseline}: that is {'; '.join(g.label for g in named)}; give one in full")
        if not named:
            return []
        base = named[0]
    return [(group, base) for group in groups if group is not base]


def _is(name: str, group: Group) -> bool:
    return name == group.label or name in group.parts


def _without_labels(group: Group) -> tuple[str, ...]:
    return tuple(part for part in group.parts if part != group.labels)


def _usual(group: Group) -> tuple[int, str]:
    parts = group.parts
    return min((_USUAL.index(part) for part in parts if part in _USUAL), default=len(_USUAL)), group.label


def _difference(a: Group, b: Group, class_name: str, measure: str) -> Difference:
    names = [n for n in a.measures(class_name) if n in b.measures(class_name) and MEASURES[n].better is not None]
    found = {name: paired_difference(a.errors(class_name, name), b.errors(class_name, name)) for name in names}
    if measure not in found:
        raise InputError(f"--measure {measure}: {a.label} or {b.label} has none; their runs are of an older version")
    primary = found.pop(measure)
    return Difference(a.label, b.label, class_name, primary, math.nan, found, min(a.n_seeds, b.n_seeds))
