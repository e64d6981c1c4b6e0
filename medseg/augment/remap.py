"""The twin of an image with the same geometry and other grey values: a random curve per sample and channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medseg.randomness import generator

__all__ = ["IntensityRemap", "apply_remap"]


@dataclass(frozen=True)
class IntensityRemap:
    """How far the curve may leave the identity.

    Attributes:
        strength: largest weight of the random curve against the identity, 0 (off) to 1; drawn per sample and channel.
        points: control points of the curve over the image's range; between them it is linear. The random curve's
            values there are uniform, so that it need not be monotone.
    """

    strength: float = 0.5
    points: int = 6

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1 or self.points < 2:
            raise ValueError(f"strength is from 0 to 1 and points are 2 or more, found {self}")

    def draw(self, seed: int, step: int, slots: Sequence[int], channels: int, purpose: str) -> Tensor:
        """Curves (B, C, points) from [0, 1] to [0, 1], a pure function of (seed, step, slot, purpose)."""
        return torch.from_numpy(
            np.stack([self._curves(generator(seed, step, i, f"{purpose} remap"), channels) for i in slots])
        ).float()

    def _curves(self, random: np.random.Generator, channels: int) -> np.ndarray:
        identity = np.linspace(0, 1, self.points)
        weight = random.uniform(0, self.strength, (channels, 1))
        return (1 - weight) * identity + weight * random.random((channels, self.points))


def apply_remap(image: Tensor, curves: Tensor) -> Tensor:
    """Image (B, C, D, H, W) through `curves` (B, C, points) over each sample's and channel's own range, then brought
    back to the mean and standard deviation that it had. A constant image stays as it is."""
    flat = image.flatten(2)
    low, high = flat.aminmax(dim=2, keepdim=True)
    span = (high - low).clamp_min(1e-6)
    place = (flat - low) / span * (curves.shape[2] - 1)
    index = place.floor().clamp_(0, curves.shape[2] - 2)
    share = place - index
    curves = curves.to(image.device, image.dtype)
    below, above = (curves.gather(2, index.long() + i) for i in (0, 1))
    remapped = below + share * (above - below)
    mean, std = flat.mean(2, keepdim=True), flat.std(2, keepdim=True, correction=0)
    own, spread = remapped.mean(2, keepdim=True), remapped.std(2, keepdim=True, correction=0).clamp_min(1e-6)
    return torch.where(high > low, (remapped - own) / spread * std + mean, flat).view_as(image)
