"""A picture of one case: three planes, the prediction filled and the reference outlined."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray
from scipy import ndimage

from medseg.files import writing
from medseg.report.case_view import COLOURS

__all__ = ["class_colours", "overlay_picture", "save_overlay"]

Image = NDArray[Any]
Colour = tuple[float, float, float]

_OPACITY = 0.4
_PERCENTILES = (0.5, 99.5)  # grey window: a few bright vessels or metal must not darken the rest
_WIDTH_INCHES, _MOST_HEIGHT_INCHES = 12.0, 9.0


def overlay_picture(
    image: Image,
    prediction: Image,
    reference: Image | None,
    spacing: Sequence[float],
    classes: Mapping[int, str],
    title: str = "",
) -> Figure:
    """Three planes through the centre of mass of the reference's classes, else of the prediction's, else the
    middle.

    Each plane is cut across one array axis and drawn in its true proportions, the first of its two axes to
    the right and the second upwards.

    Args:
        image: grey values (X, Y, Z), one channel.
        prediction: index labels (X, Y, Z), drawn as translucent areas.
        reference: index labels (X, Y, Z), drawn as outlines, or None.
        spacing: mm along X, Y, Z.
        classes: label value -> class name, without the background; the legend lists them.
        title: a line above the planes.

    Returns:
        A figure outside pyplot: it needs no closing, and no display.

    Raises:
        ValueError: an array is not 3-dimensional or shapes differ.
    """
    _validate(image, prediction, reference, spacing)
    colours = _colours(classes)
    centre = _centre(prediction, reference, list(classes))
    size = [n * mm for n, mm in zip(image.shape, spacing, strict=True)]
    planes = [(1, 2), (0, 2), (0, 1)]
    widths = [size[across] for across, _ in planes]
    height = _WIDTH_INCHES * max(size[up] for _, up in planes) / sum(widths) + 1
    figure = Figure(figsize=(_WIDTH_INCHES, min(height, _MOST_HEIGHT_INCHES)), dpi=100, layout="constrained")
    low, high = np.percentile(image, _PERCENTILES)
    all_axes = figure.subplots(1, 3, width_ratios=widths)
    for axis, (across, up), axes in zip(range(3), planes, all_axes, strict=True):
        axes.imshow(
            image.take(centre[axis], axis).T,
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-6),
            origin="lower",
            aspect=spacing[up] / spacing[across],
            interpolation="nearest",
        )
        _fill(axes, prediction.take(centre[axis], axis), colours)
        if reference is not None:
            _outline(axes, reference.take(centre[axis], axis), colours)
        axes.set_title(f"{'XYZ'[axis]} = {centre[axis]}", fontsize=10)
        axes.set_axis_off()
    _legend(figure, classes, colours, reference is not None)
    if title:
        figure.suptitle(title, fontsize=12, parse_math=False)
    return figure


def save_overlay(
    path: str | os.PathLike[str],
    image: Image,
    prediction: Image,
    reference: Image | None,
    spacing: Sequence[float],
    classes: Mapping[int, str],
    title: str = "",
) -> None:
    """Writes `overlay_picture` to `path` as PNG, whole or not at all.

    Raises:
        InputError: the file cannot be written.
        ValueError: as `overlay_picture`.
    """
    figure = overlay_picture(image, prediction, reference, spacing, classes, title)
    with writing(path) as temporary:
        figure.savefig(temporary, format="png")


def class_colours(count: int) -> list[Colour]:
    """Colours (red, green, blue in [0, 1]) of `count` foreground classes."""
    if count <= len(COLOURS):
        return [(red / 255, green / 255, blue / 255) for red, green, blue in COLOURS[:count]]
    hues = matplotlib.colormaps["hsv"](np.linspace(0, 1, count, endpoint=False))
    return [(float(r), float(g), float(b)) for r, g, b, _ in hues]


def _colours(classes: Mapping[int, str]) -> dict[int, Colour]:
    return dict(zip(classes, class_colours(len(classes)), strict=True))


def _centre(prediction: Image, reference: Image | None, labels: Sequence[int]) -> tuple[int, ...]:
    for array in (reference, prediction):
        if array is not None and (mask := np.isin(array, labels)).any():
            return tuple(round(float(at)) for at in ndimage.center_of_mass(mask))
    return tuple(n // 2 for n in prediction.shape)


def _fill(axes: Axes, plane: Image, colours: Mapping[int, Colour]) -> None:
    rgba = np.zeros((*plane.T.shape, 4))
    for label, colour in colours.items():
        rgba[label == plane.T] = (*colour, _OPACITY)
    axes.imshow(rgba, origin="lower", aspect=axes.get_aspect(), interpolation="nearest")


def _outline(axes: Axes, plane: Image, colours: Mapping[int, Colour]) -> None:
    # A frame of zeros closes outlines at the border and makes a plane of one voxel wide enough to contour.
    framed = np.pad(plane.T, 1)
    rows, columns = (np.arange(-1, n + 1) for n in plane.T.shape)
    for label, colour in colours.items():
        mask = framed == label
        if mask.any():
            axes.contour(columns, rows, mask.astype(float), levels=[0.5], colors=[colour], linewidths=1.5)
    axes.set_xlim(-0.5, plane.shape[0] - 0.5)
    axes.set_ylim(-0.5, plane.shape[1] - 0.5)


def _legend(figure: Figure, classes: Mapping[int, str], colours: Mapping[int, Colour], has_reference: bool) -> None:
    handles: list[Patch | Line2D] = [Patch(color=colours[label], label=name) for label, name in classes.items()]
    handles.append(Patch(color="0.4", alpha=_OPACITY, label="filled: prediction"))
    if has_reference:
        handles.append(Line2D([], [], color="0.4", label="outline: reference"))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a class name is not TeX


def _validate(image: Image, prediction: Image, reference: Image | None, spacing: Sequence[float]) -> None:
    shapes = [array.shape for array in (image, prediction, reference) if array is not None]
    if image.ndim != 3 or len(set(shapes)) != 1 or not image.size:
        raise ValueError(f"image, prediction and reference must have one shape (X, Y, Z), found {shapes}")
    if len(spacing) != 3 or min(spacing) <= 0:
        raise ValueError(f"spacing must be three positive numbers of mm, found {tuple(spacing)}")
