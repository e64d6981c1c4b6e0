"""How far a prediction is from another that is taken as given."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from medseg.losses.checks import Activation, Denominator, Reduction, check_choice
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.predictions import Prediction, mask_weights, prediction
from medseg.losses.reduce import over_samples

__all__ = ["ConsistencyLoss", "Measure", "consistency_loss"]

Measure = Literal["mse", "kl", "cosine"]


@full_precision
def consistency_loss(
    a: Tensor,
    b: Tensor,
    mask: Tensor | None = None,
    *,
    measure: Measure = "mse",
    denominator: Denominator = "mask",
    activation: Activation | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The function of `ConsistencyLoss`, which describes the arguments."""
    check_choice("measure", measure, Measure)
    if a.shape != b.shape:
        raise ValueError(f"predictions of shapes {tuple(a.shape)} and {tuple(b.shape)} must be alike")
    weight = mask_weights(mask, a)
    values = _distance(prediction(a, activation, "a"), prediction(b.detach(), activation, "b"), measure)
    return over_samples(
        (values * weight).sum(1),
        weight.sum(1),
        everything=weight.shape[1],
        denominator=denominator,
        reduction=reduction,
    )


def _distance(a: Prediction, b: Prediction, measure: Measure) -> Tensor:
    """(B, n): the distance of two predictions at each voxel, averaged over independent channels."""
    if measure == "mse":
        values = ((a.p - b.p) ** 2).mean(a.axis)
    elif measure == "kl":
        values = (b.p * (b.log_p - a.log_p)).sum(a.axis)
    else:
        lengths = (a.p * a.p).sum(a.axis).sqrt() * (b.p * b.p).sum(b.axis).sqrt()
        values = 1 - (a.p * b.p).sum(a.axis) / lengths
    return values.mean(1).flatten(1)


class ConsistencyLoss(FunctionLoss):
    """The distance of the prediction `a` to the prediction `b`, which gets no gradient.

    Formula: sum(m d(a, b)) / sum(m), per sample; d is the mean square of p_a - p_b over the classes ("mse"),
        sum_k p_b log(p_b / p_a) ("kl") or 1 - cos(p_a, p_b) ("cosine")

    Range: 0 (alike) to 2 / K ("mse"; 1 with sigmoid), without bound ("kl"), 1 ("cosine").

    Errors: "mse" forgives confident disagreement most, "kl" least: it grows without bound where b is sure and a is
        sure of another class.

    Choose it: "mse" for a mean teacher; "kl" where the teacher's uncertainty should be learnt too.

    Source: Tarvainen & Valpola 2017 (arXiv:1703.01780), eq. 1, is "mse".

    Args:
        measure: "mse", "kl" or "cosine".
        denominator: "mask" divides by the weight in the mask, "all" by all voxels.
        activation: How both are read: "softmax", "sigmoid" or "none" for probabilities.
        reduction: "mean" over samples; "sum"; "none" gives (B,).
    """

    function = staticmethod(consistency_loss)

    def __init__(
        self,
        *,
        measure: Measure = "mse",
        denominator: Denominator = "mask",
        activation: Activation | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        check_choice("measure", measure, Measure)
        super().__init__(locals())

    def forward(self, a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
        """The distance of `a` to `b` (B, K, D, H, W) over the voxels that `mask` (B, 1, D, H, W) keeps."""
        return consistency_loss(a, b, mask, **self.arguments())
