"""A volume on the grid of another one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from medseg.data.geometry import Geometry

__all__ = ["overlap", "resampled"]


def resampled(array: NDArray[Any], geometry: Geometry, onto: Geometry) -> NDArray[np.float32]:
    """The volume `array` (X, Y, Z) on `geometry`, interpolated linearly at the voxels of `onto`; float32.

    Up to one voxel beyond its edge the volume continues; farther out is its smallest value (air in CT, nothing in MRI
    and PET).
    """
    way = np.linalg.inv(geometry.affine) @ onto.affine
    padded = np.pad(array.astype(np.float32, copy=False), 1, mode="edge")
    return affine_transform(
        padded, way[:3, :3], way[:3, 3] + 1, onto.shape, np.float32, order=1, mode="constant", cval=float(array.min())
    )


def overlap(geometry: Geometry, onto: Geometry) -> float:
    """The share of the field of view of `onto` that lies in the one of `geometry`, at 16 points along each axis."""
    ends = [np.linspace(-0.5, size - 0.5, 2 * 16 + 1)[1::2] for size in onto.shape]
    points = np.array([(*point, 1.0) for point in itertools.product(*ends)])
    inside = (points @ (np.linalg.inv(geometry.affine) @ onto.affine).T)[:, :3]
    return float(((inside >= -0.5) & (inside <= np.array(geometry.shape) - 0.5)).all(axis=1).mean())
