"""Lesion by lesion: how many of the reference's components were found, and how many of the prediction's are none."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["LesionCounts", "count_lesions", "lesion_f1"]


@dataclass(frozen=True)
class LesionCounts:
    """`found` and `missed` lesions of the reference, and `false` ones: predicted components that touch none."""

    found: int
    missed: int
    false: int


def count_lesions(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> LesionCounts:
    """Counts lesions: the 26-connected components of a mask.

    A lesion of the reference is found where the prediction has a voxel of it; a component of the prediction is false
    where it has no voxel of the reference. This is the rule of the ISLES 2022 challenge (Hernandez Petzsche et al.
    2022), which asks for detection and leaves the outline to Dice and the distances. One large component may find
    several lesions.

    Args:
        prediction: mask (X, Y, Z).
        reference: mask of the same shape.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction and reference differ in shape: {prediction.shape} and {reference.shape}")
    (lesions, n_lesions), (components, n_components) = _components(reference), _components(prediction)
    both = prediction & reference
    found, true = len(np.unique(lesions[both])), len(np.unique(components[both]))
    return LesionCounts(found=found, missed=n_lesions - found, false=n_components - true)


def lesion_f1(counts: LesionCounts) -> float:
    """F1 = 2 found / (2 found + missed + false): NaN where neither has a lesion, 0 where one has none."""
    total = 2 * counts.found + counts.missed + counts.false
    return 2 * counts.found / total if total else math.nan


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.integer], int]:
    labels, number = ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, mask.ndim))
    return labels, int(number)
