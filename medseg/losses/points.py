"""Random points in a volume, and what lies there."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

__all__ = ["Corners", "draw_points"]


def draw_points(count: int, dims: int, seed: int, step: int) -> Tensor:
    """(count, dims) uniform points in [0, 1), a function of seed and step alone. float32, on the CPU."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
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
        last = torch.tensor(size, device=points.device) - 1
        places = (points * (last + 1) - 0.5).clamp_min(0).minimum(last)
        low = places.floor().long()
        share = places - low
        offsets = torch.tensor(list(product((0, 1), repeat=len(size))), device=points.device).unsqueeze(1)
        voxels = (low + offsets).minimum(last)
        strides = torch.tensor([size[axis + 1 :].numel() for axis in range(len(size))], device=points.device)
        self.index = (voxels * strides).sum(2)  # (2^dims, P) into the flattened volume
        self.weight = torch.where(offsets == 1, share, 1 - share).prod(2)

    def look_up(self, volume: Tensor) -> Tensor:
        """(B, C, 2^dims, P): the values of `volume` (B, C, ...) at the corners."""
        return volume.flatten(2).index_select(2, self.index.flatten()).unflatten(2, self.index.shape)

    def interpolate(self, volume: Tensor) -> Tensor:
        """(B, C, P): `volume` at the points, in float32 at least."""
        values = self.look_up(volume)
        return (values * self.weight.to(torch.promote_types(values.dtype, torch.float32))).sum(2)
