"""The plan's sliding window as one object that a bundle config names once and every engine uses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medseg.inference.sliding_window import sliding_window
from medseg.plan import Plan

__all__ = ["PlannedInferer"]


class PlannedInferer:
    """Applies a network to a whole volume as the plan says.

    Args:
        plan: patch size, overlap and windows at a time.
        device: where the network is; None is where the volume is.
    """

    def __init__(self, plan: Plan, device: torch.device | str | None = None) -> None:
        self.plan = plan
        self.device = device

    def __call__(self, inputs: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (K, X, Y, Z) float32 of a prepared volume (C, X, Y, Z)."""
        settings = self.plan.inference
        return sliding_window(
            inputs, network, self.plan.patch_size, settings.overlap, settings.batch, device=self.device
        )
