"""The band around boundaries, from the target alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, max_pool2d, max_pool3d

__all__ = ["boundary_band", "window_max", "window_min"]


def boundary_band(target: Tensor, mask: Tensor, width: int = 2) -> Tensor:
    """Where the target is not the same over the kept voxels of the window of 2 `width` + 1 voxels per axis.

    Args:
        target: (B, C, ...) probabilities or one-hot labels; soft edges are in the band too.
        mask: (B, 1, ...) weights; voxels of weight 0 have no influence and are not in the band.
        width: How far the band reaches to either side of a boundary, in voxels.

    Returns:
        (B, 1, ...) of the dtype of `target`, 0 or 1.
    """
    if width < 1:
        raise ValueError(f"width must be 1 voxel or more, not {width}")
    kept = mask > 0
    high = window_max(target.masked_fill(~kept, -torch.inf), width)
    low = window_min(target.masked_fill(~kept, torch.inf), width)
    return ((high > low).any(1, keepdim=True) & kept).to(target.dtype)


def window_max(x: Tensor, width: int) -> Tensor:
    """The largest value in the window of 2 `width` + 1 voxels per axis; outside the volume is nothing."""
    pool = {3: max_pool1d, 4: max_pool2d, 5: max_pool3d}[x.ndim]
    for axis in range(x.ndim - 2):
        size, padding = [1] * (x.ndim - 2), [0] * (x.ndim - 2)
        size[axis], padding[axis] = 2 * width + 1, width
        x = pool(x, size, stride=1, padding=padding)
    return x


def window_min(x: Tensor, width: int) -> Tensor:
    """The smallest value in that window."""
    return -window_max(-x, width)
