"""One composite for samples with hard targets, another for samples with soft ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.losses.checks import plain
from medseg.losses.compound import CompoundLoss
from medseg.losses.gradient import GradientLoss
from medseg.losses.laplacian_pyramid import LaplacianPyramidLoss
from medseg.losses.region_l1 import RegionL1Loss
from medseg.losses.terms import LossTerms, loss_terms

__all__ = ["SampleRoutedLoss", "hard_samples"]


def hard_samples(target: Tensor, mask: Tensor | None = None) -> list[bool]:
    """Whether each sample's target is hard: index labels, or probabilities that are all 0 or 1 where kept.

    Reads the values, and so waits for the device.
    """
    target = plain(target)
    if not target.is_floating_point():
        return [True] * target.shape[0]
    soft = (target != 0) & (target != 1)
    if mask is not None:
        soft = soft & (plain(mask) > 0)
    return (~soft.flatten(1).any(1)).tolist()


class SampleRoutedLoss(nn.Module):
    """Each sample goes to the composite for its kind of target: hard labels or soft ones.

    Formula: (B_hard hard(its samples) + B_soft soft(its samples)) / B

    Errors: Hard labels are trusted away from their boundary only, soft ones also in the boundary's fine structure.

    Choose it: For training sets that mix binary masks with soft labels (partial volumes, several raters), as they come
        from the files: what resampling or a rotation interpolated between 0 and 1 counts as soft.

    Args:
        hard: For targets of 0 and 1 only. Default: smooth L1 outside the band around the boundary.
        soft: For all others. Default: L1 inside the band, L1 outside, Laplacian pyramid and gradient.
    """

    def __init__(self, hard: nn.Module | None = None, soft: nn.Module | None = None) -> None:
        super().__init__()
        self.hard = hard or CompoundLoss({"outside": RegionL1Loss(region="band", invert=True, smooth=True)})
        self.soft = soft or CompoundLoss(
            {
                "inside": RegionL1Loss(region="band"),
                "outside": RegionL1Loss(region="band", invert=True),
                "laplacian": LaplacianPyramidLoss(),
                "gradient": GradientLoss(),
            }
        )

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        step: float = 0,
        hard: Sequence[bool] | None = None,
    ) -> LossTerms:
        """The total, and terms named "hard.…" and "soft.…" averaged over the samples of their kind.

        Each group is one pass. The terms of a kind that no sample is of are left out. `hard` says which samples are,
        where `target` is on a coarser grid, on which averages hide it; None: see `hard_samples`.
        """
        hard = hard_samples(target, mask) if hard is None else hard
        totals: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        for name, loss, kind in (("hard", self.hard, True), ("soft", self.soft, False)):
            chosen = [sample for sample, is_hard in enumerate(hard) if is_hard is kind]
            if not chosen:
                continue
            index = torch.tensor(chosen, device=logits.device)
            part = None if mask is None else plain(mask)[index]
            found = loss_terms(loss, plain(logits)[index], plain(target)[index], part, step)
            totals.append(found.total * (len(chosen) / len(hard)))
            terms |= {f"{name}.{term}": value for term, value in found.terms.items()}
        return LossTerms(torch.stack(totals).sum(), terms)
