"""The difference of the spatial gradients of probability and target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.boundary_band import window_min
from medseg.losses.checks import Activation, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.fields import fields_of
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.reduce import mean_of_classes, ratio

__all__ = ["GradientLoss", "gradient_loss", "sobel"]


@full_precision
def gradient_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    spacing: Sequence[float] | None = None,
    sparsity: float = 0.01,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `GradientLoss`, which describes the arguments."""
    _, p, y, m = fields_of(logits, target, mask, activation=activation, ignore_index=ignore_index)
    # a gradient counts where all that it is made of is kept
    weight = m * window_min((m > 0).to(m.dtype), 1)
    cost = torch.zeros_like(p)
    for axis in range(p.ndim - 2):
        slope = sobel(p, axis, spacing)
        cost = cost + (slope - sobel(y, axis, spacing)).abs() + sparsity * slope.abs()
    values = ratio((cost * weight).flatten(2).sum(2), weight.flatten(2).sum(2)) / (p.ndim - 2)
    return mean_of_classes(
        values,
        (m.flatten(2).sum(2) > 0).expand_as(values),
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


def sobel(x: Tensor, axis: int, spacing: Sequence[float] | None = None) -> Tensor:
    """The Sobel derivative of `x` (B, K, ...) along a spatial axis, per unit of `spacing` (None: per voxel).

    The central difference along the axis, the binomial mean (1 2 1) / 4 along the others; the border replicates.
    """
    for other in range(x.ndim - 2):
        before, here, after = _neighbours(x, other + 2)
        if other == axis:
            x = (after - before) / (2 * (1.0 if spacing is None else float(spacing[axis])))
        else:
            x = (before + 2 * here + after) / 4
    return x


def _neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    size = x.shape[dim]
    before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, size - 1)], dim)
    after = torch.cat([x.narrow(dim, 1, size - 1), x.narrow(dim, size - 1, 1)], dim)
    return before, x, after


class GradientLoss(FunctionLoss):
    """The mean absolute difference of the spatial gradients of probability and target, by Sobel's filter.

    Formula: sum over axes of mean(abs(S p - S y) + sparsity abs(S p)) / axes, over the mask, per sample and class

    Range: 0 (right, but for the sparsity) without bound; about 1 / (2 spacing) where an edge is missed.

    Errors: Only edges count: a missed edge, a false one and a blurred one alike. A constant error is not seen.

    Choose it: As a term for sharp boundaries beside an overlap loss, never alone.

    Source: Dai et al. 2022 (arXiv:2201.06889), the gradient penalty of image matting, with ViTMatte's sparsity
        (arXiv:2305.15272); here in mm and along three axes.

    Args:
        spacing: Size of a voxel along each axis; derivatives are per mm then. None is per voxel. Under deep supervision
            the coarser heads keep it: a derivative there is too large by as much as their grid is coarser.
        sparsity: Weight of the mean absolute gradient of the probability, against edges in flat regions.
    """

    function = staticmethod(gradient_loss)

    def __init__(
        self,
        *,
        spacing: Sequence[float] | None = None,
        sparsity: float = 0.01,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())
