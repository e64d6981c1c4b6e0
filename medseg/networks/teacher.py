"""The teacher: an exponential moving average of a student's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

__all__ = ["Teacher", "ema_decay"]


def ema_decay(step: int, steps: int, half_life: float) -> float:
    """The decay of step `step` (from 0) of `steps`: min(1 - 1 / (step + 1), d), where d halves an old weight's
    influence in `half_life` of the run. A fixed 0.99 suits 15,000 steps and lags behind at 800."""
    lasting = 0.5 ** (1 / max(half_life * steps, 1e-6))
    return min(1 - 1 / (step + 1), lasting)


class Teacher(nn.Module):
    """A copy of `student` that shares no storage with it, takes no gradient and is always in evaluation mode.

    Args:
        student: the network that is followed.
        half_life: share of the run in which an old weight's influence halves.
    """

    def __init__(self, student: nn.Module, half_life: float = 0.02) -> None:
        super().__init__()
        self.network = copy.deepcopy(student).requires_grad_(False).eval()
        self.half_life = half_life

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, D, H, W) of images (B, C, D, H, W)."""
        return self.network(image)

    def train(self, mode: bool = True) -> Teacher:  # noqa: ARG002
        """Stays in evaluation mode, whatever the mode of what holds it."""
        return super().train(False)

    @torch.no_grad()
    def update(self, student: nn.Module, step: int, steps: int) -> None:
        """Moves the average towards `student` after step `step` of `steps`; buffers are copied."""
        decay = ema_decay(step, steps, self.half_life)
        own: list[torch.Tensor] = list(self.network.parameters())
        torch._foreach_lerp_(own, [p.detach() for p in student.parameters()], 1 - decay)
        for mine, theirs in zip(self.network.buffers(), student.buffers(), strict=True):
            mine.copy_(theirs)
