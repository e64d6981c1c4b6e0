"""The anatomy of the phantoms: an abdomen of ellipsoids and tubes, bent, painted on a fine grid.

Coordinates run from -1 to 1 across the field of view: u to the patient's right, v forward, w up. What is
painted later covers what was painted before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "Canvas", "paint_abdomen"]

CLASSES = {0: "background", 1: "liver", 2: "kidneys", 3: "aorta"}
_LIVER, _KIDNEY, _AORTA = 1, 2, 3
_BEND = 0.08
Box = tuple[slice, slice, slice]
Triple = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class _Contrast:
    """HU of what takes up contrast medium."""

    liver: float
    spleen: float
    cortex: float
    medulla: float
    aorta: float
    cava: float


_PHASES = (
    (0.25, _Contrast(liver=55, spleen=48, cortex=34, medulla=30, aorta=42, cava=40)),  # before contrast
    (0.35, _Contrast(liver=72, spleen=115, cortex=175, medulla=75, aorta=260, cava=65)),  # arterial
    (0.40, _Contrast(liver=108, spleen=120, cortex=165, medulla=145, aorta=150, cava=140)),  # portal venous
)


class Canvas:
    """A fine grid of HU and labels, and the bent coordinates of its points.

    Args:
        shape: number of points along u, v and w.
        rng: draws how the coordinates are bent.
    """

    def __init__(self, shape: Sequence[int], rng: np.random.Generator) -> None:
        self.hu = np.full(shape, -1000.0, np.float32)
        self.labels = np.zeros(shape, np.uint8)
        self.axes = [((2 * np.arange(n) + 1) / n - 1).astype(np.float32) for n in shape]
        self.points = _bent(self.axes, rng)

    def ellipsoid(self, centre: Sequence[float], radii: Triple, power: float = 2.0) -> tuple[Box, NDArray[np.float32]]:
        """The box around an ellipsoid and the level in it. A radius of infinity makes a cylinder."""
        box = self.box(centre, radii)
        return box, self.level(box, centre, radii, power)

    def level(self, box: Box, centre: Sequence[float], radii: Triple, power: float = 2.0) -> NDArray[np.float32]:
        """The level of an ellipsoid: 0 at its centre, 1 on its surface."""
        level = np.zeros(self.hu[box].shape, np.float32)
        for points, middle, radius in zip(self.points, centre, radii, strict=True):
            if np.isfinite(radius):
                level += np.abs((points[box] - np.float32(middle)) / np.float32(radius)) ** np.float32(power)
        return level

    def box(self, centre: Sequence[float], radii: Triple) -> Box:
        """The part of the grid in which an ellipsoid may lie, however it is bent."""
        u, v, w = (
            slice(*(int(end) for end in np.searchsorted(axis, (middle - radius - _BEND, middle + radius + _BEND))))
            for axis, middle, radius in zip(self.axes, centre, radii, strict=True)
        )
        return u, v, w

    def paint(self, box: Box, inside: NDArray[np.bool_], hu: float | NDArray[Any], label: int = 0) -> None:
        """Gives the points of the box that are inside their HU and label."""
        self.hu[box] = np.where(inside, np.float32(hu), self.hu[box])
        self.labels[box][inside] = label


def paint_abdomen(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paints one patient, with the sizes, places and contrast phase that `rng` draws."""
    phase = rng.choice(len(_PHASES), p=[share for share, _ in _PHASES])
    contrast = _PHASES[phase][1]
    height = rng.uniform(-0.15, 0.15)
    cavity = _paint_wall(canvas, rng)
    _paint_bowel(canvas, rng, cavity)
    _paint_liver(canvas, rng, cavity, contrast, height)
    _paint_left_side(canvas, rng, cavity, contrast, height)
    _paint_spine(canvas, rng)
    for side in (-1, 1):
        _paint_kidney(canvas, rng, contrast, side, height)
    _paint_vessels(canvas, rng, contrast)


