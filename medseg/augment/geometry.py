"""Rotation, scaling and flips of a batch, image, label and mask as one. Drawn apart from its application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medseg.randomness import generator

__all__ = ["GeometryAugment", "apply_geometry"]


class _Warped(NamedTuple):
    image: Tensor
    label: Tensor
    mask: Tensor


@dataclass(frozen=True)
class GeometryAugment:
    """How far a patch may be turned.

    Attributes:
        rotation: largest angle about each axis, in degrees.
        scale: smallest and largest zoom factor, the same along all axes.
        flip_axes: spatial axes (0, 1, 2) that are mirrored half of the time; none where left and right matter.
        share: the share of samples that are rotated and scaled; each of the two is drawn by itself.
    """

    rotation: float = 20.0
    scale: tuple[float, float] = (0.8, 1.25)
    flip_axes: tuple[int, ...] = ()
    share: float = 0.6

    def draw(self, seed: int, step: int, slots: Sequence[int], spacing: Sequence[float], purpose: str) -> Tensor:
        """Matrices (B, 3, 3) from output to input positions, in mm around the patch's centre over `spacing`: one for
        each slot, its place in the step's batch."""
        matrices = [self._matrix(generator(seed, step, i, f"{purpose} geometry"), spacing) for i in slots]
        return torch.from_numpy(np.stack(matrices)).float()

    def _matrix(self, random: np.random.Generator, spacing: Sequence[float]) -> np.ndarray:
        angles = np.deg2rad(random.uniform(-self.rotation, self.rotation, 3)) * (random.random() < self.share)
        logs = np.log(self.scale)
        zoom = np.exp(random.uniform(logs[0], logs[1])) if random.random() < self.share else 1.0
        matrix = np.eye(3) / zoom
        for axis, angle in enumerate(angles):
            a, b = [i for i in range(3) if i != axis]
            turn = np.eye(3)
            turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
            matrix = matrix @ turn
        for axis in self.flip_axes:
            if random.random() < 0.5:
                matrix[:, axis] *= -1
        mm = np.diag(np.asarray(spacing, float))
        return np.linalg.inv(mm) @ matrix @ mm  # voxels in, voxels out; the turn itself is in mm


def apply_geometry(image: Tensor, label: Tensor, mask: Tensor, matrices: Tensor) -> _Warped:
    """Image (B, C, D, H, W) linearly, label and mask (B, 1, D, H, W) by the nearest voxel, through `matrices` (B, 3, 3)
    in voxels. Where a position falls outside the patch all three continue their edge, and the mask is False there
    unless background (0) continues."""
    shape = torch.tensor(image.shape[2:], dtype=torch.float32)
    # affine_grid works in [-1, 1] with the last axis first
    half = shape / 2
    normalised = (matrices * half[None, None, :] / half[None, :, None]).flip(1).flip(2)
    theta = torch.cat([normalised, torch.zeros(len(image), 3, 1)], dim=2).to(image.device)
    grid = F.affine_grid(theta, [len(image), 1, *image.shape[2:]], align_corners=False)
    moved = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    both = torch.cat([label.to(image.dtype), mask.to(image.dtype)], dim=1)
    both = F.grid_sample(both, grid, mode="nearest", padding_mode="border", align_corners=False)
    inside = (grid.abs() <= 1).all(-1)[:, None]
    known = (both[:, 1:] > 0.5) & (inside | (both[:, :1] == 0))
    return _Warped(moved, both[:, :1].to(label.dtype), known)
