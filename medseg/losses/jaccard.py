"""The Jaccard (IoU) loss."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.tversky import tversky_loss, tversky_of
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["JaccardLoss", "jaccard_loss"]


def jaccard_loss(
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
    """The function of `JaccardLoss`: Tversky with alpha = beta = 1."""
    return tversky_loss(
        logits,
        target,
        mask,
        alpha=1,
        beta=1,
        smooth=smooth,
        absent=absent,
        batch=batch,
        activation=activation,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
        ignore_index=ignore_index,
    )


class JaccardLoss(RegionSumsLoss):
    """One minus the intersection over union of each class.

    Formula: 1 - (I + s) / (P + Y - I + s), per sample and class; sums over D, H, W of the mask

    Range: 0 (right) to 1 (nothing found); J = 2 D / (1 + D) of the Dice loss D, so never below it.

    Errors: Like Dice, but a structure of which half is found costs more (0.5 against 0.33).

    Choose it: When IoU is what is judged, or poor cases should weigh more in the mean than Dice lets them.

    Source: Rahman & Wang 2016, with soft counts.
    """

    function = staticmethod(jaccard_loss)

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
        return tversky_of(sums, alpha=1, beta=1, **self.rest())
