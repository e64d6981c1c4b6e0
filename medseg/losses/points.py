"""Random points in a volume, and what lies there."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.losses.fields import wide

__all__ = ["Corners", "draw_points"]


def draw_points(count: int, dims: int, seed: int, step: float) -> Tensor:
    """(count, dims) uniform points in [0, 1), a function of seed and step alone. float32, on the CPU. Steps may be
    fractions: those that differ by a thousandth draw apart."""
    generator = torch.Generator().manual_seed((seed * 1_000_000_007 + round(1000 * step)) % 2**63)
    return torch.rand(count, dims, generator=generator)


class Corners:
    """The voxels around points, for linear interpolation between voxel centres and for looking labels up.

    What `torch.nn.functional.grid_sample` gives at 2 c - 1 with border padding and align_corners=False, at any
    dtype of the volume, and with the labels of the corners at hand.

    Args:
        points: (P, dims), from 0 to 1 over the volume's extent, in the order of the volume's axes.
        size: The volume's extent in voxels.
    """

    def __init__(self, points: Tensor, size: torch.Size) -> None:
        index = torch.zeros(1, len(points), dtype=torch.long, device=points.device)
        weight = torch.ones_like(index, dtype=points.dtype)
        for axis, length in enumerate(size):
            place = (points[:, axis] * length - 0.5).clamp(0, length - 1)
            low = place.floor()
            two = torch.stack([low, (low + 1).clamp_max(length - 1)]).long()
            share = torch.stack([1 - (place - low), place - low])
            index = (index.unsqueeze(1) * length + two).flatten(0, 1)
            weight = (weight.unsqueeze(1) * share).flatten(0, 1)
        self.index = index  # (2^dims, P) into the flattened volume
        self.weight = weight

    def look_up(self, volume: Tensor) -> Tensor:
        """(B, C, 2^dims, P): the values of `volume` (B, C, ...) at the corners."""
        index = self.index.flatten().expand(*volume.shape[:2], -1)
        return volume.flatten(2).gather(2, index).unflatten(2, self.index.shape)

    def interpolate(self, volume: Tensor) -> Tensor:
        """(B, C, P): `volume` at the points, in float32 at least."""
        return (wide(self.look_up(volume)) * self.weight).sum(2)

    def interpolate_labels(self, labels: Tensor, classes: int) -> Tensor:
        """(B, K, P): the index labels (B, 1, ...) at the points, interpolated as `classes` probabilities."""
        corners = self.look_up(labels).to(self.weight.dtype)
        index = torch.arange(classes, device=labels.device).view(1, -1, 1, 1)
        # in place the comparison keeps the floating dtype, which is faster than a bool tensor
        return corners.repeat(1, classes, 1, 1).eq_(index).mul_(self.weight).sum(2)
