"""What a dataset holds, before any split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from medseg.data.case import Case
from medseg.errors import InputError
from medseg.plan import Region

__all__ = ["CHANNEL", "Fold", "Listing", "Part", "refuse_names", "refuse_twice", "unknown_channels"]

CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
"""nnU-Net's names: `CASE_0000`, the last part counts channels."""

_LONGEST_NAME = 200  # bytes: file systems take 255, and suffixes follow

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Fold:
    """The names of the cases that train and validate in one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """What a dataset holds, before any split.

    Args:
        name: of the dataset.
        channels: the modality of each channel as the user wrote it, "unknown" where nobody said.
        classes: names by label value, 0 is the background; None where only the label maps can tell.
        cases: all cases, with the labels that they have.
        folder: where the data lies, and a splits.json.
        source: the file or folder that lists the cases, for messages.
        regions, soft: as in `Cohort`.
        parts: the part of a case by its name, where the source assigns one.
        folds: where a splits_final.json of nnU-Net lies beside the data.
        remarks: what a user should know, one line each; no reason to stop.
    """

    name: str
    channels: tuple[str, ...]
    classes: dict[int, str] | None
    cases: tuple[Case, ...]
    folder: Path
    source: Path
    regions: tuple[Region, ...] = ()
    soft: bool = False
    parts: Mapping[str, Part] = field(default_factory=dict)
    folds: tuple[Fold, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.soft:
            object.__setattr__(self, "cases", tuple(replace(case, soft=True) for case in self.cases))


def unknown_channels(cases: Iterable[Case]) -> tuple[str, ...]:
    """The word "unknown" for each channel of the case that has most."""
    return ("unknown",) * max(len(case.images) for case in cases)


def refuse_twice(names: Iterable[str], what: str) -> None:
    """Refuses a name that is there twice, said as `what NAME`.

    Raises:
        InputError: one is.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{what} {name}; rename one of them")
        seen.add(name)


def refuse_names(names: Iterable[str], source: Path) -> None:
    """Refuses names of cases that cannot be names of files: predictions, pictures and reports are written under them,
    hours later.

    Raises:
        InputError: a name holds a slash, a backslash or what cannot be printed, begins with a dot, or is too long.
    """
    for name in names:
        if not name or name.startswith(".") or not name.isprintable() or any(c in name for c in "/\\"):
            raise InputError(
                f"{source}: case name {name!r:.80}: files are named after it, so expected one without / and \\ that"
                " does not begin with a dot; rename it"
            )
        if len(name.encode()) > _LONGEST_NAME:
            raise InputError(
                f"{source}: case name {name[:20]}... of {len(name.encode())} bytes: files are named after it, expected"
                f" at most {_LONGEST_NAME}; shorten it"
            )
