"""The one pass over a volume from which every overlap, cross entropy and focal loss is derived."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.blockwise import Blockwise
from medseg.losses.checks import Activation, activation_for, checked
from medseg.losses.plain_sums import plain_sums
from medseg.losses.wanted import Reading, RegionSums, Wanted

__all__ = ["region_sums"]


def region_sums(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    wanted: Wanted,
    *,
    activation: Activation | None = None,
    ignore_index: int | None = None,
) -> RegionSums:
    """The sums that `wanted` names, accumulated in float32 (float64 for float64), whatever autocast says.

    Args:
        logits: (B, K, D, H, W) or (B, K, H, W).
        target: index labels (B, 1, ...) of an integer dtype or probabilities (B, K, ...); a constant.
        mask: (B, 1, ...), bool or non-negative weights; None keeps every voxel.
        wanted: which sums to find.
        activation: None is softmax for K > 1, sigmoid for K = 1; "none": `logits` are probabilities already.
        ignore_index: voxels of this label are masked out. It has no meaning for probabilities of K > 1.
    """
    logits, target, mask = checked(logits, target, mask)
    classes = logits.shape[1]
    activation = activation_for(activation, classes)
    how = Reading(activation, wanted, ignore_index, binary=activation == "sigmoid" or classes == 1)
    arguments = (logits.flatten(2), target.flatten(2), None if mask is None else mask.flatten(2), how)
    with torch.autocast(logits.device.type, enabled=False):
        whole = activation == "none" or torch.compiler.is_compiling()
        sums, mass, volume, volume2 = (plain_sums if whole else Blockwise.apply)(*arguments)
    found = dict(zip(wanted.keys(how.binary), sums, strict=True))
    return RegionSums(how.binary, arguments[0].shape[2], mass, volume, volume2, found)
