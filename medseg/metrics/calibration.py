"""Whether a probability means what it says: of the voxels called 0.8, four in five should be right."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["calibration_error"]


def calibration_error(probability: NDArray[np.floating], truth: NDArray[np.bool_], bins: int = 15) -> float:
    """The expected calibration error of one class (Guo et al. 2017, equation 3; per class: Nixon et al. 2019).

    Voxels are sorted into `bins` equal intervals of probability, the last one closed; the error is the mean over voxels
    of |share of the bin that is the class - mean probability of the bin|: 0 is perfect, 1 the worst.

    Args:
        probability: of the class, in [0, 1], any shape. Give the box around the object (Mehrtash et al. 2020): the far
            background, sure and right, would hide everything else.
        truth: of the same shape: whether the voxel is of the class.
        bins: at least 1.

    Returns:
        The error; NaN without voxels.

    Raises:
        ValueError: shapes differ, `bins` is below 1, or a probability is outside [0, 1] or NaN.
    """
    if probability.shape != truth.shape:
        raise ValueError(f"probability and truth differ in shape: {probability.shape} and {truth.shape}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, found {bins}")
    if not probability.size:
        return math.nan
    values = probability.reshape(-1).astype(np.float64)
    if not (values.min() >= 0 and values.max() <= 1 + 1e-6):
        raise ValueError(f"probabilities must be in [0, 1], found {values.min()} to {values.max()}")
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    confidence = np.bincount(place, weights=values, minlength=bins)
    right = np.bincount(place, weights=truth.reshape(-1).astype(np.float64), minlength=bins)
    return float(np.abs(right - confidence).sum() / values.size)
