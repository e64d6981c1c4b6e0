"""One block of voxels: its fields and their sums, in buffers. `traced_sums.py` has the same in plain form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from medseg.losses.scratch import Scratch
from medseg.losses.wanted import Reading

__all__ = ["Block", "power_"]


class Block:
    """n voxels of every sample: p, log_p, log_q = log(1 - p) and y (B, K, n), m and log_total (B, 1, n).

    The logarithms are there where a sum needs them, log_q for binary channels; m is None where all is kept.
    log_total is the logarithm of the softmax's denominator; where it is given, p follows without a search.
    """

    p: Tensor
    log_p: Tensor
    log_q: Tensor
    log_total: Tensor | None = None

    def __init__(
        self,
        scratch: Scratch,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None,
        how: Reading,
        log_total: Tensor | None = None,
    ) -> None:
        self.how = how
        self.scratch = scratch
        self.shape = logits.shape
        self.row = torch.Size((logits.shape[0], 1, logits.shape[2]))
        self.y = self._read_target(target)
        self.m = self._read_mask(target, mask)
        if how.activation == "softmax":
            self._softmax(logits, log_total)
        else:
            self._channels(logits)

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
        index = torch.arange(self.shape[1], device=y.device, dtype=y.dtype).view(1, -1, 1)
        # comparing in place keeps the floating dtype: much faster than a bool tensor or a scatter
        return y.copy_(self.scratch("label", self.row).copy_(target)).eq_(index)

    def _read_mask(self, target: Tensor, mask: Tensor | None) -> Tensor | None:
        m = None if mask is None else self.scratch("m", self.row).copy_(mask)
        if self.how.ignore_index is None or target.shape[1] > 1:
            return m
        kept = self.scratch("kept", self.row).copy_(target).ne_(self.how.ignore_index)
        return kept if m is None else m.mul_(kept)

    def _softmax(self, logits: Tensor, log_total: Tensor | None) -> None:
        p = self.p = self.full("p")
        log_p = self.log_p = self.full("log_p") if self.how.logs else p
        if log_total is not None:
            torch.exp(torch.sub(logits, log_total, out=log_p), out=p)
            return
        if logits.dtype != p.dtype:
            logits = log_p.copy_(logits)
        top = torch.amax(logits, 1, keepdim=True, out=self.scratch("top", self.row))
        torch.exp(torch.sub(logits, top, out=log_p), out=p)
        total = torch.sum(p, 1, keepdim=True, out=self.scratch("total", self.row))
        log = torch.log(total, out=self.scratch("log", self.row))
        p.mul_(total.reciprocal_())
        if self.how.logs:
            log_p.sub_(log)
        self.log_total = top.add_(log)

    def _channels(self, values: Tensor) -> None:
        """Independent logits, or what are probabilities already."""
        values = self.full("values").copy_(values)
        if self.how.activation == "sigmoid":
            self.p = torch.sigmoid(values, out=self.full("p"))
            if self.how.logs:
                self.log_p, self.log_q = logsigmoid(values), logsigmoid(values.neg_())
            return
        self.p = values
        tiny = torch.finfo(values.dtype).tiny
        if self.how.logs:
            self.log_p = values.clamp_min(tiny).log_()
        if self.how.logs and self.how.binary:
            self.log_q = (1 - values).clamp_min_(tiny).log_()


def power_(x: Tensor, gamma: float) -> Tensor:
    """x^gamma in place, for probabilities, which rounding may have left a little below 0."""
    return x.mul_(x) if gamma == 2 else x.clamp_min_(0).pow_(gamma)
