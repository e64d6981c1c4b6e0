"""Where the voxels of a volume lie in space."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["GRID_TOLERANCE_MM", "MOST_SHEAR", "Geometry"]

GRID_TOLERANCE_MM = 1e-3
"""Two grids are the same where no corner lies further than this from its counterpart: the rounding of file
formats stays far below, a shift that anyone could see far above."""

MOST_SHEAR = 3.0
"""Degrees: the rounding of headers stays far below; beyond, distances along the axes are no distances in space."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of a volume.

    Args:
        shape: number of voxels along the three array axes.
        affine: 4x4, float64, from voxel indices (of the centres) to RAS+ world coordinates in mm; column i
            belongs to array axis i. Kept as a read-only copy.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along the array axes: the norms of the affine's columns."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def is_singular(self) -> bool:
        """Whether the affine is not finite or its axes do not span space."""
        axes = self.affine[:3, :3]
        if not np.isfinite(self.affine).all():
            return True
        volume = float(np.prod(np.linalg.norm(axes, axis=0)))
        return volume == 0 or abs(float(np.linalg.det(axes))) < 1e-6 * volume

    @property
    def shear(self) -> float:
        """The largest angle in degrees by which two axes miss the right angle; of an affine that is not singular."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        cosines = np.abs(axes.T @ axes - np.eye(3)).max()
        return float(np.degrees(np.arcsin(min(cosines, 1.0))))

    def corners(self) -> NDArray[np.float64]:
        """The centres of the eight corner voxels, `(8, 3)`, in mm."""
        ends = [(0, size - 1) for size in self.shape]
        indices = np.array([(*index, 1) for index in itertools.product(*ends)], dtype=np.float64)
        return np.asarray((indices @ self.affine.T)[:, :3])

    def difference(self, other: Geometry) -> str | None:
        """What sets two grids apart, with the numbers, for a message; None where they are the same."""
        if self.shape != other.shape:
            return f"shape {self.shape} against {other.shape}"
        apart = float(np.linalg.norm(self.corners() - other.corners(), axis=1).max())
        if apart <= GRID_TOLERANCE_MM:
            return None
        return f"affines place the corners up to {apart:.4g} mm apart ({GRID_TOLERANCE_MM:g} mm is allowed)"
