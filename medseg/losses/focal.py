"""The focal loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Activation, Denominator, Reduction
from medseg.losses.class_weights import ClassWeight
from medseg.losses.cross_entropy import voxel_weights
from medseg.losses.functional_module import RegionSumsLoss
from medseg.losses.reduce import over_samples
from medseg.losses.region_sums import region_sums
from medseg.losses.wanted import RegionSums, Wanted

__all__ = ["FocalLoss", "focal_loss", "focal_of", "focal_wanted"]


def focal_wanted(gamma: float) -> Wanted:
    """The sums of a focal loss; gamma = 0 is the cross entropy."""
    if gamma < 0:
        raise ValueError(f"gamma must be 0 or more, not {gamma}")
    return Wanted(focal=(float(gamma),)) if gamma else Wanted(ce=True)


def focal_of(
    sums: RegionSums,
    *,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | Tensor | None = None,
    denominator: Denominator = "mask",
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """sum(m w_y a_y (1 - p_t)^gamma ce) / sum(m w_y) from its sums; see `FocalLoss`."""
    weights = voxel_weights(sums, class_weight, include_background)
    classes = sums.target.shape[1]
    cost = torch.zeros_like(sums.target)
    balance = _balance(alpha, sums)
    for part, weight, factor in zip(("on", "off"), weights, balance, strict=False):
        if part == "on" or sums.binary:
            found = sums.sum(f"focal_{part}", float(gamma)) if gamma else sums.sum(f"ce_{part}")
            cost = cost + weight * factor * found
    everything = sums.voxels * (classes if sums.binary else 1)
    return over_samples(cost.sum(1), weights[2], everything=everything, denominator=denominator, reduction=reduction)


def _balance(alpha: float | Sequence[float] | Tensor | None, sums: RegionSums) -> tuple[Tensor, Tensor]:
    """The factors (K,) of voxels with and without a class."""
    ones = torch.ones_like(sums.target[0])
    if alpha is None:
        return ones, ones
    given = torch.as_tensor(alpha, dtype=ones.dtype, device=ones.device).reshape(-1)
    if given.numel() == 1 and not sums.binary:
        given = torch.cat([1 - given, given.expand(ones.numel() - 1)])
    if given.numel() not in (1, ones.numel()):
        raise ValueError(f"alpha has {given.numel()} values for {ones.numel()} classes")
    return ones * given, ones * (1 - given)


def focal_loss(
    logits: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | Tensor | None = None,
    denominator: Denominator = "mask",
    activation: Activation | None = None,
    include_background: bool = True,
    class_weight: Sequence[float] | Tensor | None = None,
    reduction: Reduction = "mean",
    ignore_index: int | None = None,
) -> Tensor:
    """The function of `FocalLoss`, which describes the arguments."""
    wanted = focal_wanted(gamma)
    sums = region_sums(logits, target, mask, wanted, activation=activation, ignore_index=ignore_index)
    return focal_of(
        sums,
        gamma=gamma,
        alpha=alpha,
        denominator=denominator,
        include_background=include_background,
        class_weight=class_weight,
        reduction=reduction,
    )


class FocalLoss(RegionSumsLoss):
    """Cross entropy of each voxel, turned down where the voxel is right already.

    Formula: sum(m a_y (1 - p_t)^gamma ce) / sum(m), per sample; p_t the probability of the voxel's own class.
        Soft targets: ce (1 - p_t)^gamma is sum_k y_k (1 - p_k)^gamma (-log p_k)

    Range: 0 (right) without bound; gamma = 0 is the cross entropy.

    Errors: Hard voxels rule the gradient, whatever class they are of; the many easy background voxels fall silent.

    Choose it: When easy background drowns small or faint structures. Wrong labels are the hardest voxels of all:
        with noisy labels keep gamma low. The value is K times that of MONAI's softmax focal, which averages over
        classes too.

    Source: Lin et al. 2017 (arXiv:1708.02002), eq. 5.

    Args:
        gamma: How much right voxels are turned down; 0 or more.
        alpha: Balance a_y: one number gives 1 - alpha to class 0 and alpha to the others (with sigmoid alpha to
            voxels with the class, 1 - alpha to those without); or one number per class. It does not enter the
            denominator.
        denominator: "mask" divides by the weight in the mask, "all" by all voxels.
        class_weight: (K,) weights of the voxels of each class, in numerator and denominator.
        include_background: False gives the voxels of class 0 (with sigmoid the channel 0) the weight 0.
        reduction: "none" gives one value per sample (B,).
    """

    function = staticmethod(focal_loss)

    gamma: float

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | Sequence[float] | Tensor | None = None,
        denominator: Denominator = "mask",
        activation: Activation | None = None,
        include_background: bool = True,
        class_weight: ClassWeight = None,
        reduction: Reduction = "mean",
        ignore_index: int | None = None,
    ) -> None:
        focal_wanted(gamma)
        super().__init__(locals())

    def wanted(self) -> Wanted:
        return focal_wanted(self.gamma)

    def of(self, sums: RegionSums) -> Tensor:
        return focal_of(sums, **self.rest())
