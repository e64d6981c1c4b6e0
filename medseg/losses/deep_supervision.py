"""One loss over the heads of a network, full resolution first."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.losses.checks import plain
from medseg.losses.resize import resize_target
from medseg.losses.sample_routed import SampleRoutedLoss, hard_samples
from medseg.losses.terms import LossTerms, loss_terms

__all__ = ["DeepSupervisionLoss"]


class DeepSupervisionLoss(nn.Module):
    """The weighted sum of a loss over several heads.

    Formula: sum_l w_l loss(logits_l, target_l, mask_l); w_l = 1 / 2^l, normalised to sum 1

    Errors: As the loss itself; coarse heads see structures, not boundaries.

    Choose it: Around every loss of a network with heads at several resolutions; a single output passes through.

    Source: Lee et al. 2015 (arXiv:1409.5185); the weights are nnU-Net's.

    Args:
        loss: any segmentation loss or composite. Its `ignore_index` wants integer labels: floating ones are averaged on
            the grids of coarser heads.
        weights: one number per head, full resolution first; normalised to sum 1. None is 1 / 2^l for as many
            heads as come. A head with weight 0 is not computed.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is not None and (min(weights, default=0) < 0 or sum(weights) <= 0):
            raise ValueError(f"weights must be non-negative with a positive sum, not {list(weights)}")
        self.loss = loss
        self.weights = None if weights is None else tuple(float(w) for w in weights)

    def forward(
        self, logits: Tensor | Sequence[Tensor], target: Tensor, mask: Tensor | None = None, step: float = 0
    ) -> LossTerms:
        """The total over heads and each named term summed over heads with the same weights.

        Args:
            logits: (B, K, D, H, W) of each head, full resolution first; one tensor is one head.
            target: on the grid of the first head. mask: likewise.
            step: handed to the loss for scheduled weights.
        """
        heads = [logits] if isinstance(logits, Tensor) else list(logits)
        weights = self._weights(len(heads))
        target, mask = plain(target), None if mask is None else plain(mask)
        # asked here, as averages on coarser grids are never 0 and 1 alone
        routed = any(isinstance(member, SampleRoutedLoss) for member in self.loss.modules())
        hard = hard_samples(target, mask) if routed else None
        total: Tensor | None = None
        terms: dict[str, Tensor] = {}
        for weight, head in zip(weights, heads, strict=True):
            if weight == 0:
                continue
            found = loss_terms(self.loss, head, *resize_target(target, mask, head.shape[2:]), step, hard=hard)
            total = weight * found.total if total is None else total + weight * found.total
            for name, value in found.terms.items():
                terms[name] = terms[name] + weight * value if name in terms else weight * value
        assert total is not None
        return LossTerms(total, terms)

    def _weights(self, heads: int) -> list[float]:
        if heads == 1:
            return [1.0]
        if self.weights is None:
            weights = [0.5**level for level in range(heads)]
        elif len(self.weights) != heads:
            raise ValueError(f"{len(self.weights)} weights for {heads} heads")
        else:
            weights = list(self.weights)
        return [weight / sum(weights) for weight in weights]
