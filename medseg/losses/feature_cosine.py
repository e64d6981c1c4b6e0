"""How alike two feature maps are in direction."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from medseg.losses.checks import Reduction, check_choice, check_logits, plain
from medseg.losses.fields import wide
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.reduce import ratio, reduced
from medseg.losses.resize import resize_mask

__all__ = ["Along", "FeatureCosineLoss", "feature_cosine_loss"]

Along = Literal["channels", "voxels"]


@full_precision
def feature_cosine_loss(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
    *,
    along: Along = "channels",
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Tensor:
    """The function of `FeatureCosineLoss`, which describes the arguments."""
    check_choice("along", along, Along)
    a, b = plain(a), plain(b)
    check_logits(a, "a")
    if a.shape != b.shape:
        raise ValueError(f"features of shapes {tuple(a.shape)} and {tuple(b.shape)} must be alike")
    x, y = wide(a).flatten(2), wide(b).flatten(2)
    m = _weights(mask, a).to(x.dtype)
    voxels = m.sum(2)[:, 0]
    if along == "channels":
        values = ((1 - _cosine(x, y, 1, eps)) * m[:, 0]).sum(1)
        return reduced(ratio(values, voxels), reduction)
    root = m.sqrt()
    values = (1 - _cosine(x * root, y * root, 2, eps)).mean(1) * (voxels > 0)
    return reduced(values, reduction)


def _weights(mask: Tensor | None, features: Tensor) -> Tensor:
    """The mask (B, 1, n) on the grid of the features."""
    if mask is None:
        return torch.ones_like(features[:, :1]).flatten(2)
    mask = plain(mask).detach()
    if mask.ndim != features.ndim or mask.shape[:2] != (features.shape[0], 1):
        raise ValueError(f"mask of shape {tuple(mask.shape)} must be (B, 1, ...) with B = {features.shape[0]}")
    return resize_mask(mask, features.shape[2:]).flatten(2)


def _cosine(x: Tensor, y: Tensor, dim: int, eps: float) -> Tensor:
    """x . y / (|x| |y|), the norms not below `eps`: 0, with a finite gradient, for a vector of zeros."""
    square_x, square_y = (x * x).sum(dim), (y * y).sum(dim)
    return (x * y).sum(dim) / (square_x.clamp_min(eps**2).sqrt() * square_y.clamp_min(eps**2).sqrt())


class FeatureCosineLoss(FunctionLoss):
    """One minus the cosine between two feature maps, over the kept voxels.

    Formula: sum(m (1 - cos(a, b))) / sum(m), the cosine over the channels of each voxel; or with along="voxels" the
        mean over channels of 1 - cos(a, b), the cosine over the kept voxels of each channel

    Range: 0 (same direction) to 2 (opposite); 1 where a vector is zero; 0 for an empty mask.

    Errors: The length of the vectors does not count.

    Choose it: To make an image and its intensity-remapped twin look alike to the network where the label is known or
        trusted.

    Source: The consistency term of semi-supervised methods; SimSiam (arXiv:2011.10566), eq. 1, without its stop.

    Args:
        along: "channels" compares the voxels' vectors, "voxels" the channels' maps.
        eps: Norms are not taken below it.
        reduction: "mean" over samples; "sum"; "none" gives (B,).
    """

    function = staticmethod(feature_cosine_loss)

    def __init__(self, *, along: Along = "channels", eps: float = 1e-8, reduction: Reduction = "mean") -> None:
        check_choice("along", along, Along)
        super().__init__(locals())

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of features `a` and `b` (B, C, d, h, w); `mask` (B, 1, D, H, W) is brought to their grid."""
        return feature_cosine_loss(a, b, mask, **self.arguments())
