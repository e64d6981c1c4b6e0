"""3-D copy-paste: one random box swapped between two images, their labels and their masks alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medseg.randomness import generator

__all__ = ["BoxMix", "mix", "unmix"]


@dataclass(frozen=True)
class BoxMix:
    """How large the box is.

    Attributes:
        side: smallest and largest length of a box's side as a share of the patch's, drawn per axis; (2/3, 2/3) is
            the bidirectional form (Bai et al. 2023), (1/6, 1/3) a small piece.
    """

    side: tuple[float, float] = (0.4, 0.8)

    def __post_init__(self) -> None:
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise ValueError(f"side is two shares of the patch from above 0 to 1, the smaller first, found {self.side}")

    def draw(self, seed: int, step: int, slots: Sequence[int], shape: Sequence[int], purpose: str) -> Tensor:
        """Boxes (B, 1, D, H, W) bool, one for each slot, a pure function of (seed, step, slot, purpose)."""
        boxes = torch.zeros(len(slots), 1, *shape, dtype=torch.bool)
        for i, slot in enumerate(slots):
            random = generator(seed, step, slot, f"{purpose} box")
            sides = [max(1, round(n * share)) for n, share in zip(shape, random.uniform(*self.side, 3), strict=True)]
            starts = [int(random.integers(0, n - side, endpoint=True)) for n, side in zip(shape, sides, strict=True)]
            place = tuple(slice(a, a + side) for a, side in zip(starts, sides, strict=True))
            boxes[i, 0][place] = True
        return boxes


def mix(inside: Tensor, outside: Tensor, box: Tensor) -> Tensor:
    """`inside` where `box` (B, 1, D, H, W) is True, `outside` elsewhere; tensors (B, ..., D, H, W) of one shape."""
    return torch.where(box, inside, outside)


def unmix(one: Tensor, other: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
    """The two that were mixed, from `one` = mix(x, y, box) and `other` = mix(y, x, box): x and y."""
    return torch.where(box, one, other), torch.where(box, other, one)
