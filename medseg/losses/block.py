"""One block of voxels: its fields and their sums, in buffers. `plain_sums.py` has the same in plain form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medseg.losses.scratch import Scratch
from medseg.losses.wanted import Reading

__all__ = ["Block", "power_"]


class Block:
    """n voxels of every sample: p, log_p, log_q = log(1 - p) and y (B, K, n), m (B, 1, n).

    The logarithms are there where a sum needs them, log_q for binary channels; m is None where all is kept.

    Args:
        log_total: the logarithm of the softmax's denominator (B, 1, n), written, or read where it is `known`; None is
            sigmoid.
    """

    p: Tensor
    log_p: Tensor
    log_q: Tensor

    def __init__(
        self,
        scratch: Scratch,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None,
        how: Reading,
        log_total: Tensor | None = None,
        known: bool = False,
    ) -> None:
        self.how = how
        self.scratch = scratch
        self.shape = logits.shape
        self.row = torch.Size((logits.shape[0], 1, logits.shape[2]))
        self.y = self._read_target(target)
        self.m = self._read_mask(target, mask)
        if log_total is None:
            self._sigmoid(logits)
        else:
            self._softmax(logits, log_total, known)

    def full(self, name: str) -> Tensor:
        """A (B, K, n) buffer."""
        return self.scratch(name, self.shape)

    def masses(self) -> list[Tensor]:
        """sum m (B, 1), sum m y (B, K) and, where squares are wanted, sum m y^2 (B, K). Turns y into m y."""
        y, m = self.y, self.m
        mass = y.new_full((y.shape[0], 1), y.shape[2]) if m is None else m.sum(2)
        second = None
        if self.how.wanted.squared:
            square = torch.mul(y, y, out=self.full("work"))
            second = (square if m is None else square.mul_(m)).sum(2)
        volume = (y if m is None else y.mul_(m)).sum(2)
        return [mass, volume, volume if second is None else second]

    def sums(self) -> Tensor:
        """The sums that were wanted, (S, B, K); after `masses`."""
        wanted = self.how.wanted.keys(self.how.binary)
        return torch.stack([self._sum(name, gamma) for name, gamma in wanted])

    def _sum(self, name: str, gamma: float) -> Tensor:
        p, y, m, work = self.p, self.y, self.m, self.full("work")
        kind, _, part = name.partition("_")
        match kind:
            case "overlap":
                return torch.mul(y, p, out=work).sum(2)
            case "size":
                return (p if m is None else torch.mul(p, m, out=work)).sum(2)
            case "size2":
                square = torch.mul(p, p, out=work)
                return (square if m is None else square.mul_(m)).sum(2)
        log = self.log_p if part == "on" else self.log_q
        if kind == "even":
            return (log if m is None else torch.mul(log, m, out=work)).sum(2).neg_()
        weight = y if part == "on" else torch.sub(1.0 if m is None else m, y, out=self.full("rest"))
        if kind == "ce":
            return torch.mul(log, weight, out=work).sum(2).neg_()
        focus = torch.sub(1, p, out=work) if part == "on" else work.copy_(p)
        return power_(focus, gamma).mul_(log).mul_(weight).sum(2).neg_()

    def _read_target(self, target: Tensor) -> Tensor:
        y = self.full("y")
        if target.shape[1] == self.shape[1]:
            return y.copy_(target)
        # comparing into a floating tensor is several times faster than a bool one or a scatter
        return torch.eq(self.scratch("label", self.row).copy_(target), self.scratch.classes(self.shape[1]), out=y)

    def _read_mask(self, target: Tensor, mask: Tensor | None) -> Tensor | None:
        m = None if mask is None else self.scratch("m", self.row).copy_(mask)
        if self.how.ignore_index is None or target.shape[1] > 1:
            return m
        kept = self.scratch("kept", self.row).copy_(target).ne_(self.how.ignore_index)
        return kept if m is None else m.mul_(kept)

    def _softmax(self, logits: Tensor, log_total: Tensor, known: bool) -> None:
        p = self.p = self.full("p")
        self.log_p = self.full("log_p") if self.how.logs else p
        if known:
            torch.exp(torch.sub(logits, log_total, out=self.log_p), out=p)
            return
        if logits.dtype != p.dtype:
            logits = self.full("values").copy_(logits)
        total = self.scratch("total", self.row)
        # logits of common size need no shift by their maximum; to find out, a GPU would have to be waited for
        if logits.is_cpu and _moderate(torch.sum(torch.exp(logits, out=p), 1, keepdim=True, out=total)):
            torch.log(total, out=log_total)
        else:
            top = logits.amax(1, keepdim=True)
            torch.sum(torch.sub(logits, top, out=p).exp_(), 1, keepdim=True, out=total)
            torch.log(total, out=log_total).add_(top)
        p.mul_(total.reciprocal_())
        if self.how.logs:
            torch.sub(logits, log_total, out=self.log_p)

    def _sigmoid(self, logits: Tensor) -> None:
        values = self.full("values").copy_(logits)
        self.p = torch.sigmoid(values, out=self.full("p"))
        if self.how.logs:
            self.log_p, self.log_q = logsigmoid(values), logsigmoid(values.neg_())


def _moderate(total: Tensor) -> bool:
    """Whether sums of exponentials are far from under- and overflow."""
    low, high = total.aminmax()
    return low.item() > 1e-30 and high.item() < 1e30


def power_(x: Tensor, gamma: float) -> Tensor:
    """x^gamma in place, for probabilities, which rounding may have left a little below 0."""
    return x.mul_(x) if gamma == 2 else x.clamp_min_(0).pow_(gamma)
