"""What is in a folder of cases, and what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg.data.case import Case, grid_problem, label_problem
from medseg.data.cohort import named_by_values
from medseg.data.layouts import list_cases
from medseg.data.splits import Split, split_cases
from medseg.data.volume import Volume, read_labels, read_volume
from medseg.errors import InputError

__all__ = ["CaseFacts", "Finding", "Findings", "check_data"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: an error stops a run that reads the case, a warning does not."""

    level: Literal["error", "warning"]
    case: str | None
    text: str


@dataclass(frozen=True)
class CaseFacts:
    """What was read of one case; shape, spacing (mm) and label values are None where they could not be read."""

    name: str
    role: str
    shape: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    label_values: tuple[int, ...] | None


@dataclass(frozen=True)
class Findings:
    """What a folder holds and what is wrong with it.

    Attributes:
        name: of the dataset.
        channels: the modality of each channel.
        classes: names by label value; None where they could not be found.
        counts: cases by role: labelled, unlabelled, validation, test.
        cases: what was read of each.
        findings: errors and warnings in the order of the cases; those of the whole dataset last.
    """

    name: str
    channels: tuple[str, ...]
    classes: dict[int, str] | None
    counts: dict[str, int]
    cases: tuple[CaseFacts, ...]
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """How many findings are errors."""
        return sum(finding.level == "error" for finding in self.findings)

    def range_of(self, what: Literal["shape", "spacing"]) -> tuple[list[float], list[float]] | None:
        """The smallest and the largest shape or spacing along each axis; None where nothing was read."""
        rows = [getattr(case, what) for case in self.cases if getattr(case, what) is not None]
        return (np.min(rows, axis=0).tolist(), np.max(rows, axis=0).tolist()) if rows else None

    def as_json(self) -> dict[str, Any]:
        """Everything as what `json.dumps` takes."""
        return {**asdict(self), "errors": self.errors, "warnings": len(self.findings) - self.errors}


def check_data(
    data_dir: str | os.PathLike[str],
    modality: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> Findings:
    """Reads every case of a folder once, with all labels that there are, and says what is wrong.

    Errors: a file that cannot be read (missing, truncated, not 3-D, NaN), channels or label on another grid, label
    values outside the task. Warnings: an empty label, a class that no training or no validation label has, cases in
    no split.

    Args:
        data_dir: a folder as `load_cohort` takes it.
        modality, seed: as `load_cohort`.
        workers: threads; by default one a core, at most 8.
        on_case: called with the number of cases read and of all cases, first with 0.

    Raises:
        InputError: the cases cannot be listed or split.
    """
    data_dir = Path(data_dir)
    listing = list_cases(data_dir, modality)
    split = split_cases(listing, seed)
    cases = [(role, case) for role, part in _roles(split).items() for case in part]
    facts: list[CaseFacts] = []
    findings: list[Finding] = []
    if on_case:
        on_case(0, len(cases))
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 8)) as pool:
        for fact, found in pool.map(lambda entry: _check_case(entry[0], entry[1], listing.classes), cases):
            facts.append(fact)
            findings.extend(found)
            if on_case:
                on_case(len(facts), len(cases))
    classes = listing.classes
    if classes is None:
        try:
            classes = named_by_values(listing.source, {v for fact in facts for v in fact.label_values or ()})
        except InputError as error:
            findings.append(Finding("error", None, str(error)))
    findings.extend(_missing_classes(classes or {}, facts))
    if outside := len(listing.cases) - len(cases):
        findings.append(Finding("warning", None, f"{split.source}: {outside} cases are in no part of the split"))
    counts = {role: len(part) for role, part in _roles(split).items()}
    return Findings(listing.name, listing.channels, classes, counts, tuple(facts), tuple(findings))


def _roles(split: Split) -> dict[str, tuple[Case, ...]]:
    return {
        "labelled": tuple(case for case in split.train if case.label),
        "unlabelled": tuple(case for case in split.train if not case.label),
        "validation": split.validation,
        "test": split.test,
    }


def _check_case(role: str, case: Case, classes: Mapping[int, str] | None) -> tuple[CaseFacts, list[Finding]]:
    findings: list[Finding] = []

    def found(level: Literal["error", "warning"], text: str | None) -> None:
        if text:
            findings.append(Finding(level, case.name, text))

    def read(reader: Callable[[Path], Volume], path: Path) -> Volume | None:
        try:
            return reader(path)
        except InputError as error:
            found("error", str(error))
            return None

    first: Volume | None = None
    for path in case.images:
        image = read(read_volume, path)
        if image and first:
            found("error", grid_problem(image, first))
        first = first or image
    label = read(read_labels, case.label) if case.label else None
    if label and first:
        found("error", grid_problem(label, first))
    if label and classes is not None:
        found("error", label_problem(label, classes))
    values = tuple(int(value) for value in np.unique(label.array)) if label else None
    if values == (0,):
        found("warning", f"{case.label}: empty, all voxels are background; correct it where something is to be seen")
    geometry = first.geometry if first else None
    shape, spacing = (geometry.shape, geometry.spacing) if geometry else (None, None)
    return CaseFacts(case.name, role, shape, spacing, values), findings


def _missing_classes(classes: Mapping[int, str], facts: list[CaseFacts]) -> list[Finding]:
    findings = []
    for role, what in (("labelled", "training"), ("validation", "validation")):
        seen = {value for fact in facts if fact.role == role for value in fact.label_values or ()}
        findings += [
            Finding("warning", None, f"no {what} label has class {value} ({name})")
            for value, name in classes.items()
            if value not in seen and value != 0
        ]
    return findings
