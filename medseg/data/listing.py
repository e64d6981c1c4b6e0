"""What a dataset holds, before any split."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from medseg.data.case import Case
from medseg.data.description import Description
from medseg.data.volume import strip_suffix
from medseg.errors import InputError, close_to
from medseg.plan import Region

__all__ = ["CHANNEL", "Fold", "Listing", "Part", "case_name", "orphan", "refuse_names", "refuse_twice"]

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
        folds: where the source assigns them, or a splits_final.json of nnU-Net lies beside the data.
        remarks: what a user should know, one line each; no reason to stop.
        orphans: labels without an image of their name, one line each (see `orphan`); a reason to stop.
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
    orphans: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.soft:
            object.__setattr__(self, "cases", tuple(replace(case, soft=True) for case in self.cases))

    @classmethod
    def of(
        cls,
        description: Description,
        cases: Sequence[Case],
        source: Path,
        name: str = "",
        channels: tuple[str, ...] = (),
    ) -> Self:
        """The cases (at least one) that `source` lists, in the folder where it lies. Where `description` does not say,
        name and channels are the given ones; without them the folder's name, and "unknown" for each channel of the case
        that has most."""
        return cls(
            description.name or name or source.parent.resolve().name,
            description.channels or channels or ("unknown",) * max(len(case.images) for case in cases),
            description.classes,
            tuple(cases),
            source.parent,
            source,
            description.regions,
            description.soft,
        )


def case_name(images: Sequence[Path]) -> str:
    """What the files of a case are named after: `a` of the channels `a_0000`, `a_0001`, ...; else the name of the first
    file. A number that the channels share is the case's own: `ct/a_1001`, `pet/a_1001`."""
    stems = [strip_suffix(image.name) for image in images]
    found = [match for stem in stems if (match := CHANNEL.match(stem))]
    numbered = len({match["case"] for match in found}) == 1 < len({match["channel"] for match in found}) == len(stems)
    return found[0]["case"] if numbered else stems[0]


def orphan(label: Path, name: str, folder: Path, images: Iterable[Path]) -> str:
    """What to say of a label that has no image `name` in `folder`; `images` are those that are there, of several
    channels the first."""
    stems = {strip_suffix(image.name).lower(): image.name for image in images}
    by_name = stems | {stem.removesuffix("_0000"): image for stem, image in stems.items()}
    near = by_name.get(close_to(strip_suffix(label.name).lower(), by_name))
    said = f" (the nearest is {near})" if near else f" (there is {next(iter(by_name.values()))})" if by_name else ""
    return f"{label}: no image {name} in {folder}{said}; rename or remove it"


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
