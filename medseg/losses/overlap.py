"""Overlap losses of one ratio per class: Tversky, and Dice, Jaccard and focal Tversky derived from it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction, class_tensor
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.reduce import mean_of_classes
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["DiceLoss", "TverskyLoss", "dice_loss", "dice_of", "tversky_loss", "tversky_of"]


def tversky_of(
    sums: RegionSums,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1e-5,
    squared: bool = False,
    focus: float = 1.0,
    absent: Absent = "skip",
    batch: bool = False,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """(1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s)) ** focus, averaged; see `tversky_loss`."""
    overlap, presence, mass = sums.sum("overlap"), sums.target, sums.mass
    size, volume = (sums.sum("size2"), sums.target2) if squared else (sums.sum("size"), sums.target)
    if batch:
        overlap, size, volume, presence, mass = (
            x.sum(0, keepdim=True) for x in (overlap, size, volume, presence, mass)
        )
    errors = alpha * (size - overlap) + beta * (volume - overlap)
    values = errors / (overlap + errors + smooth).clamp_min(torch.finfo(overlap.dtype).tiny)
    if focus != 1:
        values = values.clamp_min(torch.finfo(values.dtype).eps) ** focus
    return mean_of_classes(
        values,
        presence,
        mass=mass,
        absent=absent,
        include_background=include_background,
        class_weight=class_tensor(class_weight, values.shape[1], values),
        reduction=reduction,
    )


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1e-5,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s), per sample and class. See `TverskyLoss`."""
    sums = region_sums(logits, target, mask, Wanted(linear=True), activation=activation, ignore_index=ignore_index)
    return tversky_of(
        sums,
        alpha=alpha,
        beta=beta,
        smooth=smooth,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class TverskyLoss(RegionSumsLoss):
    """The overlap primitive with false positives weighed by alpha and false negatives by beta.

    Formula: 1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s), per sample and class

    Salehi et al. 2017, eq. 3.
    """

    function = staticmethod(tversky_loss)

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1e-5,
        absent: Absent = "skip",
        batch: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: Sequence[float] | Tensor | None = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=True)

    def of(self, sums: RegionSums) -> Tensor:
        return tversky_of(sums, **self.rest())


def dice_of(sums: RegionSums, *, smooth: float = 1e-5, squared: bool = False, **region: object) -> Tensor:
    """1 - (2 I + s) / (P + Y + s), averaged; see `dice_loss`."""
    return tversky_of(sums, smooth=smooth / 2, squared=squared, **region)  # type: ignore[arg-type]


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
    """1 - (2 I + s) / (P + Y + s), per sample and class. See `DiceLoss`."""
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

    Formula: 1 - (2 I + s) / (P + Y + s), per sample and class

    Milletari et al. 2016 with `squared`.
    """

    function = staticmethod(dice_loss)

    def __init__(
        self,
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
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=not self.squared, squared=bool(self.squared))

    def of(self, sums: RegionSums) -> Tensor:
        return dice_of(sums, **self.rest())
