"""The Lovasz extension of the Jaccard index."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction, activation_for, check_choice
from medseg.losses.class_weights import ClassWeight
from medseg.losses.fields import fields_of
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.reduce import mean_of_classes

__all__ = ["LovaszLoss", "lovasz_loss"]


@full_precision
def lovasz_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    per_image: bool = True,
    absent: Absent = "skip",
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `LovaszLoss`, which describes the arguments."""
    check_choice("absent", absent, Absent)
    z, p, y, m = fields_of(logits, target, mask, activation=activation, ignore_index=ignore_index)
    hinge = activation_for(activation, z.shape[1]) == "sigmoid"
    errors = 1 - z * (2 * y - 1) if hinge else (y - p).abs()
    errors, y, m = errors.flatten(2), y.flatten(2), m.flatten(2)
    if not per_image:  # (1, K, B N)
        errors, y, m = (x.transpose(0, 1).flatten(1).unsqueeze(0) for x in (errors, y, m))
    values = (errors.clamp_min(0) * _slopes(errors.detach(), y, m)).sum(2)
    present = (y * m).sum(2) > 0
    return mean_of_classes(
        values,
        present if absent == "skip" else (m.sum(2) > 0).expand_as(values),
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


@torch.no_grad()
def _slopes(errors: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """How much the Jaccard loss grows as each voxel joins the wrong ones, the largest error first. (B, K, N).

    With G the target's volume, F and U = G + background of the voxels so far, a step is f / U_i +
    (G - F_{i-1}) b / (U_{i-1} U_i): no difference of two numbers near 1. Voxels outside the mask have slope 0.
    """
    # last, and equal errors in the order of their voxels: what is masked must not move what is not
    order = errors.masked_fill(m == 0, -torch.inf).argsort(dim=2, descending=True, stable=True)
    sorted_m = m.expand_as(y).gather(2, order)
    f = y.gather(2, order) * sorted_m
    b = sorted_m - f
    total = f.sum(2, keepdim=True)
    union = total + b.cumsum(2)
    before = union - b
    left = total - f.cumsum(2) + f
    tiny = torch.finfo(y.dtype).tiny
    steps = f / union.clamp_min(tiny) + torch.where(
        before > 0, left * b / (before * union).clamp_min(tiny), (union > 0).to(y.dtype)
    )
    return torch.zeros_like(steps).scatter_(2, order, steps)


class LovaszLoss(FunctionLoss):
    """A convex surrogate of the Jaccard loss itself, by sorting the voxels' errors.

    Formula: sum_i e_i (J(e_1 ... e_i) - J(e_1 ... e_{i-1})), errors in descending order, J the Jaccard loss of
        calling those voxels wrong, per sample and class; e = abs(y - p), or with sigmoid the hinge
        max(0, 1 - z (2 y - 1))

    Range: 0 (right) to 1; the hinge without bound.

    Errors: An error counts by what it takes from the Jaccard index: false positives and negatives alike, in
        proportion to the size of the structure.

    Choose it: For the last points of IoU: as a term beside `CrossEntropyLoss`, or to fine-tune. It sorts every
        class and is the slowest of the family.

    Source: Berman et al. 2018 (arXiv:1705.08790), eqs. 8, 9 and 11.

    Args:
        per_image: False ranks the voxels of the whole batch together; of several processes each those of its own.
        absent: "skip" leaves absent classes out; "smooth" counts their largest false positive.
    """

    function = staticmethod(lovasz_loss)

    def __init__(
        self,
        *,
        per_image: bool = True,
        absent: Absent = "skip",
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())
