"""From a volume's own grid to the plan's and back: orientation, spacing, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation, ornt_transform
from scipy.ndimage import zoom

from medseg.data.geometry import Geometry
from medseg.data.stored import Stored
from medseg.plan import ChannelPlan, Plan

__all__ = [
    "Grid",
    "body_box",
    "canonical_geometry",
    "images_to_grid",
    "labels_to_grid",
    "normalise",
    "plan_grid",
    "prepare_body",
    "prepare_images",
    "soft_to_grid",
    "to_native",
]

Corner = tuple[int, int, int]
_RAS = np.array([[0, 1], [1, 1], [2, 1]])


@dataclass(frozen=True)
class Grid:
    """The way between a volume's own grid and the plan's.

    Attributes:
        native: shape in the file's axis order.
        canonical: shape after flipping and permuting the axes to the nearest RAS+ order.
        target: shape after resampling to the plan's spacing; the field of view stays, so that its exact spacing
            is within half a voxel over the axis of the plan's.
        orientation: nibabel's orientation array of the native axes.
    """

    native: tuple[int, int, int]
    canonical: tuple[int, int, int]
    target: tuple[int, int, int]
    orientation: np.ndarray


def plan_grid(geometry: Geometry, spacing: Sequence[float]) -> Grid:
    """The grid of `spacing` mm (RAS+ axis order) over the field of view of `geometry`."""
    orientation = io_orientation(geometry.affine)
    canonical, native_spacing = canonical_geometry(geometry)
    target = tuple(
        max(1, round(n * have / want)) for n, have, want in zip(canonical, native_spacing, spacing, strict=True)
    )
    return Grid(geometry.shape, canonical, (target[0], target[1], target[2]), orientation)


def canonical_geometry(geometry: Geometry) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing (mm) of a volume with its axes in the nearest RAS+ order."""
    axes = io_orientation(geometry.affine)[:, 0].astype(int)  # native axis i becomes canonical axis axes[i]
    order = np.argsort(axes)
    shape = tuple(int(geometry.shape[i]) for i in order)
    spacing = tuple(float(geometry.spacing[i]) for i in order)
    return (shape[0], shape[1], shape[2]), (spacing[0], spacing[1], spacing[2])


def images_to_grid(images: np.ndarray, grid: Grid) -> np.ndarray:
    """Images (C, X, Y, Z) resampled (cubic, constant along an axis of one voxel) onto the plan's grid, float32."""
    return np.stack([_resize(_canonical(image, grid), grid.target, order=3) for image in images])


def labels_to_grid(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """Labels (X, Y, Z) on the plan's grid: each value's indicator is resampled linearly, the largest one wins. Of
    equal ones the highest value does: at half the resolution a sheet of one voxel would vanish otherwise."""
    labels = _canonical(labels, grid)
    if labels.shape == grid.target:
        return labels
    values = np.unique(labels)
    best = np.full(grid.target, -1.0, np.float32)
    result = np.zeros(grid.target, labels.dtype)
    for value in values:
        share = _resize((labels == value).astype(np.float32), grid.target, order=1)
        result[share > best - 1e-4] = value  # equal up to the rounding of the interpolation
        np.maximum(best, share, out=best)
    return result


def soft_to_grid(probabilities: np.ndarray, grid: Grid) -> np.ndarray:
    """Probabilities (C, X, Y, Z) resampled linearly onto the plan's grid, float32."""
    return np.stack([_resize(_canonical(one, grid), grid.target, order=1) for one in probabilities])


def to_native(array: np.ndarray, grid: Grid) -> np.ndarray:
    """An array (X, Y, Z, ...) of the shape `grid.canonical` with its axes in the file's order; a view."""
    return apply_orientation(array, ornt_transform(_RAS, grid.orientation))


def normalise(images: np.ndarray, channels: Sequence[ChannelPlan]) -> np.ndarray:
    """Images (C, X, Y, Z) with each channel normalised as the plan says, float32. A constant channel becomes 0."""
    result = np.empty(images.shape, np.float32)
    for i, channel in enumerate(channels):
        image = images[i].astype(np.float32)
        if channel.normalisation == "clip_zscore":
            lower, upper, mean, std = channel.scale
            result[i] = (np.clip(image, lower, upper) - mean) / std
        else:
            # float64: the squares of raw MRI intensities (1e5) over a volume exceed float32's digits
            mean, std = image.mean(dtype=np.float64), image.std(dtype=np.float64)
            # resampling leaves ripples of float32's last digits in a constant: they are not to become noise of std 1
            constant = std <= 1e-6 * np.abs(image).max()
            result[i] = 0 if constant else (image - mean) / std
    return result


def prepare_images(images: np.ndarray, grid: Grid, plan: Plan) -> np.ndarray:
    """Images (C, X, Y, Z) of a file as the network sees them: on the plan's grid, normalised, float32. Outside the body
    (see `prepare_body`) its edge continues."""
    return prepare_body(images, grid, plan).whole(grid.target)


def prepare_body(images: np.ndarray, grid: Grid, plan: Plan) -> Stored:
    """Images (C, X, Y, Z) of a file on the plan's grid, normalised, float32: the box that holds more than background
    (see `body_box`). Statistics of `zscore` are those of the box, so that air around a body does not count."""
    start, stop = body_box(images, grid, plan.channels)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    moved = images_to_grid(images, grid)[(slice(None), *box)]
    return Stored(normalise(moved, plan.channels), start)


def body_box(images: np.ndarray, grid: Grid, channels: Sequence[ChannelPlan]) -> tuple[Corner, Corner]:
    """First voxel and the one behind the last, on the plan's grid, of the box outside which every channel is
    background: at its least value, or below what `clip_zscore` tells apart. Two voxels of either grid are left around
    it, so that what continues its edge is background. The whole grid where everything is background."""
    body = np.zeros(grid.native, bool)
    for image, channel in zip(images, channels, strict=True):
        body |= image > (channel.scale[0] if channel.normalisation == "clip_zscore" else image.min())
    body = _canonical(body, grid)
    start, stop = [0, 0, 0], list(grid.target)
    for axis in range(3) if body.any() else ():
        filled = np.flatnonzero(body.any(axis=tuple({0, 1, 2} - {axis})))
        factor = grid.target[axis] / grid.canonical[axis]
        start[axis] = max(int(np.floor((filled[0] - 2) * factor)) - 2, 0)
        stop[axis] = min(int(np.ceil((filled[-1] + 3) * factor)) + 2, grid.target[axis])
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])


def _canonical(array: np.ndarray, grid: Grid) -> np.ndarray:
    return np.ascontiguousarray(apply_orientation(array, grid.orientation))


def _resize(array: np.ndarray, shape: Sequence[int], order: int) -> np.ndarray:
    if array.shape == tuple(shape):
        return array.astype(np.float32, copy=False)
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    return zoom(array.astype(np.float32, copy=False), factors, order=order, mode="nearest", grid_mode=True)
