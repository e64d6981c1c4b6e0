"""The sums of a whole volume in plain operations: for torch.compile, which fuses them, for probabilities, and as the
reference of the sums that are found block by block."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medseg.losses.fields import one_hot, wide
from medseg.losses.wanted import Reading

__all__ = ["plain_sums"]


def plain_sums(
    logits: Tensor, target: Tensor, mask: Tensor | None, how: Reading
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What `Blockwise` gives: sums (S, B, K), mass (B, 1), target (B, K), target2 (B, K)."""
    z = wide(logits)
    y = target.to(z.dtype)
    m = torch.ones_like(z[:, :1]) if mask is None else mask.to(z.dtype)
    if how.ignore_index is not None and target.shape[1] == 1:
        m = m * (target != how.ignore_index)
    if target.shape[1] != z.shape[1]:
        y = one_hot(target, z.shape[1], z.dtype)
    p, log_p, log_q = _fields(z, how)
    on, off = m * y, m * (1 - y)
    least = torch.finfo(z.dtype).eps  # a root has no slope at 0
    sums = []
    for name, gamma in how.wanted.keys(how.binary):
        kind, _, part = name.partition("_")
        weight, log, focus = (on, log_p, 1 - p) if part == "on" else (off, log_q, p)
        fields = {"overlap": on * p, "size": m * p, "size2": m * p * p, "ce": -weight * log, "even": -m * log}
        values = fields[kind] if kind in fields else -weight * log * focus.clamp_min(least if gamma < 1 else 0) ** gamma
        sums.append(values.sum(2))
    return torch.stack(sums), m.sum(2), on.sum(2), (on * y).sum(2)


def _fields(z: Tensor, how: Reading) -> tuple[Tensor, Tensor, Tensor]:
    """p, log p and log(1 - p)."""
    if how.activation == "softmax":
        log_p = z.log_softmax(1)
        return log_p.exp(), log_p, log_p
    if how.activation == "sigmoid":
        return z.sigmoid(), logsigmoid(z), logsigmoid(-z)
    tiny = torch.finfo(z.dtype).tiny
    return z, z.clamp_min(tiny).log(), (1 - z).clamp_min(tiny).log()