def _paint_wall(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Skin, the fat rim, the muscle wall, the fat inside it; returns where the inside is."""
    fat, muscle = rng.uniform(0.05, 0.16), rng.uniform(0.05, 0.08)
    fat_hu, muscle_hu = rng.normal(-105, 6), rng.normal(52, 6)
    cavity = np.zeros(canvas.hu.shape, np.bool_)
    for depth, hu in ((0.0, 5.0), (0.025, fat_hu), (fat, muscle_hu), (fat + muscle, fat_hu + 15)):
        box, level = canvas.ellipsoid((0, 0, 0), (0.92 - depth, 0.9 - depth, np.inf), power=2.4)
        canvas.paint(box, level < 1, hu)
    cavity[box] = level < 1
    ribs = rng.uniform(0, 2 * np.pi)
    for angle in np.linspace(-0.4, np.pi + 0.4, 9):
        reach = 0.9 - fat - 0.5 * muscle
        centre = (reach * np.cos(angle), (reach - 0.02) * np.sin(angle), 0.55 * np.sin(ribs + 3 * angle))
        box, level = canvas.ellipsoid(centre, (0.07, 0.05, 0.3))
        canvas.paint(box, level < 1, 90 + 320 * np.clip(level, 0, 1))
    return cavity


def _paint_bowel(canvas: Canvas, rng: np.random.Generator, cavity: NDArray[np.bool_]) -> None:
    for _ in range(rng.integers(14, 21)):
        centre = (rng.uniform(-0.6, 0.6), rng.uniform(-0.15, 0.6), rng.uniform(-1.1, 0.2))
        radii = rng.uniform(0.1, 0.2, 3) * (1.0, 1.1, 1.6)
        box, level = canvas.ellipsoid(centre, radii)
        inside = (level < 1) & cavity[box]
        content = rng.choice([rng.uniform(5, 45), rng.uniform(60, 200), -850.0], p=[0.6, 0.15, 0.25])
        canvas.paint(box, inside, 45)
        canvas.paint(box, inside & (level < 0.6), content)


def _paint_liver(
    canvas: Canvas, rng: np.random.Generator, cavity: NDArray[np.bool_], contrast: _Contrast, height: float
) -> None:
    fatty = rng.choice([0, 30], p=[0.75, 0.25])  # darker
    hu = contrast.liver * rng.uniform(0.9, 1.1) - fatty
    size = rng.uniform(0.88, 1.12)
    lobes = (
        ((0.46, 0.05, 0.35 + height), (0.40 * size, 0.55 * size, 0.72 * size)),
        ((0.22, 0.27, 0.4 + height), (0.34 * size, 0.34 * size, 0.5 * size)),
        ((0.02, 0.42, 0.45 + height), (0.48 * size, 0.22 * size, 0.38 * size)),
    )
    for centre, radii in lobes:
        box, level = canvas.ellipsoid(_moved(centre, rng), radii)
        canvas.paint(box, (level < 1) & cavity[box], hu, _LIVER)
    vein = hu + 0.5 * (contrast.cava - hu) + rng.normal(0, 8)
    for _ in range(5):
        centre = (rng.uniform(0.2, 0.6), rng.uniform(-0.2, 0.35), 0.35 + height + rng.uniform(-0.3, 0.3))
        box, level = canvas.ellipsoid(centre, rng.permutation([0.035, 0.05, 0.25]))
        canvas.paint(box, (level < 1) & (canvas.labels[box] == _LIVER), vein, _LIVER)
    box, level = canvas.ellipsoid(_moved((0.28, 0.32, -0.12 + height), rng), (0.1, 0.13, 0.2))
    canvas.paint(box, (level < 1) & cavity[box], rng.uniform(0, 18))  # the gall bladder


def _paint_left_side(
    canvas: Canvas, rng: np.random.Generator, cavity: NDArray[np.bool_], contrast: _Contrast, height: float
) -> None:
    """Stomach and spleen: not labelled, of about the HU of what is."""
    box, level = canvas.ellipsoid(
        _moved((-0.38, 0.3, 0.4 + height), rng), rng.uniform(0.8, 1.15) * np.array((0.28, 0.3, 0.38))
    )
    inside = (level < 1) & cavity[box]
    canvas.paint(box, inside, 50)
    canvas.paint(box, inside & (level < 0.75), rng.uniform(5, 60))
    canvas.paint(box, inside & (level < 0.75) & (canvas.points[1][box] > rng.uniform(0.3, 0.5)), -900)  # air rises
    box, level = canvas.ellipsoid(
        _moved((-0.62, -0.18, 0.42 + height), rng), rng.uniform(0.8, 1.2) * np.array((0.17, 0.32, 0.42))
    )
    canvas.paint(box, (level < 1) & cavity[box], contrast.spleen * rng.uniform(0.9, 1.1))


def _paint_spine(canvas: Canvas, rng: np.random.Generator) -> None:
    muscle, marrow, shell = rng.normal(52, 5), rng.normal(170, 25), rng.normal(420, 50)
    for side in (-1, 1):
        for centre, radii in (((0.25, -0.66), (0.21, 0.15)), ((0.22, -0.42), (0.09, 0.1))):
            box, level = canvas.ellipsoid((side * centre[0], centre[1], 0), (*radii, np.inf))
            canvas.paint(box, level < 1, muscle)
    disc = np.cos(rng.uniform(5.5, 7.5) * canvas.points[2] + rng.uniform(0, 2 * np.pi)) > 0.75
    for centre, radii in (((0, -0.68), (0.26, 0.035)), ((0, -0.8), (0.035, 0.12))):  # the processes
        box, level = canvas.ellipsoid((*centre, 0), (*radii, np.inf))
        canvas.paint(box, (level < 1) & ~disc[box], 0.8 * shell)
    box, level = canvas.ellipsoid((0, -0.5, 0), (0.165, 0.16, np.inf), power=2.3)
    canvas.paint(box, level < 1, np.where(disc[box], 85, np.where(level > 0.75, shell, marrow)))
    box, level = canvas.ellipsoid((0, -0.7, 0), (0.07, 0.065, np.inf))
    canvas.paint(box, level < 1, 28)  # the canal


def _paint_kidney(canvas: Canvas, rng: np.random.Generator, contrast: _Contrast, side: int, height: float) -> None:
    u, v, w = _moved((0.45 * side, -0.36, -0.28 + height + 0.08 * -side), rng)
    size = rng.uniform(0.85, 1.15)
    box, level = canvas.ellipsoid((u, v, w), (0.155 * size, 0.19 * size, 0.45 * size))
    hilum = canvas.level(box, (u - 0.13 * side, v + 0.05, w), (0.09, 0.1, 0.17))
    inside = (level < 1) & (hilum > 1)
    canvas.paint(box, level < 1, -90)  # fat fills the hilum
    canvas.paint(box, inside, contrast.cortex * rng.uniform(0.9, 1.1), _KIDNEY)
    canvas.paint(box, inside & (level < 0.5), contrast.medulla * rng.uniform(0.9, 1.1), _KIDNEY)


def _paint_vessels(canvas: Canvas, rng: np.random.Generator, contrast: _Contrast) -> None:
    """The vena cava, not labelled, and the aorta: two tubes that swing."""
    for u, v, radius, hu, label in (
        (0.13, -0.25, rng.uniform(0.07, 0.1), contrast.cava, 0),
        (-0.08, -0.25, rng.uniform(0.065, 0.1), contrast.aorta, _AORTA),
    ):
        swing, phase = rng.uniform(0, 0.06), rng.uniform(0, 2 * np.pi)
        box, _ = canvas.ellipsoid((u, v, 0), (radius + swing, radius, np.inf))
        across = canvas.points[0][box] - np.float32(u) - np.float32(swing) * np.sin(2 * canvas.points[2][box] + phase)
        level = (across / radius) ** 2 + ((canvas.points[1][box] - np.float32(v)) / radius) ** 2
        canvas.paint(box, level < 1, hu * rng.uniform(0.88, 1.12), label)


def _moved(centre: Sequence[float], rng: np.random.Generator) -> tuple[float, float, float]:
    u, v, w = np.asarray(centre) + rng.uniform(-0.04, 0.04, 3)
    return float(u), float(v), float(w)


def _bent(axes: Sequence[NDArray[np.float32]], rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """The coordinates of all points, each moved by at most `_BEND` along each axis by smooth waves."""
    mesh = np.meshgrid(*axes, indexing="ij", copy=False)
    points = []
    for coordinate in mesh:
        moved = coordinate.copy()
        for strength in (0.6, 0.4):
            waves = [
                np.sin(np.float32(rng.uniform(1, 7)) * axis + np.float32(rng.uniform(0, 2 * np.pi))) for axis in axes
            ]
            u, v, w = np.ix_(*waves)
            moved += np.float32(strength * _BEND) * (u * v * w)
        points.append(moved)
    return points
