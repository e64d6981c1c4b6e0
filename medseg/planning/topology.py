"""Patch size, strides and kernels for volumes of a shape and spacing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from medseg.plan import Triple

__all__ = ["Topology", "patch_and_topology"]

# A map of fewer voxels along an axis than this has nothing left to halve (nnU-Net's rule).
_SMALLEST_EDGE = 4
_LARGEST_EDGE = 4096  # of a patch, in a Plan


class Topology(NamedTuple):
    """A patch and what a network does with it, stage by stage."""

    patch: Triple
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]

    @property
    def voxels(self) -> int:
        """Of a patch."""
        return int(np.prod(self.patch))


def patch_and_topology(
    shape: Sequence[int], spacing: Sequence[float], fits: float | Callable[[Topology], bool], max_stages: int
) -> Topology:
    """Patch size, strides and kernels for volumes of `shape` voxels of `spacing` mm.

    The patch is the volume, and while that does not fit (a number: has more voxels) the axis that covers most of the
    volume gives way. An axis is halved at a stage while it keeps four voxels and is not yet twice as coarse as the
    finest that is still to be halved; a coarser axis waits, and convolutions do not run along it until then (Isensee et
    al. 2021, supplement: anisotropic data).
    """
    whole = np.clip(np.asarray(shape), 1, _LARGEST_EDGE)
    patch = whole.copy()
    while True:
        strides, kernels = _strides_and_kernels(patch, spacing, max_stages)
        divisor = np.prod(np.array(strides), axis=0)
        rounded = np.maximum(np.ceil(patch / divisor).astype(int), 1) * divisor
        found = Topology(_triple(rounded), strides, kernels)
        if (fits(found) if callable(fits) else found.voxels <= fits) or np.all(rounded <= divisor):
            return found
        shrinkable = rounded > divisor
        axis = int(np.argmax(np.where(shrinkable, rounded / whole, -1.0)))
        patch = rounded.copy()
        patch[axis] -= divisor[axis]


def _strides_and_kernels(
    patch: np.ndarray, spacing: Sequence[float], max_stages: int
) -> tuple[tuple[Triple, ...], tuple[Triple, ...]]:
    size, mm = patch.astype(float), np.asarray(spacing, float)
    wide = _as_fine(size, mm)  # the axes that convolutions run along: once begun they go on
    strides: list[Triple] = [(1, 1, 1)]
    kernels: list[Triple] = [_triple(np.where(wide, 3, 1))]
    while len(strides) < max_stages and (size >= 2 * _SMALLEST_EDGE).any():
        factor = np.where(_as_fine(size, mm) & (size >= 2 * _SMALLEST_EDGE), 2, 1)
        size, mm = size / factor, mm * factor
        wide = wide | _as_fine(size, mm)
        strides.append(_triple(factor))
        kernels.append(_triple(np.where(wide, 3, 1)))
    if len(strides) < 2:  # a volume of a few voxels: one further stage that halves nothing
        strides.append((1, 1, 1))
        kernels.append((3, 3, 3))
    return tuple(strides), tuple(kernels)


def _as_fine(size: np.ndarray, mm: np.ndarray) -> np.ndarray:
    """Which axes are less than twice as coarse as the finest that can still be halved. An axis of a few voxels is
    no measure: it stays fine while the others become coarse."""
    for enough in (size >= 2 * _SMALLEST_EDGE, size > 1):
        if enough.any():
            return mm < 2 * mm[enough].min()
    return mm < 2 * mm.min()


def _triple(values: np.ndarray) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])
