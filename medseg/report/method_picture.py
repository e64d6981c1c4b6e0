"""What a method does to the data in one step, as a picture: views, mixes, pseudo-labels, masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from medseg.files import writing
from medseg.report.overlay import class_colours

__all__ = ["method_picture", "save_method_picture"]

_SAMPLES = 3
_INCHES = 1.9


def method_picture(pictures: Mapping[str, NDArray[Any]], title: str) -> Figure:
    """A column for each picture and a row for each sample (at most 3), in the plane with most of the first label.

    Args:
        pictures: by name, each (B, C, D, H, W): floating point is an image, of which the first channel is shown, bool a
            mask, integers class indices.
        title: a line above.
    """
    rows = min(_SAMPLES, max(len(array) for array in pictures.values()))
    figure = Figure(figsize=(_INCHES * len(pictures), _INCHES * rows + 0.6), layout="constrained")
    axes = np.array(figure.subplots(rows, len(pictures), squeeze=False))
    for row in range(rows):
        shown = {name: array[row, 0] for name, array in pictures.items() if row < len(array)}
        plane = _plane(shown)
        for axis, name in zip(axes[row], pictures, strict=True):
            axis.set_axis_off()
            if row == 0:
                axis.set_title(name, fontsize=8)
            if name in shown:
                _show(axis, shown[name][:, :, plane])
    figure.suptitle(title, fontsize=9)
    return figure


def save_method_picture(path: str | os.PathLike[str], pictures: Mapping[str, NDArray[Any]], title: str) -> None:
    """Writes `method_picture` as PNG, whole or not at all."""
    with writing(path) as temporary:
        method_picture(pictures, title).savefig(temporary, format="png", dpi=150)


def _plane(shown: Mapping[str, NDArray[Any]]) -> int:
    """Along the last axis: the plane with most foreground of any label, else the middle."""
    labels = [array > 0 for array in shown.values() if array.dtype.kind in "iu"]
    found = sum(label.sum((0, 1)) for label in labels) if labels else np.zeros(1)
    depth = next(iter(shown.values())).shape[2]
    return int(np.argmax(found)) if np.any(found) else depth // 2


def _show(axis: Axes, plane: NDArray[Any]) -> None:
    """Lower left is the first voxel, the first axis goes to the right."""
    if plane.dtype.kind == "f":
        low, high = np.percentile(plane, (0.5, 99.5))
        axis.imshow(plane.T, origin="lower", cmap="gray", vmin=low, vmax=max(high, low + 1e-6))
    elif plane.dtype.kind == "b":
        axis.imshow(plane.T, origin="lower", cmap="gray", vmin=0, vmax=1)
    else:
        colours = np.array([(0.0, 0.0, 0.0), *class_colours(max(int(plane.max()), 1))])
        axis.imshow(colours[plane.T], origin="lower")
