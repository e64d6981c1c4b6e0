"""What a check of a dataset found: facts about cases, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

__all__ = ["CaseFacts", "Finding", "Findings", "Severity"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        severity: an error stops a run, or makes its result worthless; a warning should be looked at.
        case: the case's name; None where it concerns several.
        file: the file that it is about; None where there is none.
        what: what was found.
        todo: what to do.
    """

    severity: Severity
    case: str | None
    file: str | None
    what: str
    todo: str

    @classmethod
    def of(cls, severity: Severity, case: str | None, message: object, file: Path | None = None) -> Self:
        """From the one line of an `InputError`: file, what was found, what to do, as `FILE: WHAT; REMEDY`."""
        text = str(message)
        if file and text.startswith(f"{file}: "):
            name, text = str(file), text.removeprefix(f"{file}: ")
        else:
            name, _, text = text.partition(": ")
        what, _, todo = text.rpartition("; ")
        return cls(severity, case, name, what or todo, todo if what else "correct it")

    @property
    def text(self) -> str:
        """All of it on one line."""
        where = self.file or (f"case {self.case}" if self.case else "")
        return f"{where}{': ' if where else ''}{self.what}; {self.todo}"


@dataclass(frozen=True)
class CaseFacts:
    """What was read of one case.

    Its role is labelled, unlabelled, validation, test, or outside (in no part). Shape, spacing (mm), orientation (RAS)
    and label values are None where they could not be read.
    """

    name: str
    role: str
    shape: tuple[int, int, int] | None
    spacing: tuple[float, float, float] | None
    orientation: str | None
    label_values: tuple[int, ...] | None


@dataclass(frozen=True)
class Findings:
    """What a dataset holds and what is wrong with it.

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
        return sum(finding.severity == "error" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings are warnings."""
        return len(self.findings) - self.errors

    def range_of(self, what: Literal["shape", "spacing"]) -> tuple[list[float], list[float]] | None:
        """The smallest and the largest shape or spacing along each axis; None where nothing was read."""
        rows = [getattr(case, what) for case in self.cases if getattr(case, what) is not None]
        return (np.min(rows, axis=0).tolist(), np.max(rows, axis=0).tolist()) if rows else None

    def as_json(self) -> dict[str, Any]:
        """Everything as what `json.dumps` takes."""
        return {**asdict(self), "errors": self.errors, "warnings": self.warnings}
