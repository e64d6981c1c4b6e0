"""A case made small enough for a web page: the image as a JPEG, the labels as a PNG, slices side by side."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray
from scipy import ndimage

from medseg.data.case import Case, load_labels
from medseg.data.description import IGNORE_NAME
from medseg.data.stacked import read_first
from medseg.data.volume import read_labels

__all__ = ["COLOURS", "case_view"]

COLOURS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0), (0, 114, 178),
)  # fmt: skip
"""Okabe and Ito 2008 (0 to 255): told apart with any colour vision; those first that differ most on grey. Classes take
them in turn."""

_VOXELS = 600_000  # of a case: some 200 kB
_MARGIN_MM = 20.0  # around all labels
_COLUMNS = 8  # slices side by side


def case_view(case: Case, prediction: Path, classes: Mapping[int, str], said: str) -> dict[str, Any]:
    """What the viewer shows of a case, for JSON: first channel, prediction and reference, cropped to the labels with a
    margin, thinned out where that is still large, in RAS+ order.

    Args:
        case: with a label, of which is shown what it is judged by (see `load_labels`).
        prediction: a label map on the case's grid.
        classes: names by label value; the background and what is named `ignore` are not shown.
        said: of the case, such as its Dice.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    image = read_first(case.images[0])
    geometry = image.geometry
    order = io_orientation(geometry.affine)
    spacing = np.empty(3)
    spacing[order[:, 0].astype(int)] = geometry.spacing
    found = read_labels(prediction).array
    truth = load_labels(case, geometry, classes)
    grey, predicted, reference = (np.asarray(apply_orientation(a, order)) for a in (image.array, found, truth))
    values = [value for value, name in sorted(classes.items()) if value and name != IGNORE_NAME]
    predicted, reference = (_indices(array, values) for array in (predicted, reference))
    box = _box((predicted > 0) | (reference > 0), spacing)
    low, high = np.percentile(grey, [0.5, 99.5])
    grey, predicted, reference = grey[box], predicted[box], reference[box]
    steps = _steps(grey.shape, spacing)
    grey = np.clip((_thinned(grey, steps, order=1) - low) / max(float(high - low), 1e-6), 0, 1) * 255
    predicted, reference = (_thinned(array, steps, order=0) for array in (predicted, reference))
    shape = grey.shape
    labels = np.zeros((*shape, 3), np.uint8)
    labels[..., 0], labels[..., 1] = predicted, reference
    return {
        "name": case.name,
        "said": said,
        "shape": list(shape),
        "spacing": [float(mm * step) for mm, step in zip(spacing, steps, strict=True)],
        "start": _fullest(reference if reference.any() else predicted),
        "columns": _COLUMNS,
        "colours": [None, *(COLOURS[i % len(COLOURS)] for i in range(len(values)))],
        "image": _sprite(grey.astype(np.uint8), "JPEG"),
        "labels": _sprite(labels, "PNG"),
    }


def _indices(labels: NDArray[Any], values: Sequence[int]) -> NDArray[np.uint8]:
    """1, 2, ... for the classes in their order, 0 for all else."""
    indices = np.zeros(labels.shape, np.uint8)
    for i, value in enumerate(values[:255], start=1):
        indices[labels == value] = i
    return indices


def _box(mask: NDArray[np.bool_], spacing: NDArray[np.float64]) -> tuple[slice, ...]:
    found = ndimage.find_objects(mask.astype(np.uint8))
    inside = found[0] if found else tuple(slice(0, n) for n in mask.shape)
    margins = [math.ceil(_MARGIN_MM / mm) for mm in spacing]
    return tuple(
        slice(max(s.start - m, 0), min(s.stop + m, n)) for s, m, n in zip(inside, margins, mask.shape, strict=True)
    )


def _steps(shape: Sequence[int], spacing: NDArray[np.float64]) -> list[float]:
    """By how much each axis is thinned out (1: not): the finest first, until so many voxels are left."""
    coarse, fine = float(spacing.min()), float(spacing.max()) * 64
    for _ in range(40):  # bisection for the spacing down to which all axes are thinned
        middle = (coarse + fine) / 2
        left = math.prod(math.ceil(n * mm / max(mm, middle)) for n, mm in zip(shape, spacing, strict=True))
        coarse, fine = (coarse, middle) if left <= _VOXELS else (middle, fine)
    return [max(1.0, fine / mm) if math.prod(shape) > _VOXELS else 1.0 for mm in spacing]


def _thinned(array: NDArray[Any], steps: Sequence[float], order: int) -> NDArray[Any]:
    if all(step == 1 for step in steps):
        return array
    factors = [max(1, round(n / step)) / n for n, step in zip(array.shape, steps, strict=True)]
    if order:
        array = ndimage.uniform_filter(array.astype(np.float32), [max(1, round(step)) for step in steps])
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)


def _fullest(labels: NDArray[np.uint8]) -> list[int]:
    """The slice of each axis with most of the labels."""
    mask = labels > 0
    if not mask.any():
        return [n // 2 for n in mask.shape]
    return [int(mask.sum(axis=tuple(i for i in range(3) if i != axis)).argmax()) for axis in range(3)]


def _sprite(volume: NDArray[np.uint8], kind: str) -> str:
    """Slices along Z side by side, rows of the picture along Y, as a data URL."""
    from PIL import Image

    nx, ny, nz = volume.shape[:3]
    rows = math.ceil(nz / _COLUMNS)
    picture = np.zeros((rows * ny, _COLUMNS * nx, *volume.shape[3:]), np.uint8)
    for z in range(nz):
        row, column = divmod(z, _COLUMNS)
        picture[row * ny : (row + 1) * ny, column * nx : (column + 1) * nx] = np.swapaxes(volume[:, :, z], 0, 1)
    buffer = io.BytesIO()
    options = {"quality": 80} if kind == "JPEG" else {"optimize": True}
    Image.fromarray(picture).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
