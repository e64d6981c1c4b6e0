"""The combo loss: Dice with a cross entropy that tells missed voxels from false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medseg.losses.checks import Absent, Activation
from medseg.losses.class_weights import ClassWeight
from medseg.losses.cross_entropy import voxel_weights
from medseg.losses.dice import dice_of
from medseg.losses.functional_module import WeightedPartsLoss
from medseg.losses.reduce import ratio
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["ComboLoss", "combo_loss"]


def _parts(
    sums: RegionSums, *, alpha: float, class_weight: Sequence[float] | Tensor | None, **dice: Any
) -> dict[str, Tensor]:
    """The terms "dice" and "ce" before their weights."""
    return {
        "dice": dice_of(sums, class_weight=class_weight, **dice),
        "ce": _weighed_cross_entropy(sums, alpha, class_weight),
    }


def _weighed_cross_entropy(sums: RegionSums, alpha: float, class_weight: Sequence[float] | Tensor | None) -> Tensor:
    """sum(m 2 a_y w_y ce) / sum(m w_y), a_y = alpha for foreground and 1 - alpha for background voxels."""
    on, off, weight = voxel_weights(sums, class_weight, include_background=True)
    if sums.binary:
        missed, alarms = torch.full_like(on, alpha), torch.full_like(on, 1 - alpha)
        cost = on * missed * sums.sum("ce_on") + off * alarms * sums.sum("ce_off")
    else:
        foreground = torch.arange(on.numel(), device=on.device) > 0
        cost = torch.where(foreground, alpha, 1 - alpha).to(on.dtype) * on * sums.sum("ce_on")
    return ratio(2 * cost.sum(1), weight).mean()


def combo_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    ce_ratio: float = 0.5,
    alpha: float = 0.5,
    smooth: float = 1e-5,
    squared: bool = False,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `ComboLoss`, which describes the arguments."""
    wanted = Wanted(linear=not squared, squared=squared, ce=True)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    parts = _parts(
        sums,
        alpha=alpha,
        smooth=smooth,
        squared=squared,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
    )
    return ce_ratio * parts["ce"] + (1 - ce_ratio) * parts["dice"]


class ComboLoss(WeightedPartsLoss):
    """Dice with a cross entropy in which alpha weighs missed foreground against false alarms.

    Formula: ce_ratio CE_alpha + (1 - ce_ratio) Dice; CE_alpha = 2 sum(m a_y ce) / sum(m), a_y = alpha where the
        target is foreground and 1 - alpha where it is background: alpha = 0.5 is the cross entropy

    Range: 0 (right) without bound; the Dice part stays below 1 - ce_ratio.

    Errors: alpha > 0.5 makes a missed voxel dearer than a false alarm in the cross entropy; Dice is even-handed.

    Choose it: When one kind of error is worse and `TverskyLoss` starts too slowly.

    Source: Taghanaki et al. 2019 (arXiv:1805.02798), eq. 3; the factor 2 makes alpha = 0.5 neutral.

    Args:
        ce_ratio: Weight of the term "ce"; that of "dice" is the rest to 1.
        alpha: Weight of missed foreground against false alarms, 0 to 1.
        squared: Squares in the denominator of Dice.
        include_background: False leaves class 0 out of Dice; the cross entropy always has all classes.
        class_weight: (K,) weights of the classes in both terms.
    """

    function = staticmethod(combo_loss)

    ce_ratio: float
    squared: bool

    def __init__(
        self,
        *,
        ce_ratio: float = 0.5,
        alpha: float = 0.5,
        smooth: float = 1e-5,
        squared: bool = False,
        absent: Absent = "skip",
        batch: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=not self.squared, squared=self.squared, ce=True)

    def parts(self, sums: RegionSums) -> dict[str, Tensor]:
        return _parts(sums, **self.rest(without=("ce_ratio",)))

    def weights(self) -> dict[str, float]:
        return {"dice": 1 - self.ce_ratio, "ce": self.ce_ratio}
