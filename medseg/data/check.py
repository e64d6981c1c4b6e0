"""What is in a dataset, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medseg.data.case import Case
from medseg.data.case_check import CheckedCase, check_case
from medseg.data.cohort import named_by_values
from medseg.data.cohort_check import Places, absent_classes, doubles, extreme_spacings, orientation_mix, torn
from medseg.data.findings import Finding, Findings
from medseg.data.layouts import list_cases
from medseg.data.listing import Listing
from medseg.data.splits import Split, list_folds, split_cases
from medseg.errors import InputError

__all__ = ["check_data"]

_READERS = 8  # at once, on as many cores; each holds a case


def check_data(
    data_dir: str | os.PathLike[str],
    modality: str | None = None,
    seed: int = 0,
    on_case: Callable[[int, int], None] | None = None,
) -> Findings:
    """Reads every case of a dataset once, with all labels that there are, and says what is wrong.

    Errors: a file that cannot be read (missing, truncated, not 3-D, NaN), a label without an image or on another
    grid, label values outside the task, an image that is constant, one image or one group in two parts of the split
    or of a fold, one image twice that a split drawn from another seed would part, a split that cannot be used.
    Warnings: channels that will be resampled, an empty label, one image twice within a part, a mix of orientations,
    extreme spacings, a class that no training or no validation label has, cases in no part.

    Args:
        data_dir: as `load_cohort` takes it.
        modality, seed: as `load_cohort`.
        on_case: called with the number of cases read and of all cases, first with 0.

    Raises:
        InputError: the cases cannot be listed.
    """
    listing = list_cases(Path(data_dir), modality, orphans_too=True)
    split, findings = _split(listing, seed)
    roles = {case.name: role for role, part in _roles(split).items() for case in part}
    ordered = [*split.train, *split.validation, *split.test]
    outside = [case for case in listing.cases if case.name not in roles]
    checked: list[CheckedCase] = []
    everything = [*ordered, *outside]
    if on_case:
        on_case(0, len(everything))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _READERS)) as pool:
        # reading, inflating and hashing leave the interpreter's lock
        jobs = pool.map(lambda case: check_case(roles.get(case.name, "outside"), case, listing.classes), everything)
        for found in jobs:
            checked.append(found)
            if on_case:
                on_case(len(checked), len(everything))
    findings = [finding for found in checked for finding in found.findings] + findings
    classes = listing.classes
    if classes is None:
        try:
            values = {v: c.case.label for c in checked if c.case.label for v in c.facts.label_values or ()}
            classes = named_by_values(listing.source, values)
        except InputError as error:
            findings.append(Finding.of("error", None, error, listing.source))
    places = _places(listing, split, findings)
    drawn = split.source != listing.folder / "splits.json" and "validation" not in listing.parts.values()
    findings += doubles(checked, places, drawn) + torn(checked, places) + absent_classes(checked, classes or {}, places)
    findings += orientation_mix(checked) + extreme_spacings(checked)
    findings += [Finding.of("warning", None, remark) for remark in listing.remarks]
    findings += [Finding.of("error", None, line) for line in listing.orphans]
    if outside:
        what = f"{len(outside)} cases are in no part of the split ({outside[0].name}, ...)"
        findings.append(Finding("warning", None, str(split.source), what, "name them there where they are to be used"))
    counts = {role: len(part) for role, part in _roles(split).items()}
    facts = tuple(found.facts for found in checked)
    return Findings(listing.name, listing.channels, classes, counts, facts, tuple(findings))


def _split(listing: Listing, seed: int) -> tuple[Split, list[Finding]]:
    """The split; where it cannot be used, all cases train and that is a finding."""
    try:
        return split_cases(listing, seed), []
    except InputError as error:
        finding = Finding.of("error", None, error)
        return Split(listing.cases, (), (), {}, listing.source), [finding]


def _roles(split: Split) -> dict[str, tuple[Case, ...]]:
    return {
        "labelled": tuple(case for case in split.train if case.label),
        "unlabelled": tuple(case for case in split.train if not case.label),
        "validation": split.validation,
        "test": split.test,
    }


def _places(listing: Listing, split: Split, findings: list[Finding]) -> Places:
    """Where each case is in the split and in each fold; what is wrong with the folds becomes a finding."""
    places = {
        "the split": {case.name: part for part in ("train", "validation", "test") for case in getattr(split, part)}
    }
    if not split.validation:
        return places
    try:
        folds = list_folds(listing)
    except InputError as error:
        findings.append(Finding.of("error", None, error))
        return places
    test = {case.name: "test" for case in split.test}
    for number, fold in enumerate(folds):
        parts = dict.fromkeys(fold.train, "train") | dict.fromkeys(fold.validation, "validation")
        places[f"fold {number}"] = parts | test
    return places
