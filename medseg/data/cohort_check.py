"""What only shows when the cases of a dataset are looked at together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medseg.data.case_check import CheckedCase
from medseg.data.description import IGNORE_NAME
from medseg.data.findings import CaseFacts, Finding, Severity
from medseg.errors import listed

__all__ = ["Places", "absent_classes", "doubles", "extreme_spacings", "orientation_mix", "torn"]

Places = Mapping[str, Mapping[str, str]]
"""By division of the data ("the split", "fold 0") the part of each case by its name."""

_NAMED = 5  # cases named in one message
_FINEST, _COARSEST = 0.05, 15.0  # mm: between a specimen scanner and a scout
_RATIO = 5.0
_PARTS = ("train", "validation", "test")


def doubles(cases: Sequence[CheckedCase], places: Places, drawn: bool = False) -> list[Finding]:
    """The same image under two names: an error where one trains and the other judges, else a warning. Where the split
    is `drawn` anew for each seed, an error wherever some seed would part them: one of them has a label, and no group
    keeps them together."""
    by_name = {checked.case.name: checked.case for checked in cases}
    holders: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for checked in cases:
        for path, digest in zip(checked.case.images, checked.digests, strict=True):
            if digest is not None:
                holders[digest].append((checked.case.name, str(path)))
    findings = []
    seen: set[tuple[str, ...]] = set()
    for found in holders.values():
        names = tuple(dict.fromkeys(name for name, _ in found))
        if len(found) < 2 or names in seen:
            continue
        seen.add(names)
        files = ", ".join(path for _, path in found[1:])
        if len(names) == 1:
            what, todo = f"the same image as {files}, another channel of the case", "export the channel again"
            findings.append(Finding("warning", names[0], found[0][1], what, todo))
            continue
        severity, said = _across(names, places)
        together = len({by_name[name].group or name for name in names}) == 1
        if drawn and severity == "warning" and not together and any(by_name[name].label for name in names):
            severity, said = "error", ", which another --seed puts into training and validation, for the split is drawn"
        what = f"the same image as {files}: cases {listed(names, _NAMED)}{said}"
        todo = "keep one of them, or both in one part (one group, or a splits.json)"
        findings.append(Finding(severity, names[0], found[0][1], what, todo))
    return findings


def torn(cases: Iterable[CheckedCase], places: Places) -> list[Finding]:
    """Groups (patients) with cases in two parts."""
    groups: dict[str, list[str]] = defaultdict(list)
    for checked in cases:
        if checked.case.group is not None:
            groups[checked.case.group].append(checked.case.name)
    findings = []
    for group, names in groups.items():
        severity, said = _across(names, places)
        if severity == "error":
            what = f"group {group} with cases {listed(names, _NAMED)}{said}"
            findings.append(Finding("error", None, None, what, "keep all cases of a patient in one part"))
    return findings


def absent_classes(cases: Iterable[CheckedCase], classes: Mapping[int, str], places: Places) -> list[Finding]:
    """Classes that no training or no validation label has."""
    values = {checked.case.name: checked.facts.label_values for checked in cases if checked.case.label}
    findings = []
    for division, parts in places.items():
        for part, what in (("train", "training"), ("validation", "validation")):
            names = [name for name, where in parts.items() if where == part and name in values]
            present = {value for name in names for value in values[name] or ()}
            for value, name in classes.items():
                if value and name != IGNORE_NAME and value not in present and (names or part == "train"):
                    where = "" if division == "the split" else f" of {division}"
                    text = f"no {what} label{where} has class {value} ({name})"
                    todo = "it cannot be learnt" if part == "train" else "it cannot be judged"
                    findings.append(Finding("warning", None, None, text, f"{todo}; move a case that has it there"))
    return findings


def orientation_mix(cases: Iterable[CheckedCase]) -> list[Finding]:
    """Volumes whose axes point elsewhere than the others'."""
    names: dict[str, list[str]] = defaultdict(list)
    for checked in cases:
        if checked.facts.orientation:
            names[checked.facts.orientation].append(checked.case.name)
    if len(names) < 2:
        return []
    ordered = sorted(names.items(), key=lambda entry: -len(entry[1]))
    said = ", ".join(f"{code} in {len(found)} cases" for code, found in ordered)
    what = f"axes point in different directions: {said} ({listed(ordered[-1][1], _NAMED)})"
    todo = "volumes are turned to one orientation before training: look at a few whether their headers are right"
    return [Finding("warning", None, None, what, todo)]


def extreme_spacings(cases: Sequence[CheckedCase]) -> list[Finding]:
    """Voxels that are hardly possible, or far from the usual ones of the dataset along an axis."""
    rows = [(checked, _spacing_in_ras(checked.facts)) for checked in cases if checked.facts.spacing]
    if not rows:
        return []
    usual = np.median([spacing for _, spacing in rows], axis=0)
    findings = []
    for checked, spacing in rows:
        said = " x ".join(f"{value:.4g}" for value in spacing)
        ratio = np.maximum(spacing / usual, usual / spacing).max()
        text = ""
        if spacing.min() < _FINEST or spacing.max() > _COARSEST:
            text = f"spacing {said} mm, expected {_FINEST:g} to {_COARSEST:g} mm"
        elif ratio > _RATIO:
            text = f"spacing {said} mm, the median of the dataset is {' x '.join(f'{value:.4g}' for value in usual)} mm"
        if text:
            todo = "correct the header where its unit is wrong, or leave the case out"
            findings.append(Finding("warning", checked.case.name, str(checked.case.images[0]), text, todo))
    return findings


def _spacing_in_ras(facts: CaseFacts) -> np.ndarray:
    """The spacing from left to right, back to front, and foot to head."""
    assert facts.spacing is not None
    assert facts.orientation is not None
    order = [next(axis for axis, ends in enumerate(("LR", "PA", "IS")) if code in ends) for code in facts.orientation]
    spacing = np.empty(3)
    spacing[order] = facts.spacing
    return spacing


def _across(names: Sequence[str], places: Places) -> tuple[Severity, str]:
    """Whether the cases lie in more than one part of any division, and how that is said."""
    apart = []
    for division, parts in places.items():
        found = {parts[name] for name in names if name in parts}
        if len(found) > 1:
            apart.append(f"{' and '.join(part for part in _PARTS if part in found)} of {division}")
    if not apart:
        return "warning", ""
    return "error", f" are in {', in '.join(apart)}: what is judged was seen in training, or chose the checkpoint"
