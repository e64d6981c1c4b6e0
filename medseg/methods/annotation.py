"""Labels that speak of some classes only: a case in which just the liver was drawn teaches just the liver."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.resize import resize_mask

__all__ = ["only_annotated"]

_AWAY = 30.0  # logits below the background's: a probability of 1e-13, and finite under every loss


def only_annotated(logits: Tensor, annotated: Tensor, overlapping: bool = False) -> Tensor:
    """`logits` as seen by a label that does not speak of all outputs: for a loss, its background is the background or
    any class that nobody looked for (the marginal of Shi et al. 2021, arXiv:2007.03868, eq. 4).

    Args:
        logits: (B, K, D, H, W); output 0 is the background unless they overlap.
        annotated: (B, K, 1, 1, 1), or on a grid, where it is brought to that of the logits; bool.
        overlapping: each output is a region of its own (sigmoid): those not spoken of count as rightly absent.

    Returns:
        (B, K, D, H, W) float32: the background's probability includes those of the outputs not spoken of, which
        themselves are as good as 0 and stay below it: what label smoothing gives to them it gives to the background.
        Their target must be empty.
    """
    logits = logits.float()
    if annotated.shape[2:].numel() > 1:
        annotated = resize_mask(annotated, logits.shape[2:])
    if overlapping:
        return torch.where(annotated, logits, -_AWAY)
    spoken = annotated.clone()
    spoken[:, 0] = True
    hidden = logits.masked_fill(spoken, -torch.inf)
    background = torch.logsumexp(torch.cat([logits[:, :1], hidden[:, 1:]], 1), 1, keepdim=True)
    return torch.cat([background, torch.where(spoken, logits, background - _AWAY)[:, 1:]], 1)
