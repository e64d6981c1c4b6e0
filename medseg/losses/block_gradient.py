"""The gradient of the sums of a block by its logits.

It has one form for softmax and for binary channels. With E the derivative by log p of what counts where the class
is, and O that by log q = log(1 - p) of what counts where it is not,

    a = p (y doverlap + dsize + 2 p dsize2) + y E - deven_on        b = (1 - y) O - deven_off

the gradient is a - p sum_k a for softmax and (1 - p) a - p b for sigmoid.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.block import Block, power_
from medseg.losses.wanted import Key

__all__ = ["By", "block_gradient"]

By = dict[Key, Tensor]  # the gradient by each sum, (B, K, 1)


def block_gradient(block: Block, by: By, out: Tensor) -> None:
    """Writes the gradient of sum(by[key] * sum[key]) over keys, samples and classes to `out` (B, K, n).

    Uses the fields of `block` up; its `masses` must not have been called.
    """
    p, m = block.p, block.m
    b = _by_log_q(block, by) if block.how.binary else None
    a = _by_log_p(block, by)
    if m is not None:
        a.mul_(m)
    if b is None:
        total = torch.sum(a, 1, keepdim=True, out=block.scratch("total", block.row))
        torch.sub(a, p.mul_(total), out=out)
        return
    if m is not None:
        b.mul_(m)
    q = torch.sub(1, p, out=block.full("q"))
    torch.sub(a.mul_(q), b.mul_(p), out=out)


def _by_log_p(block: Block, by: By) -> Tensor:
    """a of the formula."""
    wanted, p, y = block.how.wanted, block.p, block.y
    if block.how.logs:
        a = _log_terms(block, p, block.log_p, "on", by).mul_(y)
        if wanted.even:
            a.sub_(by["even_on", 0.0])
        if not wanted.overlap:
            return a
    slope = y.mul_(by["overlap", 0.0])
    if wanted.linear:
        slope.add_(by["size", 0.0])
    if wanted.squared:
        slope.add_(torch.mul(p, 2 * by["size2", 0.0], out=block.full("work")))
    slope.mul_(p)
    return slope.add_(a) if block.how.logs else slope


def _by_log_q(block: Block, by: By) -> Tensor:
    """b of the formula."""
    if not block.how.logs:
        return torch.zeros_like(block.p)
    b = _log_terms(block, 1 - block.p, block.log_q, "off", by).mul_(1 - block.y)
    return b.sub_(by["even_off", 0.0]) if block.how.wanted.even else b


def _log_terms(block: Block, p: Tensor, log_p: Tensor, part: str, by: By) -> Tensor:
    """E or O: the derivative of the cross entropy and focal sums by `log_p`, with weight 1."""
    wanted = block.how.wanted
    found = block.full(part)
    if wanted.ce:
        found.copy_(-by[f"ce_{part}", 0.0])
    else:
        found.zero_()
    for gamma in wanted.focal:
        u = torch.sub(1, p, out=block.full("work"))
        slope = u if gamma == 2 else u.clamp_min(torch.finfo(u.dtype).eps).pow_(gamma - 1)
        one = torch.mul(p, log_p, out=block.full("focal")).mul_(slope).mul_(gamma)
        found.add_(one.sub_(power_(u, gamma)).mul_(by[f"focal_{part}", gamma]))
    return found
