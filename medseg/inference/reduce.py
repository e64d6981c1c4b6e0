"""From blended values to what is kept of a volume: labels, and where asked for probabilities and uncertainty."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.inference.head import Head
from medseg.inference.resample import Rows
from medseg.plan import Plan

__all__ = ["PROBABILITY_STEP", "Reduced", "reduce_rows"]

PROBABILITY_STEP = 1 / 65535
"""Probabilities are kept as uint16 in these steps: half the memory of float32, and far finer than a network is sure."""


@dataclass(frozen=True)
class Reduced:
    """What was kept of a volume, on its own grid with its axes in the plan's order.

    Attributes:
        labels: label values (X, Y, Z), uint8 where they fit, else int16.
        confidence: by label value found, the mean probability of the voxels that have it.
        probabilities: uint16 (K, X, Y, Z) in steps of `PROBABILITY_STEP`, one a class or region.
        uncertainty: float32 (X, Y, Z) in [0, 1], the entropy of the probabilities over that of a guess; of
            regions, of the least certain one.
    """

    labels: NDArray[np.uint8 | np.int16]
    confidence: dict[int, float]
    probabilities: NDArray[np.uint16] | None
    uncertainty: NDArray[np.float32] | None


@torch.no_grad()
def reduce_rows(
    rows: Iterable[Rows],
    shape: tuple[int, int, int],
    plan: Plan,
    head: Head | None = None,
    probabilities: NDArray[np.uint16] | None = None,
    uncertainty: bool = False,
    device: torch.device | str = "cpu",
) -> Reduced:
    """Classes by arg-max (of equal ones the first), or regions painted one over the other where p > 0.5; background
    where no window was.

    Args:
        rows: all rows of a volume.
        shape: of the volume.
        plan: classes or regions.
        head: from values to logits; None where values are logits.
        probabilities: filled with them, (K, X, Y, Z); may lie on disk. None leaves them out.
        uncertainty: whether it is wanted.
        device: where the rows are.
    """
    values = [0, *(r.painted for r in plan.regions)] if plan.regions else list(plan.label_values)
    kind = torch.uint8 if max(values) < 2**8 else torch.int16
    table = torch.tensor(values, dtype=kind, device=device)
    labels = torch.zeros(shape, dtype=kind, device=device)
    entropy = torch.zeros(shape if uncertainty else (0, 0, 0), device=device)
    sums = torch.zeros(len(values), dtype=torch.float64, device=device)
    counts = torch.zeros_like(sums)
    for part in rows:
        logits = head(part.values) if head else part.values
        found, chance = _painted(logits) if plan.regions else _best(logits)
        if part.covered is not None:
            found = torch.where(part.covered, found, 0)
        inside = found > 0
        indices = found[inside]
        sums.index_add_(0, indices, chance(inside).double())
        counts += torch.bincount(indices, minlength=len(values))
        where = (part.plane, slice(part.first, part.first + len(found) // part.length))
        _view(labels, part.axis)[where] = table[found].reshape(-1, part.length)
        if uncertainty or probabilities is not None:
            p = _probabilities(logits, part.covered, regions=bool(plan.regions))
            if uncertainty:
                _view(entropy, part.axis)[where] = _entropy(p, bool(plan.regions)).reshape(-1, part.length)
            if probabilities is not None:
                steps = (p / PROBABILITY_STEP).round_().to(torch.int32).cpu().numpy().astype(np.uint16)
                np.moveaxis(probabilities, part.axis + 1, 1)[(slice(None), *where)] = steps.reshape(
                    len(steps), -1, part.length
                )
    confidence: dict[int, tuple[float, float]] = {}  # regions may be painted in one value
    for value, total, count in zip(values, sums.tolist(), counts.tolist(), strict=True):
        if count:
            had = confidence.get(value, (0.0, 0.0))
            confidence[value] = had[0] + total, had[1] + count
    return Reduced(
        labels.cpu().numpy(),
        {value: total / count for value, (total, count) in sorted(confidence.items())},
        probabilities,
        entropy.cpu().numpy() if uncertainty else None,
    )


def _view(volume: Tensor, axis: int) -> Tensor:
    return volume.movedim(axis, 0)


class _Chance:
    """The probability of what was found, at the voxels of a mask: computed for the few that are foreground."""

    def __init__(self, logits: Tensor, top: Tensor, softmax: bool) -> None:
        self.logits, self.top, self.softmax = logits, top, softmax

    def __call__(self, mask: Tensor) -> Tensor:
        top = self.top[mask]
        return (top - self.logits[:, mask].logsumexp(0)).exp() if self.softmax else top.sigmoid()


def _best(logits: Tensor) -> tuple[Tensor, _Chance]:
    top, index = logits.max(0)
    return index, _Chance(logits, top, softmax=True)


def _painted(logits: Tensor) -> tuple[Tensor, _Chance]:
    """0 for none, i + 1 for region i; a later region covers an earlier one."""
    found = torch.zeros(logits.shape[1], dtype=torch.long, device=logits.device)
    top = torch.zeros(logits.shape[1], device=logits.device)
    for i, region in enumerate(logits):
        inside = region > 0
        found = torch.where(inside, i + 1, found)
        top = torch.where(inside, region, top)
    return found, _Chance(logits, top, softmax=False)


def _probabilities(logits: Tensor, covered: Tensor | None, regions: bool) -> Tensor:
    p = logits.sigmoid() if regions else logits.softmax(0)
    if covered is not None:
        p = torch.where(covered, p, 0)
        if not regions:
            p[0] = torch.where(covered, p[0], 1)
    return p


def _entropy(p: Tensor, regions: bool) -> Tensor:
    if regions:
        q = 1 - p
        return (torch.special.entr(p) + torch.special.entr(q)).amax(0) / math.log(2)
    return torch.special.entr(p).sum(0) / math.log(len(p))
