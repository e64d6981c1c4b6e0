"""Random choices of cases in which a group (a patient) is never torn apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from medseg.data.case import Case
from medseg.randomness import permutation

__all__ = ["Unit", "fill", "labelled_in", "shuffled", "units"]

Unit: TypeAlias = tuple[Case, ...]
"""What is drawn as one: the cases of a group, or a case that stands alone."""


def units(cases: Iterable[Case]) -> list[Unit]:
    """The cases by group, each case without one for itself, in the order of their names."""
    groups: dict[tuple[bool, str], list[Case]] = {}
    for case in sorted(cases, key=lambda case: case.name):
        alone = case.group is None
        groups.setdefault((alone, case.name if case.group is None else case.group), []).append(case)
    return [tuple(group) for group in groups.values()]


def shuffled(drawn: Sequence[Unit], seed: int, purpose: str) -> list[Unit]:
    """The units in an order that is a function of seed and purpose."""
    return [drawn[i] for i in permutation(seed, 0, len(drawn), purpose)]


def labelled_in(unit: Unit) -> int:
    """How many of its cases have a label."""
    return sum(case.label is not None for case in unit)


def fill(ordered: Sequence[Unit], count: int) -> list[Unit]:
    """The first units whose labelled cases are together `count`; the most below `count` where no choice is that.

    Where all units are single cases these are the first `count`. Units without a label are never chosen.
    """
    reached: dict[int, tuple[int, ...]] = {0: ()}
    for index, unit in enumerate(ordered):
        size = labelled_in(unit)
        if count in reached:
            break
        if size:
            for total, chosen in sorted(reached.items(), reverse=True):
                if total + size <= count and total + size not in reached:
                    reached[total + size] = (*chosen, index)
    return [ordered[i] for i in reached[max(reached)]]
