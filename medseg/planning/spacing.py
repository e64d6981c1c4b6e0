"""The spacing that all volumes are resampled to."""

from __future__ import annotations

import numpy as np

__all__ = ["target_spacing"]

_ANISOTROPY = 3  # how many times coarser an axis must be than the others to be a stack of slices
_PERCENTILE = 10


def target_spacing(spacings: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, int | None]:
    """The median along each axis, and along the axis of a stack of slices less: the 10th percentile.

    That is an axis whose median spacing is more than three times that of the others and along which volumes have less
    than a third of the others' voxels. Its median would average the slices of the better scans away; those of the
    coarser ones are interpolated (Isensee et al. 2021, supplement: low resolution axis). It stays the coarsest.

    Args:
        spacings: (N, 3) in mm.
        shapes: (N, 3) in voxels.

    Returns:
        The spacing (3,) in mm, and the axis of slices; None where there is none.
    """
    target, size = np.median(spacings, axis=0), np.median(shapes, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    if target[coarse] <= _ANISOTROPY * target[others].max() or size[coarse] * _ANISOTROPY >= size[others].min():
        return target, None
    target[coarse] = max(np.percentile(spacings[:, coarse], _PERCENTILE), target[others].max())
    return target, coarse
