"""The sums of a volume and their gradient, block by block.

The tensors of a block live in a few buffers that stay in the processor's cache, so that no tensor of the size of
the volume is made but the gradient. The backward pass reads the logits again; what is kept for it is one number
per voxel, the logarithm of the softmax's denominator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medseg.losses.block import Block
from medseg.losses.block_gradient import block_gradient
from medseg.losses.scratch import Scratch
from medseg.losses.wanted import Reading

__all__ = ["Blockwise"]

CPU_BLOCK = 2**18  # logits of a block
DEVICE_BLOCK = 2**24


class Blockwise(torch.autograd.Function):
    """(sums (S, B, K), mass (B, 1), target (B, K), target2 (B, K)) of logits (B, K, N); see `RegionSums`.

    Target (B, 1 or K, N) and mask (B, 1, N) or None. Only the sums have a gradient, and only by the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, mask: Tensor | None, how: Reading
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found: list[Tensor] = []
        scratch = _scratch(logits)
        log_total = None
        if how.activation == "softmax":
            log_total = torch.empty_like(target[:, :1], dtype=scratch.dtype)
        for part in _parts(logits):
            block = Block(scratch, *_cut(part, logits, target, mask), how, _of(part, log_total))
            more = [*block.masses(), block.sums()]
            found = [a + b for a, b in zip(found, more, strict=True)] if found else more
        mass, volume, volume2, sums = found
        ctx.save_for_backward(logits, target, mask, log_total)
        ctx.how = how
        volume2 = volume2.clone() if volume2 is volume else volume2
        ctx.mark_non_differentiable(mass, volume, volume2)
        return sums, mass, volume, volume2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, by_sums: Tensor, *_: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target, mask, log_total = ctx.saved_tensors
        how: Reading = ctx.how
        by = dict(zip(how.wanted.keys(how.binary), by_sums.unsqueeze(-1), strict=True))
        gradient = torch.empty_like(logits)
        scratch = _scratch(logits)
        for part in _parts(logits):
            block = Block(scratch, *_cut(part, logits, target, mask), how, _of(part, log_total), known=True)
            block_gradient(block, by, gradient[:, :, part])
        return gradient, None, None, None


def _scratch(logits: Tensor) -> Scratch:
    return Scratch(torch.promote_types(logits.dtype, torch.float32), logits.device)


def _parts(logits: Tensor) -> list[slice]:
    elements = CPU_BLOCK if logits.device.type == "cpu" else DEVICE_BLOCK
    size = max(1, elements // (logits.shape[0] * logits.shape[1]))
    return [slice(start, start + size) for start in range(0, logits.shape[2], size)]


def _cut(part: slice, logits: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    return logits[:, :, part], target[:, :, part], _of(part, mask)


def _of(part: slice, x: Tensor | None) -> Tensor | None:
    return None if x is None else x[:, :, part]
