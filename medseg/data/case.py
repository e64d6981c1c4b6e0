"""One case: its files, read and checked at once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.description import IGNORE_NAME
from medseg.data.geometry import Geometry
from medseg.data.resample import overlap, resampled
from medseg.data.soft import background_first, read_soft_labels
from medseg.data.stacked import read_stack
from medseg.data.volume import Volume, read_geometry, read_labels, read_volume
from medseg.errors import InputError

__all__ = [
    "Case",
    "channel_remark",
    "grid_problem",
    "label_problem",
    "load_case",
    "load_labels",
    "load_soft_labels",
    "read_images",
]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Args:
        name: as in the case lists.
        images: one file, or folder of a DICOM series, a channel; brought onto the grid of the first where grids differ.
            One file that holds all channels stands there once for each.
        label: the label map on the same grid; None where there is none or where it may not be read.
        annotated: the label values that were looked for in this case, where these are not all: what the label calls
            background may be one of the others. None where all were.
        group: what must not be torn apart by a split, such as the patient; None where the case stands alone.
        soft: whether the label holds probabilities of the foreground classes (see `read_soft_labels`).
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None
    annotated: tuple[int, ...] | None = None
    group: str | None = None
    soft: bool = False

    @property
    def stacked(self) -> bool:
        """Whether one file holds all channels."""
        return len(self.images) > 1 and len(set(self.images)) == 1

    @property
    def files(self) -> tuple[Path, ...]:
        """The images and, where there is one, the label."""
        return self.images if self.label is None else (*self.images, self.label)

    def geometry(self) -> Geometry:
        """The grid of the first channel, from its header (see `read_geometry`)."""
        return read_geometry(self.images[0], self.stacked)


def load_case(case: Case, classes: Mapping[int, str]) -> tuple[NDArray[np.float32], NDArray[Any] | None, Geometry]:
    """Reads a case and checks it. Channels on another grid are resampled onto the first one's, which is logged once.

    Args:
        case: the files to read.
        classes: the names of the task's label values.

    Returns:
        The images `(C, X, Y, Z)` float32; the labels `(X, Y, Z)` (see `load_labels`), None where the case has none;
        the grid of the first channel.

    Raises:
        InputError: a file cannot be read (see `read_volume`, `read_labels`), a channel lies elsewhere than the first,
            the label lies on another grid than the first channel, or a label value is not one of the classes.
    """
    volumes = read_images(case)
    first = next(volumes)
    images = np.empty((len(case.images), *first.array.shape), np.float32)
    images[0] = first.array
    for channel, volume in enumerate(volumes, 1):
        if remark := channel_remark(volume, first):
            _say(f"{case.name}: {remark}")
            images[channel] = resampled(volume.array, volume.geometry, first.geometry)
        else:
            images[channel] = volume.array
    labels = None if case.label is None else load_labels(case, first.geometry, classes)
    return images, labels, first.geometry


def read_images(case: Case) -> Iterator[Volume]:
    """The channels of a case, each on its own grid, read when its turn comes.

    Raises:
        InputError: see `read_volume`, `read_stack`.
    """
    yield from read_stack(case.images[0], len(case.images)) if case.stacked else map(read_volume, case.images)


def load_labels(case: Case, geometry: Geometry, classes: Mapping[int, str]) -> NDArray[Any]:
    """The label of a case that has one, checked.

    Args:
        case: the files.
        geometry: of the first channel.
        classes: the names of the task's label values; of soft labels, the background's is the smallest.

    Returns:
        Label values `(X, Y, Z)`, an integer type; of soft labels the most probable class. What was not looked for is
        background, whatever the file says.

    Raises:
        InputError: the file cannot be read, it lies on another grid, or a value is not one of the classes.
    """
    assert case.label is not None  # the caller has looked
    if case.soft:
        likely = background_first(load_soft_labels(case, geometry, classes)).argmax(0)
        return np.array(sorted(classes), np.int16)[likely]
    label = read_labels(case.label)
    for problem in (grid_problem(label, geometry, case.images[0]), label_problem(label, classes)):
        if problem:
            raise InputError(problem)
    return _only(case.annotated, label.array, classes)


def load_soft_labels(case: Case, geometry: Geometry, classes: Mapping[int, str]) -> NDArray[np.float32]:
    """The probabilities of the foreground classes (K - 1, X, Y, Z) of a case with soft labels; 0 for those not
    looked for.

    Raises:
        InputError: see `read_soft_labels`.
    """
    assert case.label is not None  # the caller has looked
    found = read_soft_labels(case.label, geometry, len(classes))
    for row, value in enumerate(sorted(classes)[1:]):
        if case.annotated is not None and value not in case.annotated:
            found[row] = 0
    return found


def _only(annotated: tuple[int, ...] | None, labels: NDArray[Any], classes: Mapping[int, str]) -> NDArray[Any]:
    """0 where a label has another value than the annotated ones and that named `ignore`."""
    if annotated is None:
        return labels
    kept = [*annotated, *(value for value, name in classes.items() if name == IGNORE_NAME)]
    return np.where(np.isin(labels, kept), labels, 0)


def channel_remark(volume: Volume, first: Volume) -> str | None:
    """How the grid of a channel differs from the first one's and how far it covers it; None where it does not differ.

    Raises:
        InputError: the two have nothing in common.
    """
    difference = volume.geometry.difference(first.geometry)
    if difference is None:
        return None
    share = overlap(volume.geometry, first.geometry)
    if share == 0:
        raise InputError(
            f"{volume.path}: lies nowhere in the field of view of {first.path}; check that both are of one examination"
        )
    covers = "" if share > 0.99 else f", of which it covers {share:.0%}"
    return f"{volume.path}: resampled linearly onto the grid of {first.path}{covers} ({difference})"


def grid_problem(volume: Volume, geometry: Geometry, image: Path) -> str | None:
    """How the grid of a volume differs from the `geometry` of the image that it belongs to; None where it does not."""
    difference = volume.geometry.difference(geometry)
    if difference is None:
        return None
    return f"{volume.path}: not on the grid of {image}: {difference}; resample it onto that grid"


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


@cache
def _say(remark: str) -> None:
    """Logs it, the first time."""
    _log.warning(remark)
