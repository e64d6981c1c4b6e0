"""Targets and masks on a coarser grid, without making labels up and without leaking what is masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

__all__ = ["resize_mask", "resize_target"]


def resize_target(target: Tensor, mask: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor | None]:
    """`target` and `mask` on a coarser grid.

    Index labels (integer dtype) and their mask are picked at the nearest voxel centre: no label is made up.
    Probabilities are averaged over the kept part of a coarse voxel's area, and its mask is the kept share of
    that area: what lies outside the mask has no influence.
    """
    if tuple(target.shape[2:]) == tuple(size):
        return target, mask
    if not target.is_floating_point():
        return _nearest(target, size), None if mask is None else _nearest(mask, size)
    if mask is None:
        return _area(target, size), None
    weight = mask.to(target.dtype)
    share = _area(weight, size)
    kept = torch.where(weight > 0, target, torch.zeros_like(target)) * weight
    return _area(kept, size) / share.masked_fill(share == 0, 1), share


def resize_mask(mask: Tensor, size: Sequence[int]) -> Tensor:
    """A mask (B, 1, ...) on a coarser grid: bool and integers at the nearest voxel centre, weights averaged."""
    if tuple(mask.shape[2:]) == tuple(size):
        return mask
    return _area(mask, size) if mask.is_floating_point() else _nearest(mask, size)


def _nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, new in enumerate(size, start=2):
        old = x.shape[axis]
        if new != old:
            index = ((torch.arange(new, device=x.device) + 0.5) * (old / new)).long().clamp_max(old - 1)
            x = x.index_select(axis, index)
    return x


def _area(x: Tensor, size: Sequence[int]) -> Tensor:
    return interpolate(x, size=tuple(size), mode="area")
