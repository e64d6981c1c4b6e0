"""The one pass over a volume from which every overlap, cross entropy and focal loss is derived."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.losses.checks import Activation, activation_for, check_logits, check_mask, check_target, plain

__all__ = ["RegionSums", "Wanted", "region_sums"]


@dataclass(frozen=True)
class Wanted:
    """Which sums a loss needs. `a | b` is what two losses need together.

    overlap: intersections and sizes; squared: sizes of squares too; ce: cross entropy; even: the cross
    entropy against the uniform distribution, for label smoothing; focal: the exponents gamma of focal sums.
    """

    overlap: bool = False
    squared: bool = False
    ce: bool = False
    even: bool = False
    focal: tuple[float, ...] = ()

    def __or__(self, other: Wanted) -> Wanted:
        return Wanted(
            self.overlap or other.overlap,
            self.squared or other.squared,
            self.ce or other.ce,
            self.even or other.even,
            tuple(sorted({*self.focal, *other.focal})),
        )


@dataclass(frozen=True)
class RegionSums:
    """Sums over the voxels of each sample; p probability, y target, m mask. All are (B, K) unless said.

    Where the classes are binary channels (sigmoid), a cross entropy sum has a part of the voxels with the
    class (`on`, y) and one of those without (`off`, 1 - y); with softmax there is no `off`.
    """

    binary: bool
    voxels: int  # of one sample, kept or not
    mass: Tensor  # (B, 1) sum m
    target: Tensor  # sum m y
    target2: Tensor  # sum m y^2
    overlap: Tensor | None = None  # sum m y p
    size: Tensor | None = None  # sum m p
    size2: Tensor | None = None  # sum m p^2
    ce_on: Tensor | None = None  # sum m y (-log p)
    ce_off: Tensor | None = None  # sum m (1 - y) (-log(1 - p))
    even_on: Tensor | None = None  # sum m (-log p)
    even_off: Tensor | None = None  # sum m (-log(1 - p))
    focal_on: dict[float, Tensor] = field(default_factory=dict)  # sum m y (1 - p)^gamma (-log p)
    focal_off: dict[float, Tensor] = field(default_factory=dict)  # sum m (1 - y) p^gamma (-log(1 - p))


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
    logits, target = plain(logits), plain(target)
    mask = None if mask is None else plain(mask)
    check_logits(logits)
    check_target(logits, target)
    check_mask(mask, logits)
    activation = activation_for(activation, logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        return _sums(logits, target.detach(), mask, wanted, activation, ignore_index)


def _sums(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None,
    wanted: Wanted,
    activation: Activation,
    ignore_index: int | None,
) -> RegionSums:
    classes = logits.shape[1]
    z = logits.flatten(2).to(torch.promote_types(logits.dtype, torch.float32))
    t = target.flatten(2)
    m = torch.ones_like(z[:, :1]) if mask is None else mask.flatten(2).to(z.dtype)
    if ignore_index is not None and t.shape[1] == 1:
        ignored = t == ignore_index
        m = m.masked_fill(ignored, 0)
        t = t.masked_fill(ignored, 0)
    hard = t.shape[1] == 1 and classes > 1
    y = torch.zeros_like(z).scatter_(1, t.long(), 1) if hard else t.to(z.dtype)
    binary = activation == "sigmoid" or classes == 1
    log_p, log_q = _logs(z, activation)
    p = log_p.exp() if activation != "none" else z

    def total(values: Tensor) -> Tensor:
        return (values * m).sum(2)

    found: dict[str, Tensor] = {}
    if wanted.overlap:
        found["overlap"] = total(y * p)
        found["size"] = total(p)
    if wanted.squared:
        found["size2"] = total(p * p)
    if wanted.ce:
        found["ce_on"] = total(-y * log_p)
    if wanted.ce and binary:
        found["ce_off"] = total((y - 1) * log_q)
    if wanted.even:
        found["even_on"] = total(-log_p)
    if wanted.even and binary:
        found["even_off"] = total(-log_q)
    on = {g: total(-y * (1 - p).clamp_min(0) ** g * log_p) for g in wanted.focal}
    off = {g: total((y - 1) * p**g * log_q) for g in wanted.focal} if binary else {}
    return RegionSums(
        binary, z.shape[2], m.sum(2), total(y), total(y * y), **found, focal_on=on, focal_off=off
    )


def _logs(z: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """log p and log(1 - p)."""
    if activation == "softmax":
        log_p = z.log_softmax(1)
        return log_p, log_p
    if activation == "sigmoid":
        return F.logsigmoid(z), F.logsigmoid(-z)
    tiny = torch.finfo(z.dtype).tiny
    return z.clamp_min(tiny).log(), (1 - z).clamp_min(tiny).log()
