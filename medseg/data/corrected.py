"""Labels that came later, such as corrected pseudo-labels, in a folder of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from medseg.data.case import Case
from medseg.data.volume import is_volume, strip_suffix
from medseg.errors import InputError, nearest

__all__ = ["with_labels"]


def with_labels(cases: Sequence[Case], folder: Path) -> tuple[Case, ...]:
    """The cases, those with a file of their name in `folder` with that as their label.

    Raises:
        InputError: the folder is missing or holds no label, two labels of one case, or a label of no such case.
    """
    try:
        files = sorted(path for path in folder.iterdir() if is_volume(path))
    except OSError as error:
        raise InputError(f"{folder}: no folder of labels ({error.strerror}); `medseg suggest` writes one") from error
    if not files:
        raise InputError(f"{folder}: no label there; expected NAME.nii.gz of unlabelled training cases")
    names = {case.name for case in cases}
    labels: dict[str, Path] = {}
    for path in files:
        name = strip_suffix(path.name)
        if name in labels:
            raise InputError(f"{path}: a second label of case {name}, beside {labels[name].name}; remove one")
        if name not in names:
            raise InputError(
                f"{path}: {name} is no unlabelled training case{nearest(name, names)}; remove or rename it"
            )
        labels[name] = path
    return tuple(dataclasses.replace(case, label=labels.get(case.name)) for case in cases)
