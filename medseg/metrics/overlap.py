"""How much two label maps overlap: voxels are counted once, the measures are pure functions of the counts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ClassCounts",
    "Labels",
    "class_counts",
    "dice",
    "jaccard",
    "precision",
    "recall",
    "relative_volume_difference",
]

Labels: TypeAlias = NDArray[np.integer] | NDArray[np.bool_]

_SLAB_VOXELS = 1 << 22  # voxels counted at a time: bounds the memory of the int64 codes to some 32 MB


@dataclass(frozen=True)
class ClassCounts:
    """Voxels of one class in the reference, in the prediction and in both."""

    reference: int
    prediction: int
    intersection: int

    @property
    def undefined(self) -> bool:
        """Neither has the class: nothing can be said."""
        return self.reference == 0 and self.prediction == 0

    @property
    def missed(self) -> bool:
        """One of the two has the class and the other has not a voxel of it."""
        return (self.reference == 0) != (self.prediction == 0)


def class_counts(prediction: Labels, reference: Labels, classes: Iterable[int]) -> dict[int, ClassCounts]:
    """Counts the voxels of each class in one pass over both arrays.

    Args:
        prediction: index labels (X, Y, Z), of an integer type or bool.
        reference: the same shape.
        classes: the label values to count, each >= 0. Other values count for nobody.

    Returns:
        The counts per class, in the order of `classes`; zeros for a class that is nowhere.

    Raises:
        ValueError: shapes differ, a type is not integer, or a class is negative.
    """
    _validate(prediction, reference)
    labels = list(dict.fromkeys(classes))
    if any(label < 0 for label in labels):
        raise ValueError(f"classes must be label values >= 0, found {labels}")
    if not labels:
        return {}
    # label value -> its position in `labels` + 1; the last entry catches every other value
    positions = np.zeros(max(labels) + 2, dtype=np.int64)
    positions[labels] = np.arange(1, len(labels) + 1)
    n = len(labels) + 1
    joint = np.zeros(n * n, dtype=np.int64)
    flat_prediction, flat_reference = prediction.reshape(-1), reference.reshape(-1)
    for start in range(0, flat_prediction.size, _SLAB_VOXELS):
        slab = slice(start, start + _SLAB_VOXELS)
        code = n * _positions(flat_reference[slab], positions) + _positions(flat_prediction[slab], positions)
        joint += np.bincount(code, minlength=n * n)
    table = joint.reshape(n, n)
    in_reference, in_prediction, in_both = table.sum(axis=1), table.sum(axis=0), table.diagonal()
    return {
        label: ClassCounts(int(in_reference[i]), int(in_prediction[i]), int(in_both[i]))
        for i, label in enumerate(labels, start=1)
    }


def dice(counts: ClassCounts) -> float:
    """Dice = 2 |P and R| / (|P| + |R|) (Dice 1945): NaN where both are empty, 0 where one is."""
    if counts.undefined:
        return math.nan
    return 2 * counts.intersection / (counts.reference + counts.prediction)


def jaccard(counts: ClassCounts) -> float:
    """Jaccard = |P and R| / |P or R| (Jaccard 1912): NaN where both are empty, 0 where one is."""
    if counts.undefined:
        return math.nan
    return counts.intersection / (counts.reference + counts.prediction - counts.intersection)


def precision(counts: ClassCounts) -> float:
    """|P and R| / |P|: NaN where both are empty, 0 where one is: an empty prediction is not a precise one."""
    if counts.undefined:
        return math.nan
    return counts.intersection / counts.prediction if counts.prediction else 0.0


def recall(counts: ClassCounts) -> float:
    """|P and R| / |R|, the sensitivity: NaN where both are empty, 0 where one is."""
    if counts.undefined:
        return math.nan
    return counts.intersection / counts.reference if counts.reference else 0.0


def relative_volume_difference(counts: ClassCounts) -> float:
    """(|P| - |R|) / |R|, signed: -1 for an empty prediction. NaN where the reference is empty: it has no scale."""
    if not counts.reference:
        return math.nan
    return (counts.prediction - counts.reference) / counts.reference


def _positions(values: Labels, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    last = len(positions) - 1
    known = (values >= 0) & (values < last)
    return positions[np.where(known, values, last).astype(np.intp, copy=False)]


def _validate(prediction: Labels, reference: Labels) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction and reference differ in shape: {prediction.shape} and {reference.shape}")
    for name, array in (("prediction", prediction), ("reference", reference)):
        if array.dtype.kind not in "iub":
            raise ValueError(f"{name} must hold integer labels, found {array.dtype}")
