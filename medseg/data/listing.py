"""What a folder of cases holds, before any split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from medseg.data.case import Case
from medseg.errors import InputError

__all__ = ["CHANNEL", "Listing", "refuse_twice", "unknown_channels"]

CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")
"""nnU-Net's names: `CASE_0000`, the last part counts channels."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds, before any split.

    Args:
        name: of the dataset.
        channels: the modality of each channel as the user wrote it, "unknown" where nobody said.
        classes: names by label value, 0 is the background; None where only the label maps can tell.
        cases: all cases, with the labels that they have.
    """

    name: str
    channels: tuple[str, ...]
    classes: dict[int, str] | None
    cases: tuple[Case, ...]


def unknown_channels(cases: Iterable[Case]) -> tuple[str, ...]:
    return ("unknown",) * max(len(case.images) for case in cases)


def refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{what} {name}; rename one of them")
        seen.add(name)
