"""Cross entropy: categorical over the classes, or binary per channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Activation, Denominator, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.reduce import class_factors, over_samples
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["CrossEntropyLoss", "cross_entropy_loss", "cross_entropy_of", "voxel_weights"]


def voxel_weights(
    sums: RegionSums, class_weight: Sequence[float] | Tensor | None, include_background: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The weights (K,) of voxels with and without a class, and the (B,) sum of all weights in the mask."""
    on = class_factors(class_weight, include_background, sums.target)
    off = class_factors(None, include_background, sums.target)
    weight = (on * sums.target).sum(1)
    if sums.binary:
        weight = weight + (off * (sums.mass - sums.target)).sum(1)
    return on, off, weight


def cross_entropy_of(
    sums: RegionSums,
    *,
    label_smoothing: float = 0.0,
    denominator: Denominator = "mask",
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """sum(m w_y ce) / sum(m w_y) from its sums; see `CrossEntropyLoss`."""
    on, off, weight = voxel_weights(sums, class_weight, include_background)
    classes = sums.target.shape[1]
    even = label_smoothing / (2 if sums.binary else classes)
    cost = torch.zeros_like(sums.target)
    for part, weights in [("on", on), ("off", off)] if sums.binary else [("on", on)]:
        cost = cost + (1 - label_smoothing) * weights * sums.sum(f"ce_{part}")
        if label_smoothing:
            cost = cost + even * weights * sums.sum(f"even_{part}")
    everything = sums.voxels * (classes if sums.binary else 1)
    return over_samples(cost.sum(1), weight, everything=everything, denominator=denominator, reduction=reduction)


def cross_entropy_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
    denominator: Denominator = "mask",
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `CrossEntropyLoss`, which describes the arguments."""
    wanted = Wanted(ce=True, even=label_smoothing > 0)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    return cross_entropy_of(
        sums,
        label_smoothing=label_smoothing,
        denominator=denominator,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class CrossEntropyLoss(RegionSumsLoss):
    """Cross entropy of each voxel, weighed by class, averaged over the mask.

    Formula: sum(m w_y ce) / sum(m w_y), per sample; ce = -sum_k y_k log p_k. With sigmoid the binary cross entropy
        of every channel, w_k the weight of its voxels with the class and 1 that of the others

    Range: 0 (right) without bound; log K for a uniform guess.

    Errors: Every voxel counts alike: errors of small structures hardly show in the mean. A confident error costs
        much, a right voxel little.

    Choose it: For balanced classes, calibrated probabilities and a steady start. With small structures combine it
        with an overlap loss (`DiceCELoss`) or weigh the classes (`class_weights`).

    Source: Ronneberger et al. 2015 (U-Net, arXiv:1505.04597), eq. 1, is the weighed sum; label smoothing is of Szegedy
        et al. 2016 (arXiv:1512.00567), section 7.

    Args:
        label_smoothing: The share of the target that is spread evenly over the classes.
        denominator: "mask" divides by the weight in the mask, "all" by all voxels, so that a handful of confident
            voxels does not get full weight (the FixMatch convention).
        class_weight: (K,) the w_k.
        include_background: False gives the voxels of class 0 (with sigmoid the channel 0) the weight 0.
        reduction: "none" gives one value per sample (B,).
    """

    function = staticmethod(cross_entropy_loss)
    label_smoothing: float

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        denominator: Denominator = "mask",
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return Wanted(ce=True, even=self.label_smoothing > 0)

    def of(self, sums: RegionSums) -> Tensor:
        return cross_entropy_of(sums, **self.rest())
