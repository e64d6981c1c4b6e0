"""Where the windows of a volume lie, and how much each of their voxels counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["gaussian_profile", "outer", "pad_with_edge", "summed_profile", "window_starts"]


def window_starts(size: int, patch: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis: evenly spaced, the first at 0, the last ending at `size`.

    As few as give neighbours the overlap asked for, up to half a voxel of rounding. `size` must be at least
    `patch`.
    """
    step = max(patch * (1 - overlap), 1)
    n = math.ceil((size - patch) / step - 1e-9) + 1
    return [round(i * (size - patch) / max(n - 1, 1)) for i in range(n)]


def gaussian_profile(size: int) -> Tensor:
    """Weights along one axis of a window, (size,), float32: a Gaussian of sigma size / 8 about its centre.

    A window's weights are the product over the axes (Isensee et al. 2021, nnU-Net). No weight along an axis
    is below exp(-8), so that the product and its sums are exact enough in float32. There is no floor: along
    the volume's edges it would make a window's border, where it knows least, count as much as another's
    middle.
    """
    x = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.exp(-0.5 * (x / (size / 8)) ** 2).to(torch.float32)


def summed_profile(profile: Tensor, starts: Sequence[int], size: int) -> Tensor:
    """Sum of the profiles of all windows along one axis, (size,): windows are a grid, weights sum by axis."""
    total = torch.zeros(size, dtype=profile.dtype, device=profile.device)
    for start in starts:
        total[start : start + len(profile)] += profile
    return total


def outer(profiles: Sequence[Tensor]) -> Tensor:
    """The product of three profiles, (X, Y, Z)."""
    x, y, z = profiles
    return x[:, None, None] * y[:, None] * z


def pad_with_edge(volume: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, slice, slice]]:
    """The volume (C, X, Y, Z) grown on both sides to at least the patch, and where in it the volume lies. Repeating
    the edge adds neither a step in intensity (as a constant would) nor needs more voxels than there are (as
    mirroring would)."""
    inside = []
    for axis, wanted in enumerate(patch, start=1):
        size = volume.shape[axis]
        missing = max(wanted - size, 0)
        before = missing // 2
        inside.append(slice(before, before + size))
        if missing:
            index = torch.arange(-before, size + missing - before, device=volume.device).clamp(0, size - 1)
            volume = volume.index_select(axis, index)
    return volume, (inside[0], inside[1], inside[2])
