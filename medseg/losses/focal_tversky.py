"""The focal Tversky loss."""

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

__all__ = ["FocalTverskyLoss", "focal_tversky_loss"]


def _exponent(gamma: float) -> float:
    if gamma <= 0:
        raise ValueError(f"gamma must be above 0, not {gamma}")
    return 1 / gamma


def focal_tversky_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
    smooth: float = 1e-5,
    absent: Absent = "skip",
    batch: bool = False,
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `FocalTverskyLoss`, which describes the arguments."""
    wanted = Wanted(linear=True)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    return tversky_of(
        sums,
        alpha=alpha,
        beta=beta,
        exponent=_exponent(gamma),
        smooth=smooth,
        absent=absent,
        batch=batch,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class FocalTverskyLoss(RegionSumsLoss):
    """The Tversky loss of each class to the power 1 / gamma: more pull where a structure is nearly right.

    Formula: T ^ (1 / gamma), T the Tversky loss of a sample and class, not below the smallest step of its dtype
        so that the gradient stays finite at 0

    Range: 0 (right) to 1 (nothing found). A right prediction costs eps ^ (1 / gamma), 6e-6 in float32.

    Errors: As Tversky (alpha false positives, beta false negatives); with gamma > 1 the last errors of a nearly
        right structure keep a strong gradient.

    Choose it: For small lesions whose Dice stalls below what inspection says is possible. With gamma < 1 the
        pull goes to the poor structures instead.

    Source: Abraham & Khan 2019 (arXiv:1810.07842), eq. 4, gamma = 4/3.

    Args:
        alpha: Weight of false positives.
        beta: Weight of false negatives.
        gamma: The power is 1 / gamma; above 0, 1 is Tversky.
    """

    function = staticmethod(focal_tversky_loss)

    gamma: float

    def __init__(
        self,
        *,
        alpha: float = 0.3,
        beta: float = 0.7,
        gamma: float = 4 / 3,
        smooth: float = 1e-5,
        absent: Absent = "skip",
        batch: bool = False,
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        _exponent(gamma)
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(linear=True)

    def of(self, sums: RegionSums) -> Tensor:
        arguments: dict[str, Any] = self.rest()
        return tversky_of(sums, exponent=_exponent(arguments.pop("gamma")), **arguments)
