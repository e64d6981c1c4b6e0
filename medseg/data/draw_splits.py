"""A splits.json drawn from the cases of a dataset: parts, folds and label budgets, with groups kept whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from medseg.data.case import Case
from medseg.data.draw import Unit, fill, labelled_in, shuffled, units
from medseg.data.listing import Listing
from medseg.data.splits import torn_groups
from medseg.errors import InputError

__all__ = ["draw_splits"]


def draw_splits(
    listing: Listing,
    validation: float = 0.2,
    test: float = 0.0,
    folds: int = 0,
    budgets: Sequence[int] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """What splits.json holds: `train`, `validation`, `test`, and where asked for `labelled` and `folds`.

    Only cases with a label validate and test. A case without one trains, unless a case of its group validates or tests.
    Cases that the listing itself puts into a part stay there. Folds divide all cases but those that test, so that each
    labelled one validates once. Budgets are drawn from the training cases, the smaller inside the larger.

    Args:
        listing: the cases.
        validation, test: of the labelled cases, the share (below 1) or the number (1 and more); where groups do not
            allow it exactly, the next smaller number. Left at the listing's own where it has such cases.
        folds: how many, 0 for none.
        budgets: numbers of labelled training cases, exactly.
        seed: of what is drawn; equal seeds and case names give equal splits.

    Raises:
        InputError: there are not that many cases or groups, or a budget would tear a group apart.
    """
    own = {part: [c for c in listing.cases if listing.parts.get(c.name) == part] for part in ("validation", "test")}
    fixed = {**own, "train": [c for c in listing.cases if listing.parts.get(c.name) == "train"]}
    for group, parts in torn_groups(fixed).items():
        raise InputError(f"{listing.source}: group {group} is in {' and in '.join(parts)}; keep it in one of them")
    outside = {case.name for part in own.values() for case in part}
    taken_groups = {case.group for part in own.values() for case in part if case.group is not None}
    free = [c for c in listing.cases if c.name not in outside]
    for case in free:
        if case.label and case.group in taken_groups:
            raise InputError(
                f"{listing.source}: case {case.name} is of group {case.group}, of which another case is in validation"
                " or test; put it there too"
            )
    # an unlabelled image of a patient who tests can neither train nor test
    free = [case for case in free if case.group not in taken_groups]
    drawn_test, rest = _part(listing, own["test"], free, "test", test, seed)
    drawn_validation, train = _part(listing, own["validation"], rest, "validation", validation, seed)
    if not any(case.label for case in train):
        raise InputError(f"{listing.source}: no labelled case is left to train; ask for fewer in validation and test")
    result: dict[str, Any] = {
        "train": _names(train),
        "validation": _names(drawn_validation),
        "test": _names(drawn_test),
    }
    if budgets:
        result["labelled"] = _budgets(listing, train, budgets, seed)
    if folds:
        result["folds"] = _folds(listing, [*rest, *own["validation"]], folds, seed)
    return result


def _part(
    listing: Listing, own: list[Case], free: list[Case], part: str, wanted: float, seed: int
) -> tuple[list[Case], list[Case]]:
    """The cases of a part, and the others that no group ties to them."""
    if own or wanted == 0:
        return own, free
    open_units = (unit for unit in units(free) if not any(case.name in listing.parts for case in unit))
    ordered = shuffled([unit for unit in open_units if labelled_in(unit)], seed, f"split {part}")
    labelled = sum(map(labelled_in, ordered))
    count = max(round(wanted * labelled), 1) if wanted < 1 else int(wanted)
    if count >= labelled:
        raise InputError(
            f"{listing.source}: {count} cases asked for in {part}, but there are {labelled} with labels to draw from;"
            " ask for fewer"
        )
    chosen = fill(ordered, count)
    if not chosen:
        smallest = min(map(labelled_in, ordered))
        raise InputError(
            f"{listing.source}: {count} cases asked for in {part}, but the smallest group has {smallest}; ask for more"
        )
    inside = {case.name for unit in chosen for case in unit}
    return [c for c in free if c.name in inside and c.label], [c for c in free if c.name not in inside]


def _budgets(listing: Listing, train: Iterable[Case], budgets: Sequence[int], seed: int) -> dict[str, list[str]]:
    remaining = shuffled(units(case for case in train if case.label), seed, "split budget")
    labelled = sum(map(len, remaining))
    chosen: list[Case] = []
    result = {}
    for budget in sorted(set(budgets)):
        if not 1 <= budget <= labelled:
            raise InputError(
                f"{listing.source}: a budget of {budget} asked for, expected 1 to {labelled} training cases"
            )
        inner = len(chosen)
        more = fill(remaining, budget - inner)
        chosen += [case for unit in more for case in unit]
        if len(chosen) != budget:
            possible = {inner + sum(map(len, fill(remaining, n - inner))) for n in range(inner, labelled + 1)} - {0}
            below, above = (sorted(n for n in possible if (n < budget) == less) for less in (True, False))
            near = " or ".join(map(str, below[-1:] + above[:1]))
            raise InputError(
                f"{listing.source}: a budget of {budget} would tear a group apart; ask for {near}, or try another seed"
            )
        remaining = [unit for unit in remaining if unit not in more]
        result[str(budget)] = _names(chosen)
    return result


def _folds(listing: Listing, cases: Sequence[Case], count: int, seed: int) -> list[dict[str, list[str]]]:
    ordered = shuffled([unit for unit in units(cases) if labelled_in(unit)], seed, "split folds")
    if count < 2 or count > len(ordered):
        raise InputError(
            f"{listing.source}: {count} folds asked for, expected 2 to {len(ordered)}, the number of labelled cases or"
            " groups"
        )
    parts: list[list[Unit]] = [[] for _ in range(count)]
    # the large groups first, so that the folds become equal; the sort keeps the drawn order within a size
    for unit in sorted(ordered, key=labelled_in, reverse=True):
        min(parts, key=lambda part: sum(map(labelled_in, part))).append(unit)
    folds = []
    for part in parts:
        inside = {case.name for unit in part for case in unit}
        train = [case for case in cases if case.name not in inside]
        folds.append({"train": _names(train), "validation": _names(c for c in cases if c.name in inside and c.label)})
    return folds


def _names(cases: Iterable[Case]) -> list[str]:
    return sorted(case.name for case in cases)
