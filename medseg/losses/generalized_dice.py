"""The generalised Dice loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction, check_choice
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.reduce import class_factors, ratio, reduced
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["GeneralizedDiceLoss", "generalized_dice_loss", "generalized_dice_of"]


def generalized_dice_of(
    sums: RegionSums,
    *,
    smooth: float = 1e-5,
    absent: Absent = "skip",
    batch: bool = False,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """1 - (2 sum_k v_k I_k + s) / (sum_k v_k (P_k + Y_k) + s) from its sums; see `GeneralizedDiceLoss`."""
    check_choice("absent", absent, Absent)
    parts = [sums.sum("overlap"), sums.sum("size"), sums.target, sums.mass]
    overlap, size, volume, mass = [x.sum(0, keepdim=True) for x in parts] if batch else parts
    counts = class_factors(class_weight, include_background, volume)
    present = (volume > 0) & (counts > 0)
    # relative to the smallest class, so that neither 1 / Y^2 nor s decides by its size
    smallest = volume.masked_fill(~present, torch.inf).amin(1, keepdim=True)
    weight = (smallest / volume.masked_fill(~present, 1)) ** 2
    weight = weight.masked_fill(~present, 0 if absent == "skip" else 1) * counts
    weight = ratio(weight, weight.sum(1, keepdim=True))
    errors = (weight * (size + volume - 2 * overlap)).sum(1)
    whole = (weight * (size + volume)).sum(1)
    values = errors / (whole + smooth).clamp_min(torch.finfo(whole.dtype).tiny)
    counted = present.any(1) if absent == "skip" else mass[:, 0] > 0
    return reduced(values.masked_fill(~counted, 0), reduction)


def generalized_dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `GeneralizedDiceLoss`, which describes the arguments."""
    wanted = Wanted(linear=True)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    return generalized_dice_of(
        sums,
        smooth=smooth,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class GeneralizedDiceLoss(RegionSumsLoss):
    """One Dice over all classes of a sample, each class weighed by the inverse square of its volume.

    Formula: 1 - (2 sum_k v_k I_k + s) / (sum_k v_k (P_k + Y_k) + s), per sample; v_k = 1 / Y_k^2, normalised to
        sum 1 over the classes, so that s never swamps the weights

    Range: 0 (right) to 1 (nothing found).

    Errors: An error in a small class counts as its share of that class; large classes hardly count beside a
        small one. A class with few voxels makes the loss jump from patch to patch.

    Choose it: When classes differ in size by orders of magnitude and each patch holds all of them. Where small
        structures come and go, prefer `DiceCELoss` or `TverskyLoss`.

    Source: Sudre et al. 2017 (arXiv:1707.03237), eq. 3.

    Args:
        absent: "skip" gives an absent class the weight 0; "smooth" that of the smallest class that is there.
        class_weight: Factors of the v_k.
        reduction: "none" gives one value per sample (B,).
    """

    function = staticmethod(generalized_dice_loss)

    def __init__(
        self,
        *,
        smooth: float = 1e-5,
        absent: Absent = "skip",
        batch: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=True)

    def of(self, sums: RegionSums) -> Tensor:
        return generalized_dice_of(sums, **self.rest())
