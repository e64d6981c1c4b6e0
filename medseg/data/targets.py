"""From a case's label to what the network learns: class indices on the plan's grid, and where each class lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from medseg.data.stored import ArrayFile, Stored

__all__ = [
    "IGNORE",
    "SOFT_STEPS",
    "Foreground",
    "class_indices",
    "label_box",
    "positions_by_class",
    "voxels_by_class",
]

IGNORE = 255
"""The prepared label of voxels that say nothing: those of the class named `ignore`."""

SOFT_STEPS = 255
"""Into how many steps the probabilities of soft labels are rounded in the cache."""

_POSITIONS = 2000  # kept of each class


@dataclass(frozen=True)
class Foreground:
    """Voxels of each foreground class of a case.

    Attributes:
        counts: how many of each class index are kept, in the order of `positions`; none where unlabelled.
        positions: (N, 3) in the volume, int32.
    """

    counts: dict[int, int] = field(default_factory=dict)
    positions: ArrayFile | np.ndarray | None = None

    def draw(self, random: np.random.Generator) -> np.ndarray | None:
        """A voxel (3,) of a class drawn evenly from those there are; None without any."""
        if not self.counts or self.positions is None:
            return None
        classes = list(self.counts)
        chosen = int(random.integers(len(classes)))
        first = sum(self.counts[index] for index in classes[:chosen])
        row = first + int(random.integers(self.counts[classes[chosen]]))
        rows = self.positions.mapped() if isinstance(self.positions, ArrayFile) else self.positions
        return np.array(rows[row])


def class_indices(labels: np.ndarray, values: Sequence[int], classes: Mapping[int, str]) -> np.ndarray:
    """Class indices, uint8, of label values (X, Y, Z): the place of each in `values`, `IGNORE` for the others of
    `classes`. Every value must be one of `classes`."""
    table = np.full(max(classes) + 1, IGNORE, np.uint8)
    for index, value in enumerate(values):
        table[value] = index
    return table[labels]


def label_box(labels: np.ndarray, body: Stored) -> Stored:
    """Labels (..., X, Y, Z) of a volume cut to the box of its body, or so much more that nothing labelled is lost and
    that outside of it background continues."""
    start = list(body.origin)
    stop = [o + n for o, n in zip(body.origin, body.shape[-3:], strict=True)]
    for axis in range(3):
        filled = np.flatnonzero(labels.any(axis=tuple({-3, -2, -1} - {axis - 3}) + tuple(range(labels.ndim - 3))))
        if len(filled):
            start[axis] = max(min(start[axis], int(filled[0]) - 1), 0)
            stop[axis] = min(max(stop[axis], int(filled[-1]) + 2), labels.shape[axis - 3])
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Stored(np.ascontiguousarray(labels[..., box[0], box[1], box[2]]), (start[0], start[1], start[2]))


def voxels_by_class(indices: np.ndarray) -> dict[int, int]:
    """Voxels of each class index there is, ascending; `IGNORE` counts as none."""
    counts = np.bincount(indices.ravel(), minlength=1)
    return {index: int(count) for index, count in enumerate(counts) if count and index != IGNORE}


def positions_by_class(labels: Stored) -> tuple[dict[int, int], np.ndarray]:
    """How many positions of each foreground class follow one another, and the positions (N, 3) in the volume, int32:
    at most 2,000 a class, evenly spaced over its voxels."""
    indices = labels.array()
    counts, rows = {}, [np.empty((0, 3), np.int32)]
    for index in voxels_by_class(indices):
        if index == 0:
            continue
        flat = np.flatnonzero(indices == index)
        keep = np.linspace(0, len(flat) - 1, min(len(flat), _POSITIONS)).astype(int)
        positions = np.column_stack(np.unravel_index(flat[keep], indices.shape)) + labels.origin
        counts[index] = len(keep)
        rows.append(positions.astype(np.int32))
    return counts, np.concatenate(rows)
