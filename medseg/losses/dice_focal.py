"""Dice with the focal loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from medseg.losses.checks import Absent, Activation
from medseg.losses.class_weights import ClassWeight
from medseg.losses.dice import dice_of
from medseg.losses.focal import focal_of, focal_wanted
from medseg.losses.functional_module import WeightedPartsLoss
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["DiceFocalLoss", "dice_focal_loss"]


def _parts(
    sums: RegionSums,
    *,
    gamma: float,
    alpha: float | Sequence[float] | Tensor | None,
    class_weight: Sequence[float] | Tensor | None,
    **dice: Any,
) -> dict[str, Tensor]:
    """The terms "dice" and "focal" before their weights."""
    return {
        "dice": dice_of(sums, class_weight=class_weight, **dice),
        "focal": focal_of(sums, gamma=gamma, alpha=alpha, class_weight=class_weight),
    }


def dice_focal_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    dice_weight: float = 0.5,
    focal_weight: float = 0.5,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | Tensor | None = None,
    smooth: float = 1e-5,
    squared: bool = False,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `DiceFocalLoss`, which describes the arguments."""
    wanted = Wanted(linear=not squared, squared=squared) | focal_wanted(gamma)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    parts = _parts(
        sums,
        gamma=gamma,
        alpha=alpha,
        smooth=smooth,
        squared=squared,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
    )
    return dice_weight * parts["dice"] + focal_weight * parts["focal"]


class DiceFocalLoss(WeightedPartsLoss):
    """Dice for the overlap of each class with the focal loss for its hard voxels.

    Formula: dice_weight Dice + focal_weight Focal; see `DiceLoss` and `FocalLoss`

    Range: 0 (right) without bound; the Dice part stays below dice_weight.

    Errors: As Dice, and hard voxels of either kind once more.

    Choose it: For small structures in much easy background with labels that can be trusted at the boundary.

    Source: Zhu et al. 2019 (AnatomyNet, arXiv:1808.05238).

    Args:
        dice_weight: Weight of the term "dice".
        focal_weight: Weight of the term "focal".
        gamma: How much right voxels are turned down in the focal term.
        alpha: Balance of the focal term, as in `FocalLoss`.
        squared: Squares in the denominator of Dice.
        include_background: False leaves class 0 out of Dice; the focal loss always has all classes.
        class_weight: (K,) weights of the classes in both terms.
    """

    function = staticmethod(dice_focal_loss)

    dice_weight: float
    focal_weight: float
    gamma: float
    squared: bool

    def __init__(
        self,
        *,
        dice_weight: float = 0.5,
        focal_weight: float = 0.5,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Tensor | None = None,
        smooth: float = 1e-5,
        squared: bool = False,
        absent: Absent = "skip",
        batch: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        ignore_index: int | None = None,
    ) -> None:
        focal_wanted(gamma)
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=not self.squared, squared=self.squared) | focal_wanted(self.gamma)

    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        return _parts(sums, **self.rest(without=("dice_weight", "focal_weight")))

    def weights(self) -> dict[str, float]:
        return {"dice": self.dice_weight, "focal": self.focal_weight}
