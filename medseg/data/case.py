"""One case: its files, read and checked at once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.volume import Geometry, Volume, read_labels, read_volume
from medseg.errors import InputError

__all__ = ["Case", "grid_problem", "label_problem", "load_case"]


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Args:
        name: as in the case lists.
        images: one file a channel, all on one grid.
        label: the label map on the same grid; None where there is none or where it may not be read.
        annotated: the label values that were looked for in this case, where these are not all: what the label calls
            background may be one of the others. None where all were.
        group: what must not be torn apart by a split, such as the patient; None where the case stands alone.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    annotated: tuple[int, ...] | None = None
    group: str | None = None


def load_case(case: Case, classes: Collection[int]) -> tuple[NDArray[np.float32], NDArray[Any] | None, Geometry]:
    """Reads a case and checks it.

    Args:
        case: the files to read.
        classes: the label values of the task (a mapping from them to names will do).

    Returns:
        The images `(C, X, Y, Z)` float32; the labels `(X, Y, Z)` uint8 or int16, None where the case has
        none; the grid of the first channel.

    Raises:
        InputError: a file cannot be read (see `read_volume`, `read_labels`), channels or label lie on
            another grid than the first channel, or a label value is not one of the classes.
    """
    volumes = [read_volume(path) for path in case.images]
    for volume in volumes[1:]:
        _refuse(grid_problem(volume, volumes[0]))
    images = np.stack([volume.array for volume in volumes])
    if case.label is None:
        return images, None, volumes[0].geometry
    label = read_labels(case.label)
    _refuse(grid_problem(label, volumes[0]))
    _refuse(label_problem(label, classes))
    return images, label.array, volumes[0].geometry


def grid_problem(volume: Volume, image: Volume) -> str | None:
    """How the grid of a volume differs from that of the image that it belongs to; None where it does not."""
    difference = volume.geometry.difference(image.geometry)
    if difference is None:
        return None
    return f"{volume.path}: not on the grid of {image.path}: {difference}; resample it onto that grid"


def label_problem(label: Volume, classes: Collection[int]) -> str | None:
    """The label values that are no classes, with their voxels; None where there are none."""
    values, counts = np.unique(label.array, return_counts=True)
    found = {int(value): int(count) for value, count in zip(values, counts, strict=True)}
    unknown = {value: count for value, count in found.items() if value not in classes}
    if not unknown:
        return None
    said = ", ".join(f"{value} ({count} voxels)" for value, count in list(unknown.items())[:5])
    return (
        f"{label.path}: label value {said} is not of the task, which has"
        f" {', '.join(map(str, sorted(classes)))}; correct the label, or name the class in dataset.json"
    )


def _refuse(problem: str | None) -> None:
    if problem:
        raise InputError(problem)
