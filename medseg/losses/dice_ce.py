"""Dice with cross entropy: the default training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from medseg.losses.checks import Absent, Activation
from medseg.losses.cross_entropy import cross_entropy_of
from medseg.losses.functional_module import WeightedPartsLoss
from medseg.losses.overlap import dice_of
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["DiceCELoss", "dice_ce_loss"]


def dice_ce_parts(
    sums: RegionSums,
    *,
    smooth: float,
    squared: bool,
    absent: Absent,
    batch: bool,
    label_smoothing: float,
    include_background: bool,
    class_weight: Sequence[float] | Tensor | None,
) -> dict[str, Tensor]:
    """The terms "dice" and "ce" before their weights. The background is left out of the Dice term only."""
    dice = dice_of(
        sums,
        smooth=smooth,
        squared=squared,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
    )
    return {
        "dice": dice,
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
    """dice_weight * Dice + ce_weight * cross entropy, in one pass. See `DiceCELoss`."""
    wanted = Wanted(linear=not squared, squared=squared, ce=True, even=label_smoothing > 0)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    parts = dice_ce_parts(
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
    """Dice for the overlap of each class, cross entropy for a smooth start: the default.

    Formula: dice_weight Dice + ce_weight CE

    `forward` returns the total; `terms` returns the total with the terms "dice" and "ce".
    """

    function = staticmethod(dice_ce_loss)
    weights: ClassVar = {"dice": "dice_weight", "ce": "ce_weight"}

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
        class_weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=not self.squared, squared=self.squared, ce=True, even=self.label_smoothing > 0)

    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        return dice_ce_parts(sums, **self.rest())
