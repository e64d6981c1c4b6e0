"""Probabilities, target and mask of a whole volume, for the losses that need more than its sums."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medseg.losses.checks import Activation, activation_for, checked

__all__ = ["Fields", "fields_of", "one_hot", "wide"]


class Fields(NamedTuple):
    """float32 (float64 for float64 logits).

    z: the logits, (B, K, ...). p: probabilities. y: the target as probabilities, a constant. m: the mask, (B, 1, ...).
    """

    z: Tensor
    p: Tensor
    y: Tensor
    m: Tensor


def fields_of(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    *,
    activation: Activation | None,
    ignore_index: int | None,
) -> Fields:
    """The checked and converted arguments of a segmentation loss; see `region_sums` for their shapes."""
    logits, target, mask = checked(logits, target, mask)
    z = wide(logits)
    m = torch.ones_like(z[:, :1]) if mask is None else mask.to(z.dtype)
    if ignore_index is not None and target.shape[1] == 1:
        kept = target != ignore_index
        m = m * kept
        target = torch.where(kept, target, torch.zeros_like(target))
    y = target.to(z.dtype) if target.shape[1] == z.shape[1] else one_hot(target, z.shape[1], z.dtype)
    kind = activation_for(activation, z.shape[1])
    p = z if kind == "none" else z.softmax(1) if kind == "softmax" else z.sigmoid()
    return Fields(z, p, y, m)


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(B, K, ...) of index labels (B, 1, ...); a label outside of 0 ... K - 1 is no class."""
    index = torch.arange(classes, device=labels.device).view(1, -1, *[1] * (labels.ndim - 2))
    return (labels == index).to(dtype)


def wide(x: Tensor) -> Tensor:
    """`x` in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
