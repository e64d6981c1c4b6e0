"""Distances between the surfaces of two masks in mm: found once, every measure is a pure function of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import edt
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["SurfaceDistances", "assd", "diagonal_mm", "hausdorff", "hd95", "surface_dice", "surface_distances"]

_ROUNDING_MM = 1e-4  # of the distance transform, which is float32: up to a metre it is exact to this


@dataclass(frozen=True)
class SurfaceDistances:
    """Distance in mm of each surface voxel of one mask to the nearest surface voxel of the other.

    Both empty: two arrays without entries. One empty: there is no distance, and the image's diagonal, which
    no distance in the image exceeds, is the single entry of each array; `missed` says so.
    """

    prediction_to_reference: NDArray[np.float64]
    reference_to_prediction: NDArray[np.float64]
    missed: bool = False


def surface_distances(
    prediction: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    spacing: Sequence[float],
    *,
    image_diagonal_mm: float | None = None,
) -> SurfaceDistances:
    """Finds the surfaces of two masks and the distances between them.

    The surface of a mask is what a 6-connected erosion takes away; a voxel at the volume's border is surface,
    as what is beyond the border is not in the mask. Distances are between voxel centres.

    Args:
        prediction: mask (X, Y, Z).
        reference: mask of the same shape.
        spacing: mm between voxel centres along X, Y, Z.
        image_diagonal_mm: the distance that stands for a miss; the diagonal of the arrays given where None.
            Give it when the arrays are a crop of the image.

    Raises:
        ValueError: shapes differ, a mask is not bool, or a spacing is not a positive number.
    """
    _validate(prediction, reference, spacing)
    if image_diagonal_mm is None:
        image_diagonal_mm = diagonal_mm(prediction.shape, spacing)
    (box,) = ndimage.find_objects((prediction | reference).view(np.uint8), max_label=1)
    if box is None:
        return SurfaceDistances(np.empty(0), np.empty(0))
    # no margin is needed: outside the joint box there is no voxel of either mask, nor a surface to be near to
    prediction, reference = prediction[box], reference[box]
    if not prediction.any() or not reference.any():
        return SurfaceDistances(np.array([image_diagonal_mm]), np.array([image_diagonal_mm]), missed=True)
    prediction_surface, reference_surface = _surface(prediction), _surface(reference)
    return SurfaceDistances(
        _distance_to(reference_surface, spacing)[prediction_surface].astype(np.float64),
        _distance_to(prediction_surface, spacing)[reference_surface].astype(np.float64),
    )


def hausdorff(distances: SurfaceDistances, percentile: float = 100.0) -> float:
    """The larger of the two directed percentiles of the surface distances in mm; 100 is the Hausdorff
    distance.

    Percentiles are interpolated linearly. NaN where both masks are empty, the image's diagonal where one is.
    """
    if not distances.prediction_to_reference.size:
        return math.nan
    return max(
        float(np.percentile(distances.prediction_to_reference, percentile)),
        float(np.percentile(distances.reference_to_prediction, percentile)),
    )


def hd95(distances: SurfaceDistances) -> float:
    """The 95th-percentile Hausdorff distance in mm, as in Metrics Reloaded (Maier-Hein et al. 2024)."""
    return hausdorff(distances, 95.0)


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance in mm: the mean over the surface voxels of both masks together.

    NaN where both masks are empty, the image's diagonal where one is.
    """
    if not distances.prediction_to_reference.size:
        return math.nan
    return float(np.mean(np.concatenate([distances.prediction_to_reference, distances.reference_to_prediction])))


def surface_dice(distances: SurfaceDistances, tolerance_mm: float) -> float:
    """The share of both surfaces that lies within `tolerance_mm` of the other one (Nikolov et al. 2021, section 4.2).

    Surfaces are counted in voxels, as MONAI does, not in mm2 of their triangles, as DeepMind's `surface-distance` does:
    the two come within 0.05 where voxels are half the tolerance. NaN where both masks are empty, 0 where one is.

    Raises:
        ValueError: the tolerance is negative.
    """
    if not tolerance_mm >= 0:
        raise ValueError(f"tolerance_mm must be at least 0, found {tolerance_mm}")
    both = (distances.prediction_to_reference, distances.reference_to_prediction)
    if not both[0].size:
        return math.nan
    if distances.missed:
        return 0.0
    within = sum(int(np.count_nonzero(of_one <= tolerance_mm + _ROUNDING_MM)) for of_one in both)
    return within / (both[0].size + both[1].size)


def diagonal_mm(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """The diagonal in mm of an image of `shape` voxels, each of the size `spacing`."""
    return math.hypot(*(n * mm for n, mm in zip(shape, spacing, strict=True)))


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    structure = ndimage.generate_binary_structure(mask.ndim, 1)
    return mask & ~ndimage.binary_erosion(mask, structure, border_value=0)


def _distance_to(surface: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float32]:
    # exact as SciPy's, in a third of its time
    distance: NDArray[np.float32] = edt.edt(np.ascontiguousarray(~surface), anisotropy=tuple(map(float, spacing)))
    return distance


def _validate(prediction: NDArray[np.bool_], reference: NDArray[np.bool_], spacing: Sequence[float]) -> None:
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction and reference differ in shape: {prediction.shape} and {reference.shape}")
    if prediction.dtype != np.bool_ or reference.dtype != np.bool_:
        raise ValueError(f"masks must be bool, found {prediction.dtype} and {reference.dtype}")
    if len(spacing) != prediction.ndim or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise ValueError(f"spacing must be {prediction.ndim} positive numbers of mm, found {tuple(spacing)}")
