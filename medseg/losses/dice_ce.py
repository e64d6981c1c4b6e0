"""Dice with cross entropy: the default training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medseg.losses.checks import Absent, Activation
from medseg.losses.class_weights import ClassWeight
from medseg.losses.cross_entropy import cross_entropy_of
from medseg.losses.dice import dice_of
from medseg.losses.functional_module import WeightedPartsLoss
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["DiceCELoss", "dice_ce_loss"]


def _parts(
    sums: RegionSums, *, label_smoothing: float, class_weight: Sequence[float] | Tensor | None, **dice: Any
) -> dict[str, Tensor]:
    """The terms "dice" and "ce" before their weights."""
    return {
        "dice": dice_of(sums, class_weight=class_weight, **dice),
        "ce": cross_entropy_of(sums, label_smoothing=label_smoothing, class_weight=class_weight),
    }


def dice_ce_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    dice_weight: float = 0.5,
    ce_weight: float = 0.5,
    smooth: float = 1e-5,
    squared: bool = False,
    absent: Absent = "skip",
    batch: bool = False,
    label_smoothing: float = 0.0,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `DiceCELoss`, which describes the arguments."""
    wanted = Wanted(linear=not squared, squared=squared, ce=True, even=label_smoothing > 0)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    parts = _parts(
        sums,
        smooth=smooth,
        squared=squared,
        absent=absent,
        batch=batch,
        label_smoothing=label_smoothing,
        include_background=include_background,
        class_weight=class_weight,
    )
    return dice_weight * parts["dice"] + ce_weight * parts["ce"]


class DiceCELoss(WeightedPartsLoss):
    """Dice for the overlap of each class with cross entropy for a steady start: the default.

    Formula: dice_weight Dice + ce_weight CE; see `DiceLoss` and `CrossEntropyLoss`

    Range: 0 (right) without bound; the Dice part stays below dice_weight.

    Errors: False positives and false negatives alike, small structures through Dice, every voxel through CE.

    Choose it: First. Leave it only for a reason that the choosing guide names.

    Source: Isensee et al. 2021 (nnU-Net), there with weights 1 and 1.

    Args:
        dice_weight: Weight of the term "dice".
        ce_weight: Weight of the term "ce".
        squared: Squares in the denominator of Dice.
        label_smoothing: The share of the target of the cross entropy that is spread evenly over the classes.
        include_background: False leaves class 0 out of Dice; the cross entropy always has all classes.
        class_weight: (K,) weights of the classes in both terms.
    """

    function = staticmethod(dice_ce_loss)

    dice_weight: float
    ce_weight: float
    squared: bool
    label_smoothing: float

    def __init__(
        self,
        *,
        dice_weight: float = 0.5,
        ce_weight: float = 0.5,
        smooth: float = 1e-5,
        squared: bool = False,
        absent: Absent = "skip",
        batch: bool = False,
        label_smoothing: float = 0.0,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        squared = self.squared
        return Wanted(linear=not squared, squared=squared, ce=True, even=self.label_smoothing > 0)

    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        return _parts(sums, **self.rest(without=("dice_weight", "ce_weight")))

    def weights(self) -> dict[str, float]:
        return {"dice": self.dice_weight, "ce": self.ce_weight}
