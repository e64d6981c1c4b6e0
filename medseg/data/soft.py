"""Soft labels: of each voxel the probabilities of the foreground classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medseg.data.geometry import Geometry
from medseg.data.stacked import read_channels
from medseg.errors import InputError

__all__ = ["background_first", "read_soft_labels"]

_ROUNDING = 1e-3
"""What a file's rounding (float16, 8-bit slopes) may add to 1 or take from 0."""


def read_soft_labels(
    path: str | os.PathLike[str], geometry: Geometry, classes: int | None = None
) -> NDArray[np.float32]:
    """The probabilities of the foreground classes in a file of (X, Y, Z, K - 1) values, or (X, Y, Z) for one class; of
    several classes (X, Y, Z) is a map of their values, each of which is sure.

    Args:
        path: NIfTI, NRRD, MHA or MHD; the classes are the last axis (or the components of a voxel).
        geometry: of the image that the file belongs to.
        classes: K, the background included; None takes what the file holds.

    Returns:
        (K - 1, X, Y, Z) float32 in [0, 1], with sums over the classes of at most 1 up to rounding. What is missing to 1
        is the background's.

    Raises:
        InputError: not readable, on another grid, another number of classes, values that are not finite or outside
            [0, 1], or sums above 1.
    """
    path = Path(path)
    array, found = read_channels(path)
    if difference := found.difference(geometry):
        raise InputError(f"{path}: not on the grid of its image: {difference}; resample it onto that grid")
    if classes is not None and classes > 2 and len(array) == 1:
        return _sure(path, array[0], classes)
    if classes is not None and len(array) != classes - 1:
        raise InputError(
            f"{path}: soft labels of {len(array)} classes, expected {classes - 1} (all but the background); correct it"
        )
    if bad := array.size - int(np.isfinite(array).sum()):
        raise InputError(f"{path}: {bad} of {array.size} probabilities are NaN or infinite; export it again")
    low, high = float(array.min()), float(array.max())
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise InputError(
            f"{path}: probabilities from {low:.4g} to {high:.4g}, expected 0 to 1; scale them, or leave out"
            ' "label_type": "soft" where these are label values'
        )
    sums = array.sum(axis=0)
    if (above := int((sums > 1 + len(array) * _ROUNDING).sum())) > 0:
        raise InputError(
            f"{path}: the probabilities of a voxel add up to {float(sums.max()):.4g} ({above} voxels exceed 1); classes"
            " exclude each other: normalise them"
        )
    return np.clip(array, 0, 1)


def background_first(foreground: NDArray[np.floating]) -> NDArray[np.float32]:
    """The probabilities of all classes (K, ...) from those of the foreground (K - 1, ...)."""
    background = np.clip(1 - foreground.sum(axis=0, keepdims=True), 0, 1)
    return np.concatenate([background, foreground]).astype(np.float32, copy=False)


def _sure(path: Path, labels: NDArray[np.float32], classes: int) -> NDArray[np.float32]:
    """0 and 1 for the values 1 to K - 1 of a label map."""
    strange = labels[~np.isin(labels, np.arange(classes))]
    if strange.size:
        raise InputError(
            f"{path}: one number a voxel, {strange[0]:g} among them; expected {classes - 1} probabilities a voxel, or a"
            f" label map of the values 0 to {classes - 1}; correct it"
        )
    return np.stack([labels == value for value in range(1, classes)]).astype(np.float32)
