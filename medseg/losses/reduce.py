"""From one value per sample (and class) to the value of a loss."""

from __future__ import annotations

from torch import Tensor

from medseg.losses.checks import Absent, Denominator, Reduction, check_choice

__all__ = ["mean_of_classes", "over_samples", "ratio"]


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 0 with a zero gradient where the denominator is 0 (an empty region)."""
    empty = denominator == 0
    return (numerator / denominator.masked_fill(empty, 1)).masked_fill(empty, 0)


def mean_of_classes(
    values: Tensor,
    target: Tensor,
    *,
    mass: Tensor,
    absent: Absent,
    include_background: bool,
    class_weight: Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """Averages (B, K) values of overlap losses: over the classes of each sample, then over samples.

    Args:
        values: (B, K) one value per sample and class.
        target: (B, K) the volume of the class in the target; 0 is an absent class.
        mass: (B, 1) the volume of the kept region; a sample with 0 costs 0.
        absent: "skip" leaves absent classes out of their sample's mean; "smooth" keeps them.
        include_background: False leaves class 0 out (where there are several).
        class_weight: (K,) weights of the mean over classes.
        reduction: "none" gives (B, K) with 0 for what is left out, "sum" the sum of that.
    """
    check_choice("absent", absent, Absent)
    check_choice("reduction", reduction, Reduction)
    kept = (mass > 0).expand_as(values) if absent == "smooth" else target > 0
    weight = kept.to(values.dtype)
    if class_weight is not None:
        weight = weight * class_weight
    if not include_background and values.shape[1] > 1:
        weight = weight.index_fill(1, weight.new_zeros(1).long(), 0)
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
    check_choice("reduction", reduction, Reduction)
    values = ratio(numerator, weight) if denominator == "mask" else numerator / everything
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()
