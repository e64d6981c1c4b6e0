"""The Tversky loss, the primitive of the overlap losses with one ratio per class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Absent, Activation, Reduction, check_choice
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.reduce import mean_of_classes
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["TverskyLoss", "tversky_loss", "tversky_of"]


def tversky_of(
    sums: RegionSums,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1e-5,
    squared: bool = False,
    exponent: float = 1.0,
    absent: Absent = "skip",
    batch: bool = False,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """(1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s)) ^ exponent from its sums; see `TverskyLoss`.

    `squared` takes P and Y as sums of squares. `batch` adds the sums of the samples up first.
    """
    check_choice("absent", absent, Absent)
    parts = [sums.sum("overlap"), sums.target, sums.mass]
    parts += [sums.sum("size2"), sums.target2] if squared else [sums.sum("size"), sums.target]
    overlap, presence, mass, size, volume = [x.sum(0, keepdim=True) for x in parts] if batch else parts
    errors = alpha * (size - overlap) + beta * (volume - overlap)
    values = errors / (overlap + errors + smooth).clamp_min(torch.finfo(overlap.dtype).tiny)
    if exponent != 1:
        values = values.clamp_min(torch.finfo(values.dtype).eps) ** exponent
    return mean_of_classes(
        values,
        presence > 0 if absent == "skip" else (mass > 0).expand_as(values),
        include_background=include_background,
        class_weight=class_weight,
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
    """The function of `TverskyLoss`, which describes the arguments."""
    wanted = Wanted(linear=True)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
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
    """Overlap per class, with false positives weighed by alpha and false negatives by beta.

    Formula: 1 - (I + s) / (I + alpha (P - I) + beta (Y - I) + s), per sample and class; I = sum(p y m),
        P = sum(p m), Y = sum(y m) over D, H, W

    Range: 0 (right) to 1 (nothing found).

    Errors: A false positive costs alpha, a false negative beta, both in proportion to the size of the structure
        and not of the volume. alpha = beta = 0.5 is Dice, alpha = beta = 1 is Jaccard.

    Choose it: For small lesions that are missed: beta 0.7, alpha 0.3 buys sensitivity with false positives.
        With false positives to suppress, the other way round.

    Source: Salehi et al. 2017 (arXiv:1706.05721), eq. 3.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
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
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=True)

    def of(self, sums: RegionSums) -> Tensor:
        return tversky_of(sums, **self.rest())
