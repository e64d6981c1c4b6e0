"""Probabilities and their logarithms from logits, for losses that compare predictions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medseg.losses.checks import Activation, activation_for, check_logits, check_mask, plain
from medseg.losses.fields import wide

__all__ = ["Prediction", "mask_weights", "prediction"]


class Prediction(NamedTuple):
    """p and log p (B, K, S, ...): S = 1 for a distribution over the K classes (`over_classes`), else S = 2, the
    class and its complement, for each of K independent channels."""

    p: Tensor
    log_p: Tensor
    over_classes: bool

    @property
    def axis(self) -> int:
        """The axis that the distribution is over."""
        return 1 if self.over_classes else 2


def prediction(logits: Tensor, activation: Activation | None, name: str = "logits") -> Prediction:
    """The distribution at each voxel of `logits` (B, K, ...)."""
    logits = plain(logits)
    check_logits(logits, name)
    z = wide(logits)
    kind = activation_for(activation, z.shape[1])
    if kind == "softmax":
        log_p = z.log_softmax(1).unsqueeze(2)
        return Prediction(log_p.exp(), log_p, True)
    if kind == "sigmoid":
        both = torch.stack([z, -z], 2)
        return Prediction(both.sigmoid(), logsigmoid(both), False)
    over_classes = z.shape[1] > 1
    p = z.unsqueeze(2) if over_classes else torch.stack([z, 1 - z], 2)
    return Prediction(p, p.clamp_min(torch.finfo(p.dtype).tiny).log(), over_classes)


def mask_weights(mask: Tensor | None, like: Tensor) -> Tensor:
    """The mask as (B, n) weights of the dtype of wide logits; ones for None."""
    if mask is None:
        return torch.ones_like(wide(like[:, 0])).flatten(1)
    check_mask(mask, like)
    return plain(mask).detach().flatten(1).to(wide(like[:0]).dtype)
