"""What a config asks of a cohort's folder and its cases."""

from __future__ import annotations

import os
from pathlib import Path

from medseg.data.case import Case
from medseg.data.cohort import Cohort
from medseg.errors import InputError, nearest

__all__ = ["cases_of", "task_folder"]

_JUDGED = ("validation", "test")


def cases_of(cohort: Cohort, split: str) -> tuple[Case, ...]:
    """The cases of a split that has labels to judge by.

    Raises:
        InputError: another split, or one without cases.
    """
    if split not in _JUDGED:
        raise InputError(f"split '{split}'{nearest(split, _JUDGED)}; expected validation or test")
    cases: tuple[Case, ...] = getattr(cohort, split)
    if not cases:
        raise InputError(f"{cohort.name}: has no {split} cases; name them in splits.json")
    return cases


def task_folder(name: str) -> str:
    """The folder of a dataset by name: below MEDSEG_DATA, or else below `../shared/data`.

    Raises:
        InputError: it is not there.
    """
    root = Path(os.environ.get("MEDSEG_DATA", "../shared/data"))
    folder = root / name
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; set MEDSEG_DATA to the folder that holds {name}, or pass --data")
    return str(folder)
