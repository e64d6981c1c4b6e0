"""The Dice loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.region_sums import region_sums
from medseg.losses.tversky import tversky_of
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["DiceLoss", "dice_loss", "dice_of"]


def dice_of(sums: RegionSums, *, smooth: float = 1e-5, **options: Any) -> Tensor:
    """1 - (2 I + s) / (P + Y + s) from its sums: Tversky with alpha = beta = 0.5 and s / 2, and its other options."""
    return tversky_of(sums, smooth=smooth / 2, **options)


def dice_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    smooth: float = 1e-5,
    squared: bool = False,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `DiceLoss`, which describes the arguments."""
    wanted = Wanted(linear=not squared, squared=squared)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    return dice_of(
        sums,
        smooth=smooth,
        squared=squared,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class DiceLoss(RegionSumsLoss):
    """One minus the Dice overlap of each class, summed over D, H and W.

    Formula: 1 - (2 I + s) / (P + Y + s), per sample and class; I = sum(p y m), P = sum(p^k m), Y = sum(y^k m)
        over D, H, W; k = 1, or 2 with `squared`

    Range: 0 (right) to 1 (nothing found).

    Errors: False positives and false negatives count the same, in proportion to the size of the structure.

    Choose it: When classes differ much in size and overlap is what is judged. Alone it starts slowly and its
        probabilities are poorly calibrated: `DiceCELoss` is the safer default.

    Source: Milletari et al. 2016 (V-Net, arXiv:1606.04797), eq. 3, is `squared`, there with s = 0. The volumetric
        masked Dice of semi-supervised methods is squared=True, smooth=1, absent="smooth".

    Args:
        squared: Squares in the denominator (V-Net): a softer pull on voxels that are nearly right.
    """

    function = staticmethod(dice_loss)

    squared: bool

    def __init__(
        self,
        *,
        smooth: float = 1e-5,
        squared: bool = False,
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
        return Wanted(linear=not self.squared, squared=self.squared)

    def of(self, sums: RegionSums) -> Tensor:
        return dice_of(sums, **self.rest())
