"""From one value per sample (and class) to the value of a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medseg.losses.checks import Denominator, Reduction, check_choice

__all__ = ["class_factors", "mean_of_classes", "over_samples", "ratio", "reduced"]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 with a zero gradient where the denominator is 0 (an empty region)."""
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 0)


def class_factors(class_weight: Sequence[float] | Tensor | None, include_background: bool, like: Tensor) -> Tensor:
    """What each class counts, (K,) of the dtype and device of `like` (B, K): `class_weight`, or 1; 0 for class 0 of
    several without the background.

    Raises:
        ValueError: there are not K weights.
    """
    classes = like.shape[1]
    if class_weight is None:
        factors = like.new_ones(classes)
    else:
        factors = torch.as_tensor(class_weight).reshape(-1).to(device=like.device, dtype=like.dtype)
    if factors.numel() != classes:
        raise ValueError(f"class_weight has {factors.numel()} values for {classes} classes")
    if include_background or classes == 1:
        return factors
    return factors * (torch.arange(classes, device=like.device) > 0)


def mean_of_classes(
    values: Tensor,
    kept: Tensor,
    *,
    include_background: bool,
    class_weight: Sequence[float] | Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """Averages (B, K) values over the classes of each sample and then over samples.

    Args:
        values: (B, K) one value per sample and class.
        kept: (B, K) bool; what is not kept is left out of its sample's mean. A sample with nothing kept costs 0.
        include_background: False leaves class 0 out (where there are several).
        class_weight: (K,) weights of the mean over classes.
        reduction: "none" gives (B, K), weighted, with 0 for what is left out; "sum" the sum of that.
    """
    check_choice("reduction", reduction, Reduction)
    weight = kept.to(values.dtype) * class_factors(class_weight, include_background, values)
    values = values.masked_fill(~kept, 0) * weight
    if reduction == "none":
        return values
    if reduction == "sum":
        return values.sum()
    return ratio(values.sum(1), weight.sum(1)).mean()


def over_samples(
    numerator: Tensor,
    weight: Tensor,
    *,
    everything: float,
    denominator: Denominator = "mask",
    reduction: Reduction = "mean",
) -> Tensor:
    """Averages (B,) weighted sums of a voxelwise loss: each divided by its weights' sum, then their mean.

    Args:
        numerator: (B,) weighted sums; a sample without weight costs 0.
        weight: (B,) sums of the weights.
        everything: what to divide by with denominator "all": the voxels (times channels) of a sample.
        denominator: "mask" or "all".
        reduction: "none" gives (B,), "sum" its sum.
    """
    check_choice("denominator", denominator, Denominator)
    return reduced(ratio(numerator, weight) if denominator == "mask" else numerator / everything, reduction)


def reduced(values: Tensor, reduction: Reduction) -> Tensor:
    """The mean or the sum of values (B,), or with "none" the values themselves."""
    check_choice("reduction", reduction, Reduction)
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()
