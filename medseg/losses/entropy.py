"""The entropy of a prediction."""

from __future__ import annotations

from torch import Tensor

from medseg.losses.checks import Activation, Denominator, Reduction
from medseg.losses.functional_module import FunctionLoss
from medseg.losses.precision import full_precision
from medseg.losses.predictions import mask_weights, prediction
from medseg.losses.reduce import over_samples

__all__ = ["EntropyLoss", "entropy_loss"]


@full_precision
def entropy_loss(
    logits: Tensor,
    mask: Tensor | None = None,
    *,
    denominator: Denominator = "mask",
    activation: Activation | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """The function of `EntropyLoss`, which describes the arguments."""
    found = prediction(logits, activation)
    weight = mask_weights(mask, logits)
    values = -(found.p * found.log_p).sum(found.axis).mean(1).flatten(1)
    return over_samples(
        (values * weight).sum(1),
        weight.sum(1),
        everything=weight.shape[1],
        denominator=denominator,
        reduction=reduction,
    )


class EntropyLoss(FunctionLoss):
    """The mean entropy of a prediction: it wants the network to decide.

    Formula: sum(m H) / sum(m), per sample; H = -sum_k p_k log p_k, with sigmoid the mean of the channels' binary
        entropies

    Range: 0 (decided) to log K (uniform; log 2 with sigmoid).

    Errors: It knows no target: what the network leans to is made firm, right or wrong.

    Choose it: With a small, ramped weight on unlabelled images, beside a loss that knows labels.

    Source: Grandvalet & Bengio 2005, eq. 7.

    Args:
        denominator: "mask" divides by the weight in the mask, "all" by all voxels.
        reduction: "mean" over samples; "sum"; "none" gives (B,).
    """

    function = staticmethod(entropy_loss)

    def __init__(
        self,
        *,
        denominator: Denominator = "mask",
        activation: Activation | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(locals())

    def forward(self, logits: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """The mean entropy of `logits` (B, K, D, H, W) over the voxels that `mask` (B, 1, D, H, W) keeps."""
        return entropy_loss(logits, mask, **self.arguments())
